"""One answer of an inference node on its way to an exchange; also the attempt's handle.

Invariant: the exchange hears of each answer's end once; what a node sends after that, or after a cancel, is dropped.
What a node says is believed as far as it can be read: a response without a reason to finish is a failed attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall
from open_autoglm.dialects.canonical import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from open_autoglm.dialects.logprobs import read_scores
from open_autoglm.dialects.refusal import classify
from open_autoglm.dialects.relay import EventRelay
from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.opcodes import REASONING
from open_autoglm.protocol.preambles import read_response

if TYPE_CHECKING:
    from open_autoglm.transport.framed_session import FramedSession


_LOOP = "loop_detected"


class NodeAnswer:
    """See the module.

    Args:
        attempt, call: whose it is.
        codec: of the bodies on the link.

    Attributes:
        link, stream: where it comes from; set by whoever sent the request.
    """

    __slots__ = ("_attempt", "_call", "_codec", "_held", "_over", "_paused", "_relay", "link", "stream")

    def __init__(self, attempt: Attempt, call: ModelCall, codec: Codec) -> None:
        self._attempt = attempt
        self._call = call
        self._codec = codec
        view = call.view
        encoder = call.face.encoder(view, call.request_id, call.model, call.created_s)
        self._relay = EventRelay(encoder, structured=view.structured)
        self._over = False
        self._paused = False
        self._held = 0
        self.link: FramedSession | None = None
        self.stream = 0

    # The attempt's handle.

    def cancel(self) -> None:
        """See `Handle.cancel`."""
        if not self._over:
            self._over = True
            if self._attempt.first_s:
                # What the client never heard is not its answer.
                self._note_usage()
            if self.link is not None:
                self.link.cancel(self.stream)

    def finish(self) -> bytes:
        """See `Handle.finish`."""
        self.cancel()
        return self._relay.finish()

    def pause(self) -> None:
        """A slow reader: the node gets no more credit, so it holds the rest."""
        self._paused = True

    def resume(self) -> None:
        """The reader goes on."""
        self._paused = False
        held, self._held = self._held, 0
        if held and self.link is not None and not self._over:
            self.link.consume(self.stream, held)

    # The link calls these; see `transport.framed_session.StreamHandler`.

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        if self._over:
            return
        now_s = self._heard(200)
        try:
            events = self._read(payload)
        except ProtocolError as error:
            self._fail("malformed", error.message, now_s)
            return
        self._over = True
        attempt, call, relay = self._attempt, self._call, self._relay
        if call.view.stream:
            rest = relay.deliver(events)
            self._note_usage()
            call.exchange.ended(attempt, rest + relay.finish(), now_s)
            return
        body = relay.deliver_whole(events)
        self._note_usage()
        call.exchange.whole(attempt, body, now_s)

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        if self._over:
            return
        now_s = self._heard(200)
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._fail("malformed", "a chunk is not UTF-8", now_s)
            return
        event = ReasoningDelta(text, choice) if flags & REASONING else TextDelta(text, choice)
        relay = self._relay
        self._call.exchange.content(self._attempt, relay.deliver([event]), relay.stage, now_s)
        if self._over or self.link is None:
            return
        if self._paused:
            self._held += len(payload)
        else:
            self.link.consume(self.stream, len(payload))

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        if self._over:
            return
        now_s = self._heard(status)
        fields = _fields(self._codec, payload)
        told = {name: fields[name] for name in ("message", "code", "param") if isinstance(fields.get(name), str)}
        if told.get("code") == _LOOP:
            # Whoever has it from us asks another endpoint in its turn; this one is left alone for a while.
            self._fail("misconfigured", "it asks us in its turn", now_s, UpstreamError(_LOOP, told.get("message", "")))
            return
        refusal = classify(status, msgspec.json.encode({"error": told}))
        retry_after_s = retry_after_ms / 1000 if retry_after_ms else None
        error: AutoGLMError | None = None
        if refusal.code or refusal.outcome == "throttled":
            code = refusal.code or "rate_limit_exceeded"
            error = UpstreamError(code, refusal.message, param=refusal.param, retry_after_s=retry_after_s)
        self._fail(refusal.outcome, f"status {status}", now_s, error, retry_after_s)

    def on_lost(self, detail: str) -> None:
        if not self._over:
            self._fail("malformed" if self._attempt.head_s else "connect", detail, clock.monotonic())

    # Inside.

    def _heard(self, status: int) -> float:
        now_s = clock.monotonic()
        attempt = self._attempt
        attempt.status = status
        attempt.head_s = attempt.head_s or now_s
        return now_s

    def _read(self, payload: bytes) -> list[Event]:
        """The events of a response; of a streamed one those that no chunk has brought."""
        preamble = read_response(payload)
        if not preamble.finish:
            raise ProtocolError("invalid_request", "the response says no reason to finish")
        body = self._codec.decode(payload[preamble.body_at :])
        events: list[Event] = [*read_scores(body.get("logprobs"))]
        for name, kind in (("reasoning", ReasoningDelta), ("text", TextDelta)):
            text = body.get(name)
            if isinstance(text, str) and text:
                events.append(kind(text))
        calls = body.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            events.append(_tool_call(number, call))
        events.append(Finish(preamble.finish, version=preamble.version))
        events.append(Usage(preamble.prompt_tokens, preamble.completion_tokens))
        return events

    def _fail(
        self,
        outcome: str,
        detail: str,
        now_s: float,
        error: AutoGLMError | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self._over = True
        self._note_usage()
        if self.link is not None:
            self.link.cancel(self.stream)
        self._call.exchange.failed(self._attempt, outcome, detail, now_s, error, retry_after_s=retry_after_s)

    def _note_usage(self) -> None:
        relay, record = self._relay, self._call.record
        record.finish_reason, record.version = relay.finish_reason, relay.version
        record.prompt_tokens = relay.prompt_tokens
        record.completion_tokens = relay.completion_tokens
        record.delivered_chars = relay.delivered_chars


def _fields(codec: Codec, payload: bytes) -> dict[str, Any]:
    try:
        return codec.decode(payload)
    except ProtocolError:
        return {}


def _tool_call(number: int, call: Any) -> ToolCallDelta:
    """A tool call as a response's body has it: flat, or as OpenAI writes it."""
    if not isinstance(call, dict):
        raise ProtocolError("invalid_request", "a tool call is no object")
    inner = call.get("function")
    named = inner if isinstance(inner, dict) else call
    texts = [call.get("id", ""), named.get("name"), named.get("arguments", "")]
    if not all(isinstance(text, str) for text in texts):
        raise ProtocolError("invalid_request", "a tool call's id, name or arguments are no texts")
    return ToolCallDelta(number, *texts)
