"""One request on its way through the gateway: the sink that an exchange drives, and the settling of accounts.

Invariant: `settle` runs exactly once for each request whose head was accepted, whatever its end; there the limiter's
place is freed, the figures are counted and the record is handed over.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from open_autoglm import clock
from open_autoglm.backends.backend import Backend, Handle, ModelCall
from open_autoglm.backends.continuing import may_continue
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.snapshot import NAME_SAFE, Route, Snapshot
from open_autoglm.security.keys import Principal
from open_autoglm.transport.http_request import ServerRequest

if TYPE_CHECKING:
    from open_autoglm.gateway.gateway import Gateway

_log = logging.getLogger(__name__)
_TOKEN_BYTES: Final = 4
"""Of a prompt, about; for estimates."""
_ITS_OWN_PACE: Final = (429, 499)
"""Beyond its limits, and left before the end: such requests say nothing against what a key asks for."""
_TIMEOUT_MS_MAX: Final = 86_400_000
_ANSWER_TOKENS: Final = 1024
"""What an answer is taken to have when the client sets no limit."""


class Running(ModelCall):
    """What the gateway keeps time for while it has an exchange: a client's call, or one of the server's own."""

    __slots__ = ()

    def crashed(self, error: BaseException) -> None:
        """A defect of ours: end it, and tell nothing of the cause to anybody outside."""
        raise NotImplementedError

    def abort(self) -> None:
        """The server stops: end it at once."""
        raise NotImplementedError


class Call(Running):
    """See the module.

    Attributes:
        request: the client's, on its connection.
        held: whether it waits in its key's line.
        priority: number of its class.
        snapshot: the configuration that serves it.
        route, principal: found when the head came.
        record: what happened.
    """

    __slots__ = (
        "_gateway",
        "_running",
        "_settled",
        "_watching",
        "held",
        "principal",
        "priority",
        "ready_since_s",
        "request",
        "route",
        "snapshot",
    )

    def __init__(
        self, gateway: Gateway, request: ServerRequest, route: Route, snapshot: Snapshot, record: RequestRecord
    ) -> None:
        self._gateway = gateway
        self.request = request
        self.route = route
        self.snapshot = snapshot
        self.record = record
        self.principal: Principal = snapshot.anonymous
        self.body = b""
        self._running: Attempt | None = None
        self._settled = False
        self.ready_since_s = 0.0
        self._watching = False
        self.held = False
        self.priority = 2

    # The sink that the exchange drives.

    def open(self, attempt: Attempt) -> None:
        target = attempt.target
        assert target is not None
        self._running = attempt
        if not self._watching:
            self._watching = True
            self._gateway.watch(self)
        backend: Backend = target.extra  # type: ignore[assignment]
        try:
            backend.open(attempt, self)
        except Exception as error:  # it may be a line's turn or another answer's end that brought us here
            _log.exception("request %s failed", self.record.request_id)
            self.crashed(error)
            return
        if self.ready_since_s == math.inf:
            self.pause()

    def finish(self, attempt: Attempt) -> bytes:
        handle: Handle = attempt.handle  # type: ignore[assignment]
        return handle.finish()

    def continuation(self, attempt: Attempt) -> bool:
        return may_continue(attempt, self)

    def estimate(self) -> tuple[int, int]:
        return self.view.prompt_bytes // _TOKEN_BYTES, self.view.max_tokens_asked or _ANSWER_TOKENS

    def cancel(self, attempt: Attempt) -> None:
        handle: Handle | None = attempt.handle  # type: ignore[assignment]
        attempt.handle = None
        if handle is not None:
            handle.cancel()

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        request = self.request
        if self._running is not attempt:
            # Of two attempts the older one was faster: from now on it is the one that waits for a slow reader.
            self._running = attempt
            if self.ready_since_s == math.inf:
                self.pause()
        self.record.status = 200
        self.record.bytes_out = len(payload)
        request.connection.start(request, 200, self._headers(attempt), "text/event-stream", payload)

    def write(self, payload: bytes) -> None:
        self.record.bytes_out += len(payload)
        self.request.connection.write(self.request, payload)

    def end(self, attempt: Attempt, payload: bytes) -> None:
        record = self.record
        record.bytes_out += len(payload)
        record.served_by = attempt.group
        self.request.connection.end(self.request, payload)
        self.settle(200, "", "", attempt.ended_s)

    def whole(self, attempt: Attempt, body: bytes) -> None:
        request = self.request
        record = self.record
        record.served_by = attempt.group
        record.bytes_out = len(body)
        record.first_s = attempt.first_s
        request.connection.respond(request, 200, self._headers(attempt), body)
        self.settle(200, "", "", attempt.ended_s)

    def fail(self, error: AutoGLMError) -> None:
        self.refuse(error)

    def cut(self, error: AutoGLMError) -> None:
        payload = self.face.error_event(error, self.request_id, self.record.delivered_chars, self.body)
        self.request.connection.cut(self.request, payload)
        self.settle(200, error.code, error.message)

    # The gateway calls these.

    def refuse(self, error: AutoGLMError) -> None:
        """Answer with an error in the route's own form."""
        self._gateway.spread(error)
        request = self.request
        face = self.route.face or self._gateway.plain_face
        body = face.error_body(error, self.record.request_id, request.body or self.body)
        status = error.http_status
        self.record.bytes_out = len(body)
        allow = self.route.method.decode() if error.code == "method_not_allowed" else ""
        headers = self._limit_headers() + self._gateway.error_headers(error, self.record, allow)
        request.connection.respond(request, status, headers, body)
        self.settle(status, error.code, error.message)

    def reply(self, body: bytes) -> None:
        """Answer what needs no model."""
        self.record.bytes_out = len(body)
        self.request.connection.respond(
            self.request, 200, f"x-request-id: {self.record.request_id}\r\n{self._limit_headers()}", body
        )
        self.settle(200, "", "")

    def gone(self) -> None:
        """The client has left."""
        if self._settled:
            return
        exchange = getattr(self, "exchange", None)
        if exchange is not None:
            # It may stand in a line, without an attempt that would have us watched.
            exchange.client_gone(clock.monotonic())
        self.settle(499, "client_closed", "")

    def pause(self) -> None:
        """The client reads slowly."""
        self.ready_since_s = math.inf
        handle: Handle | None = self._running.handle if self._running is not None else None  # type: ignore[assignment]
        if handle is not None:
            handle.pause()

    def resume(self) -> None:
        """The client reads again."""
        self.ready_since_s = clock.monotonic()
        handle: Handle | None = self._running.handle if self._running is not None else None  # type: ignore[assignment]
        if handle is not None:
            handle.resume()

    def settle(self, status: int, code: str, message: str, now_s: float = 0.0) -> None:
        """Close the books; see the module."""
        if self._settled:
            return
        self._settled = True
        record = self.record
        record.ended_s = now_s or clock.monotonic()
        record.status = status
        if code:
            record.code = code
            record.message = message
        principal = self.principal
        principal.requests += 1
        if 400 <= status < 500 and status not in _ITS_OWN_PACE:
            principal.refused += 1
        if principal.limiter is not None and record.admitted_s:
            principal.limiter.release()
        if self.held and principal.line is not None:
            self.held = False
            principal.line.discard(self)
        if self._watching:
            self._gateway.unwatch(self)
            if self.exchange.state != "over":
                self.exchange.client_gone(record.ended_s)
            self.exchange.release()
        elif (exchange := getattr(self, "exchange", None)) is not None and exchange.state == "over":
            # It never had an attempt: turned away, or out of a line.
            exchange.release()
        self.request.call = None
        attempt = self._running
        if attempt is not None:
            attempt.handle = self._running = None
        self._gateway.account(record)

    def patience_s(self, otherwise_s: float) -> float:
        """How much time the client's header gives it, in seconds, or `otherwise_s`."""
        value = self.request.headers.get("x-request-timeout-ms")
        return otherwise_s if value is None else timeout_s(value)

    def crashed(self, error: BaseException) -> None:
        """A defect of ours: the client hears that, and nothing of its cause."""
        if self._settled:
            return
        if self.request.answered:
            self.request.connection.abort()
            self.gone()
        else:
            self.refuse(ServerError("internal_error", f"the server failed on this request: {type(error).__name__}"))

    def abort(self) -> None:
        """See `Running.abort`."""
        self.request.connection.abort()

    def header(self, name: str) -> bytes | None:
        """See `ModelCall.header`."""
        return self.request.headers.get(name)

    # Inside.

    def _headers(self, attempt: Attempt) -> str:
        served = self.snapshot.model_headers.get(attempt.group) or quote(self.model, safe=NAME_SAFE)
        record = self.record
        if record.queue_position or record.version:
            served = f"{served}\r\n{_rare_headers(record)}"
        principal = self.principal
        limit, limiter = principal.limit, principal.limiter
        if limiter is None or not limit:
            return (
                f"x-request-id: {record.request_id}\r\nx-mcp-model: {served}\r\n"
                f"x-mcp-attempts: {len(record.attempts)}\r\n"
            )
        left = limiter.remaining(record.received_s)
        return (
            f"x-request-id: {record.request_id}\r\nx-mcp-model: {served}\r\nx-mcp-attempts: {len(record.attempts)}\r\n"
            f"x-ratelimit-limit-requests: {limit}\r\n"
            f"x-ratelimit-remaining-requests: {left if left < limit else limit}\r\n"
        )

    def _limit_headers(self) -> str:
        principal = self.principal
        limit, limiter = principal.limit, principal.limiter
        if limiter is None or not limit or not self.record.key:
            return ""
        return (
            f"x-ratelimit-limit-requests: {limit}\r\n"
            f"x-ratelimit-remaining-requests: {min(limit, limiter.remaining(self.record.received_s))}\r\n"
        )


def _rare_headers(record: RequestRecord) -> str:
    """Header lines that most answers do without, the last one without its end."""
    lines = []
    if record.queue_position:
        lines.append(f"x-mcp-queue-position: {record.queue_position}")
    if record.version:
        lines.append(f"x-mcp-model-version: {quote(record.version, safe=NAME_SAFE)}")
    return "\r\n".join(lines)


def timeout_s(value: bytes) -> float:
    """Read the header `x-request-timeout-ms`.

    Raises:
        RequestError: it is no number of milliseconds, or beyond a day.
    """
    text = value.decode("latin-1")
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= _TIMEOUT_MS_MAX:
        raise RequestError(
            "invalid_request", f"x-request-timeout-ms: {text[:40]!r} is not a number of milliseconds above 0"
        )
    return int(text) / 1000
