"""Requests and answers of the framed protocol as a face of the request path: what is not simply passed on goes here.

A request's body, in the connection's codec, is read as the payload of a message in JSON, so every check and limit of
`POST /mcp/v1/messages` holds for it too. Answers are written as frames of stream 0; the connection puts its own stream
and its credit in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw

from open_autoglm.dialects.canonical import Event, Finish, InferRequest, Kind, ReasoningDelta, TextDelta
from open_autoglm.dialects.face import Failover, RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.logprobs import logprobs_field
from open_autoglm.dialects.mcp import McpFace, McpView
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.frames import encode_frame
from open_autoglm.protocol.opcodes import ERROR, INFER_CHUNK, INFER_RESPONSE, NO_RETRY, REASONING
from open_autoglm.protocol.preambles import read_request, write_response
from open_autoglm.protocol.wire_error import write_error

_STEERING: Final = ("model", "model_hint", "stream", "timeout_ms")
"""Fields that the frame says; in the body they could say something else."""
_json = McpFace()


class FramedFace:
    """INFER_REQUEST in one codec; see `dialects.face.Face`. A body is the frame's flags in one byte, then its payload.

    Args:
        codec: of the connection's bodies.
    """

    __slots__ = ("_codec",)
    name: ClassVar[str] = "mcp"
    kind: ClassVar[Kind] = "chat"

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def read(self, body: bytes) -> McpView:
        """See `Face.read`."""
        payload = body[1:]
        preamble = read_request(payload)
        fields = self._codec.decode(payload[preamble.body_at :])
        for name in _STEERING:
            if name in fields:
                raise RequestError("invalid_request", f"the body has {name}, which the frame says", param=name)
        envelope: dict[str, Any] = {"type": "INFER_REQUEST", "payload": Raw(msgspec.json.encode(fields))}
        if preamble.session:
            envelope["session_id"] = preamble.session
        if body[0] & NO_RETRY:
            envelope["meta"] = {"retry": False}
        try:
            view = _json.read(msgspec.json.encode(envelope))
        except RequestError as error:
            if error.param is not None:
                error.param = error.param.removeprefix("payload").lstrip(".") or None
            raise
        view.model, view.hops = preamble.model, preamble.hops
        return view

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`."""
        return _json.infer(body, view)

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> FramedEncoder:
        """See `Face.encoder`."""
        return FramedEncoder(self._codec, view.prompt_bytes, model)

    def error_body(self, error: AutoGLMError, request_id: str, request: bytes = b"") -> bytes:
        """The ERROR frame."""
        return self._error(error, {"request_id": request_id})

    def error_event(self, error: AutoGLMError, request_id: str, delivered_chars: int, request: bytes = b"") -> bytes:
        """The ERROR frame that ends a stream."""
        return self._error(error, {"request_id": request_id, "delivered_chars": delivered_chars})

    def _error(self, error: AutoGLMError, details: dict[str, Any]) -> bytes:
        flags, aux, arg, payload = write_error(self._codec, error, details)
        return encode_frame(ERROR, 0, payload, flags, aux, arg)


class FramedEncoder:
    """Writes one answer; see `dialects.face.AnswerEncoder`.

    Args:
        codec: of the answer's body.
        prompt_bytes: for an estimate of the usage where nobody says it.
        model: as the client knows it.
    """

    __slots__ = ("_codec", "_failover", "_gathering", "_model", "_prompt_bytes", "_seq", "_tally", "_version")

    def __init__(self, codec: Codec, prompt_bytes: int, model: str) -> None:
        self._codec = codec
        self._prompt_bytes = prompt_bytes
        self._model = model
        self._version = ""
        self._seq = 0
        self._tally = Tally()
        self._gathering = Gathering(())
        self._failover: Failover | None = None

    def stream(self, events: Sequence[Event]) -> bytes:
        """One chunk for each piece of text or thinking; tool calls wait for the response."""
        pieces = []
        for event in self._noted(events):
            match event:
                case TextDelta(text, index):
                    flags = 0
                case ReasoningDelta(text, index):
                    flags = REASONING
                case _:
                    continue
            pieces.append(encode_frame(INFER_CHUNK, 0, text.encode("utf-8", "replace"), flags, index, self._seq))
            self._seq += 1
        return b"".join(pieces)

    def end(self) -> bytes:
        """The response of a streamed answer, without what the chunks have said."""
        return encode_frame(INFER_RESPONSE, 0, self._response(streamed=True), arg=self._seq)

    def whole(self, events: Sequence[Event]) -> bytes:
        """The response that is the whole answer."""
        self._noted(events)
        return encode_frame(INFER_RESPONSE, 0, self._response(streamed=False))

    def failed_over(self, failover: Failover) -> None:
        """See `AnswerEncoder.failed_over`; the response says so."""
        self._failover = failover

    def _noted(self, events: Sequence[Event]) -> Sequence[Event]:
        self._tally.add(events)
        for event in events:
            self._gathering.add(event)
            if isinstance(event, Finish) and event.version:
                self._version = event.version
        return events

    def _response(self, *, streamed: bool) -> bytes:
        choice = self._gathering.choices.get(0) or Choice()
        usage = self._tally.usage_or_estimate(self._prompt_bytes)
        body: dict[str, Any] = {}
        if not streamed:
            body["text"] = "".join(choice.text)
            if choice.reasoning:
                body["reasoning"] = "".join(choice.reasoning)
        if calls := choice.tool_calls():
            body["tool_calls"] = [msgspec.to_builtins(call) for call in calls]
        if choice.scores:
            body["logprobs"] = logprobs_field(choice.scores)
        if usage.estimated:
            body["usage_estimated"] = True
        if self._failover is not None:
            body["x_mcp_failover"] = msgspec.to_builtins(self._failover)
        finish = choice.finish_reason or "stop"
        preamble = write_response(
            usage.prompt_tokens, usage.completion_tokens, finish, version=self._version, model=self._model
        )
        return preamble + self._codec.encode(body)
