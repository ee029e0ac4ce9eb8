"""Models behind HTTP: the openai and generate dialects over pooled connections.

Invariant: what the upstream sends is believed only as far as its relay could read it. A 200 that is no answer, a
stream that ends without a finish reason, an answer over its limit: each is a failed attempt, never a short success.
"""

from __future__ import annotations

import functools
import math

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall, unsent
from open_autoglm.backends.continuing import open_continuable
from open_autoglm.dialects.face import passes
from open_autoglm.dialects.openai_unary import OpenAIUnaryRelay
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.relay import Relay, open_relay, open_stream_relay
from open_autoglm.dialects.splice import splice_request
from open_autoglm.dialects.upstream import UpstreamDialect
from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.settings import AnswerLimits
from open_autoglm.resilience.backoff import parse_retry_after
from open_autoglm.secret import Secret
from open_autoglm.transport.http_answer import Headers, Loss
from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.upstream_connection import Transfer

FACE_NAMES = ("chat", "completions", "embeddings", "mcp")
_SERVER_ERROR = 500
_ERROR_BYTES_MAX = 64 * 1024
"""Of an upstream's error body; the rest is not worth reading."""
_TOKEN_CHARS_MAX = 32
"""A token has four characters or so; a text of which each has more than this exceeds the limit of its tokens."""
_FIRST_CHARS = 1024
"""A few tokens may be much longer: runs of white space, names."""


class HttpBackend:
    """One HTTP endpoint.

    Args:
        pool: connections to its origin.
        dialect: what it speaks.
        host: the Host header.
        base_path: of the endpoint's URL, without a slash at the end.
        token: sent as a bearer token.
        limits: of its answers.
        stream_usage: ask for the usage of streams when the client did not.
    """

    def __init__(
        self,
        pool: HttpPool,
        dialect: UpstreamDialect,
        *,
        host: str,
        base_path: str,
        token: Secret | None,
        limits: AnswerLimits,
        stream_usage: bool,
    ) -> None:
        self.dialect = dialect
        self.dialect_name: str = dialect.name
        self.pool = pool
        self.limits = limits
        self.stream_usage = stream_usage
        self._same = frozenset(name for name in FACE_NAMES if passes(name, dialect.name))
        authorization = f"authorization: Bearer {token.reveal()}\r\n" if token is not None else ""
        self._heads = {
            kind: (
                f"POST {base_path}{dialect.path(kind)} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                f"accept-encoding: identity\r\n{authorization}"
            )
            for kind in ("chat", "completion", "embedding")
        }

        # The list of models costs no tokens, and a process that is frozen gives none.
        look = "/models" if dialect.name == "openai" else "/"
        self._look = (
            f"GET {base_path}{look} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity\r\n{authorization}"
            "connection: close\r\n\r\n"
        ).encode("latin-1")

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        """Send the request; one that the dialect cannot express fails as `unsupported`."""
        target = attempt.target
        assert target is not None
        face, view = call.face, call.view
        model = target.upstream_model or call.model
        try:
            relay: Relay
            if view.stream and call.delivered is not None:
                relay, body = open_continuable(attempt, call, call.delivered, self.dialect, self.stream_usage)
            elif face.name in self._same:
                body = call.body
                if model != view.model or view.stream:
                    body = splice_request(body, view, model, self.stream_usage)
                # The rest of what a relay is told concerns streams alone.
                relay = open_stream_relay(face, view) if view.stream else OpenAIUnaryRelay(face.kind)
            else:
                request = face.infer(call.body, view)
                body = self.dialect.encode(request, model, want_usage=self.stream_usage)
                relay = open_relay(
                    face, self.dialect, view, call.request_id, call.model, call.created_s, request=request
                )
        except AutoGLMError as error:
            call.exchange.failed(attempt, unsent(error), error.message, clock.monotonic(), error)
            return
        head = (
            f"{self._heads[face.kind]}content-length: {len(body)}\r\nx-request-id: {call.request_id}\r\n"
            f"x-request-timeout-ms: {int((call.deadline_s - attempt.started_s) * 1000)}\r\n"
            f"traceparent: 00-{call.trace_id}-{_attempt_lines(attempt.number)}\r\n"
        ).encode("latin-1")
        attempt.handle = answer = HttpAnswer(self, attempt, call, relay, head, body)
        self.pool.dispatch(answer)

    @property
    def connections(self) -> int:
        """See `Backend`."""
        return self.pool.open

    async def reachable(self, timeout_s: float) -> bool:
        """See `Backend`. Any answer that is no failure of the server says that somebody is there."""
        status = await self.pool.ask_status(self._look, timeout_s)
        return 0 < status < _SERVER_ERROR

    def sweep(self, now_s: float) -> None:
        """See `Backend`."""
        self.pool.sweep(now_s)

    def close(self) -> None:
        """See `Backend`."""
        self.pool.close()


@functools.lru_cache(maxsize=64)
def _attempt_lines(number: int) -> str:
    """The end of a `traceparent`, whose span is the attempt, and the attempt's number."""
    return f"{number + 1:016x}-01\r\nx-mcp-attempt: {number}\r\n"


def _told(refusal: Refusal, retry_after_s: float | None) -> AutoGLMError | None:
    """What the client is to hear of an upstream's refusal, if anything."""
    code = refusal.code
    if not code:
        if refusal.outcome != "throttled":
            return None
        code = "rate_limit_exceeded"
    return UpstreamError(code, refusal.message, param=refusal.param or None, retry_after_s=retry_after_s)


class HttpAnswer(Transfer):
    """Reads one upstream answer and tells the exchange: the request on its way, its sink and the attempt's handle in
    one, since objects are dear. The transport lets go of the sink when the answer is over."""

    __slots__ = (
        "_attempt",
        "_backend",
        "_call",
        "_content_type",
        "_over",
        "_payload",
        "_relay",
        "_retry_after",
        "_size",
        "_size_max",
        "_status",
        "_stream",
    )

    def __init__(
        self, backend: HttpBackend, attempt: Attempt, call: ModelCall, relay: Relay, head: bytes, body: bytes
    ) -> None:
        # The fields of the transfer are set here and not by its own constructor: this runs for every request.
        self.head = head
        self.body = body
        self.sink = self
        self.connection = None
        self.waits_until_s = 0.0
        self._backend = backend
        self._attempt = attempt
        self._call = call
        self._relay = relay
        self._stream = call.view.stream
        self._payload: bytes | list[bytes] = b""
        self._size = self._size_max = self._status = 0
        self._content_type = ""
        self._retry_after: str | None = None
        self._over = False

    # The attempt's handle.

    def cancel(self) -> None:
        if not self._over:
            self._over = True
            if self._attempt.first_s:
                # What the client never heard is not its answer.
                self._note_usage()
        super().cancel()

    def finish(self) -> bytes:
        self._over = True
        super().cancel()
        payload = self._relay.end()
        self._note_usage()
        return payload

    # The transport's sink.

    def on_sent(self, reused: bool) -> None:
        attempt = self._attempt
        attempt.sent_s = attempt.started_s if reused else clock.monotonic()
        attempt.reused = reused

    def on_head(self, status: int, headers: Headers) -> None:
        attempt = self._attempt
        attempt.status = self._status = status
        attempt.head_s = clock.monotonic()
        self._content_type = headers.get(b"content-type", b"Content-Type")
        if status != 200:
            self._retry_after = headers.get(b"retry-after", b"Retry-After") or None
        if b"Content-Encoding" in headers.raw or b"content-encoding" in headers.raw:
            coding = headers.get(b"content-encoding", b"Content-Encoding")
            if coding != "identity":
                self._fail("malformed", f"an answer in content coding {coding[:20]!r}, which was not asked for")

    def on_data(self, data: bytes) -> None:
        if self._over:
            return
        self._size += len(data)
        if self._status == 200 and self._stream:
            self._relay_stream(data)
        elif self._size <= (self._backend.limits.response_bytes if self._status == 200 else _ERROR_BYTES_MAX):
            payload = self._payload
            if not payload:
                self._payload = data
            elif isinstance(payload, list):
                payload.append(data)
            else:
                self._payload = [payload, data]
        elif self._status == 200:
            self._fail("malformed", f"the answer exceeds {self._backend.limits.response_bytes} bytes")

    def on_end(self) -> None:
        if self._over:
            return
        if self._status != 200:
            self._refuse()
            return
        relay = self._relay
        payload = relay.end() if self._stream else relay.whole(self._whole_body(), self._content_type)
        if relay.failure is not None:
            if payload:
                # The last event was whole, though the answer is not.
                self._call.exchange.content(self._attempt, payload, relay.stage, clock.monotonic())
            self._fail_relay(relay.failure)
            return
        self._over = True
        self._note_usage()
        exchange = self._call.exchange
        if self._stream:
            exchange.ended(self._attempt, payload, clock.monotonic())
        else:
            exchange.whole(self._attempt, payload, clock.monotonic())

    def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
        raw = headers.raw
        if (
            status != 200
            or self._stream
            or b"content-encoding" in raw
            or b"Content-Encoding" in raw
            or len(body) > self._backend.limits.response_bytes
        ):
            self.on_head(status, headers)
            if body:
                self.on_data(body)
            self.on_end()
            return
        if self._over:
            return
        attempt, relay = self._attempt, self._relay
        attempt.status = status
        attempt.head_s = now_s
        payload = relay.whole(body, headers.content_type or headers.get(b"content-type", b"Content-Type"))
        if relay.failure is not None:
            self._fail_relay(relay.failure)
            return
        self._over = True
        self._note_usage()
        self._call.exchange.whole(attempt, payload, now_s)

    def on_lost(self, loss: Loss, detail: str) -> None:
        if self._over:
            return
        if loss == "reset":
            loss = "malformed" if self._attempt.head_s else "connect"
        self._fail(loss, detail)

    # Inside.

    def _relay_stream(self, data: bytes) -> None:
        relay = self._relay
        attempt = self._attempt
        payload = relay.feed(data)
        if payload or attempt.first_s == 0.0:
            self._call.exchange.content(attempt, payload, relay.stage, clock.monotonic())
        if self._over:
            return
        if relay.failure is not None:
            self._fail_relay(relay.failure)
        elif self._size > self._size_max and (detail := self._too_long()):
            # Asked after what came was read: the end of a good answer may be in the same block.
            self._cut(detail)

    def _too_long(self) -> str:
        """Why no more of a stream is taken, or empty; then `_size_max` says when to look again."""
        most = self._backend.limits.stream_bytes
        if self._size > most:
            return f"the stream exceeds {most} bytes"
        view, target = self._call.view, self._attempt.target
        tokens = view.max_tokens_asked or (target.context_window if target is not None else 0)
        self._size_max = most
        if tokens and tokens > 0:
            # A text has no more characters than its stream has bytes.
            chars_max = (tokens * _TOKEN_CHARS_MAX + _FIRST_CHARS) * view.choices
            left = chars_max - self._relay.delivered_chars
            if left < 0:
                return f"the text exceeds what {tokens} tokens can hold"
            self._size_max = min(most, self._size + left)
        return ""

    def _cut(self, detail: str) -> None:
        """The upstream does not end its stream: end it for the client."""
        relay, attempt = self._relay, self._attempt
        if relay.stage < 2:
            self._fail("malformed", detail)
            return
        self._over = True
        super().cancel()
        payload = relay.cut() if relay.stage < 4 else relay.end()
        self._note_usage()
        attempt.detail = detail
        self._call.exchange.ended(attempt, payload, clock.monotonic())

    def _refuse(self) -> None:
        """The upstream answered with an error status: say what kind it is."""
        refusal = self._backend.dialect.classify(self._status, self._content_type, self._whole_body())
        retry_after_s = parse_retry_after(self._retry_after, clock.wall()) if self._retry_after is not None else None
        error = _told(refusal, retry_after_s)
        if self._retry_after is not None and retry_after_s is None:
            # A time that is none means: do not come back.
            retry_after_s = math.inf
        self._fail(refusal.outcome, f"HTTP {self._status}", error, retry_after_s)

    def _fail_relay(self, refusal: Refusal) -> None:
        self._fail(refusal.outcome, refusal.message, _told(refusal, None))

    def _fail(
        self, outcome: str, detail: str, error: AutoGLMError | None = None, retry_after_s: float | None = None
    ) -> None:
        self._over = True
        super().cancel()
        self._note_usage()
        self._call.exchange.failed(
            self._attempt, outcome, detail, clock.monotonic(), error, retry_after_s=retry_after_s
        )

    def _note_usage(self) -> None:
        relay = self._relay
        record = self._call.record
        record.finish_reason = relay.finish_reason
        record.prompt_tokens = relay.prompt_tokens
        record.completion_tokens = relay.completion_tokens
        record.delivered_chars = relay.delivered_chars

    def _whole_body(self) -> bytes:
        payload = self._payload
        return b"".join(payload) if isinstance(payload, list) else payload
