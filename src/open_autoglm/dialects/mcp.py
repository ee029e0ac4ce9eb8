"""Our own protocol in JSON: the client's side of `POST /mcp/v1/messages`.

One message in; out comes one `INFER_RESPONSE`, or, streamed, `INFER_CHUNK`s that count from 0 and then the response
with the whole text again. The payload's other fields are those of a chat completion, by the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, ClassVar, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from open_autoglm.dialects.canonical import (
    Event,
    InferRequest,
    Kind,
    Message,
    Notice,
    ReasoningDelta,
    TextDelta,
    TextPart,
)
from open_autoglm.dialects.document import check, decode
from open_autoglm.dialects.face import Failover, RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.logprobs import logprobs_field
from open_autoglm.dialects.mcp_message import ENVELOPE_KEYS, Envelope, MessageType, check_request, encode_answer
from open_autoglm.dialects.openai_view import (
    FORBIDDEN,
    MESSAGES_MAX,
    MODEL_CHARS_MAX,
    STOPS_MAX,
    TOOLS_MAX,
    check_bulk,
    check_count,
    steering,
)
from open_autoglm.dialects.parameters import read_request
from open_autoglm.errors import AutoGLMError, RequestError

_TIMEOUT_MS_MAX: Final = 86_400_000
_MILLISECONDS_FROM: Final = 1e11
"""A timestamp from here on is in milliseconds: as seconds it would lie in the year 5138."""

_ENVELOPE_FIELDS: Final = ("model_hint", "data_chunk", "timeout_ms")
"""Fields of a payload that are ours; all others are those of a chat completion."""


class _Payload(Struct, gc=False):
    model_hint: str | None = None
    model: str | None = None
    data_chunk: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    timeout_ms: int | float | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    tools: list[Raw] | None = None
    response_format: Raw | UnsetType = UNSET
    api_base: Raw | UnsetType = UNSET
    base_url: Raw | UnsetType = UNSET
    api_key: Raw | UnsetType = UNSET


_envelopes = msgspec.json.Decoder(Envelope)
_payloads = msgspec.json.Decoder(_Payload)
_texts = msgspec.json.Decoder(str)
_raws = msgspec.json.Decoder(list[Raw])
_PAYLOAD_KEYS: Final = {name: f'"{name}"'.encode() for name in _Payload.__struct_fields__}


class McpView(RequestView, gc=False):
    """A message as routing sees it; see `RequestView` for what is not here.

    Attributes:
        envelope: the message around the payload.
        asked: name of the field that holds the prompt: `data_chunk`, `prompt` or `messages`.
    """

    envelope: Envelope = Envelope()
    asked: str = ""
    prompt: Raw = Raw(b'""')
    timeout_s: float | None = None
    timestamp_s: float | None = None
    max_tokens_asked: int | None = None
    structured: bool = False
    hops: int = 0

    @property
    def session(self) -> str:
        return self.envelope.session_id or ""

    @property
    def trace_id(self) -> str:
        return self.envelope.trace_id or ""

    @property
    def no_retry(self) -> bool:
        return self.envelope.meta is not None and self.envelope.meta.retry is False

    @property
    def bulk(self) -> bytes:
        return bytes(self.prompt)


class McpFace:
    """`POST /mcp/v1/messages`; see `Face`. Whether an answer is streamed is said by a header, not by the body."""

    __slots__ = ()
    name: ClassVar[str] = "mcp"
    kind: ClassVar[Kind] = "chat"

    def read(self, body: bytes) -> McpView:
        """See `Face.read`."""
        envelope = decode(_envelopes, body)
        payload_bytes = bytes(envelope.payload)
        check(body, payload_bytes, b'"payload"', ENVELOPE_KEYS)
        check_request(envelope)
        try:
            payload = decode(_payloads, envelope.payload)
            name, prompt = _prompt(payload)
            check(payload_bytes, bytes(prompt), f'"{name}"'.encode(), _PAYLOAD_KEYS)
            _check_limits(payload)
        except RequestError as error:
            error.param = f"payload.{error.param}" if error.param else "payload"
            raise
        return McpView(
            model=payload.model_hint or payload.model or "",
            envelope=envelope,
            asked=name,
            prompt=prompt,
            timeout_s=None if payload.timeout_ms is None else payload.timeout_ms / 1000,
            timestamp_s=_timestamp_s(envelope),
            max_tokens_asked=payload.max_tokens if payload.max_tokens is not None else payload.max_completion_tokens,
            structured=payload.response_format is not UNSET and b'"json_' in bytes(payload.response_format),
        )

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`."""
        if not isinstance(view, McpView):
            raise TypeError(f"a view of this face is needed, not {type(view).__name__}")
        request = read_request(view.envelope.payload, "chat", prefix="payload.")
        if view.asked != "messages":
            request.messages = (Message("user", (TextPart(decode(_texts, view.prompt)),)),)
        request.model = view.model
        request.stream = view.stream is True
        for name in (*_ENVELOPE_FIELDS, "prompt", "stream_options"):
            request.extra.pop(name, None)
        return request

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> McpEncoder:
        """See `Face.encoder`."""
        if not isinstance(view, McpView):
            raise TypeError(f"a view of this face is needed, not {type(view).__name__}")
        return McpEncoder(view, request_id, model, created_s)

    def error_body(self, error: AutoGLMError, request_id: str, request: bytes = b"") -> bytes:
        """An `ERROR` message in the form of `request`; in the typed form when that cannot be read."""
        return _error(error, request_id, request)

    def error_event(self, error: AutoGLMError, request_id: str, delivered_chars: int, request: bytes = b"") -> bytes:
        """The `ERROR` message that ends a stream."""
        return b"data: " + _error(error, request_id, request, delivered_chars) + b"\n\n"


class McpEncoder:
    """Writes one answer; see `AnswerEncoder`."""

    __slots__ = ("_created_s", "_failover", "_gathering", "_model", "_request_id", "_seq", "_tally", "_view")

    def __init__(self, view: McpView, request_id: str, model: str, created_s: int) -> None:
        self._view = view
        self._request_id = request_id
        self._model = model
        self._created_s = created_s
        self._seq = 0
        self._tally = Tally()
        self._gathering = Gathering(())
        self._failover: Failover | None = None

    def stream(self, events: Sequence[Event]) -> bytes:
        """One `INFER_CHUNK` for each piece of text or thinking; tool calls wait for the response."""
        self._tally.add(events)
        pieces = []
        for event in events:
            self._gathering.add(event)
            match event:
                case Notice(kind, data):
                    told = {"kind": kind, **msgspec.json.decode(data)}
                    pieces.append(b"data: " + self._message("INFER_EVENT", told) + b"\n\n")
                    continue
                case TextDelta(text):
                    payload: dict[str, Any] = {"seq": self._seq, "text": text}
                case ReasoningDelta(text):
                    payload = {"seq": self._seq, "text": "", "reasoning": text}
                case _:
                    continue
            self._seq += 1
            pieces.append(b"data: " + self._message("INFER_CHUNK", payload) + b"\n\n")
        return b"".join(pieces)

    def end(self) -> bytes:
        """The response."""
        return b"data: " + self._message("INFER_RESPONSE", self._response()) + b"\n\n"

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        self._tally.add(events)
        for event in events:
            self._gathering.add(event)
        return self._message("INFER_RESPONSE", self._response())

    def failed_over(self, failover: Failover) -> None:
        """See `AnswerEncoder.failed_over`; the response says so."""
        self._failover = failover

    def _response(self) -> dict[str, Any]:
        choice = self._gathering.choices.get(0) or Choice()
        usage = self._tally.usage_or_estimate(self._view.prompt_bytes)
        payload: dict[str, Any] = {
            "model": self._model,
            "text": "".join(choice.text),
            "finish_reason": choice.finish_reason or "stop",
            "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        }
        if usage.estimated:
            payload["usage"]["estimated"] = True
        payload["usage"].update(usage.details or {})
        if choice.reasoning:
            payload["reasoning"] = "".join(choice.reasoning)
        calls = choice.tool_calls()
        if calls:
            payload["tool_calls"] = calls
        if choice.scores:
            payload["logprobs"] = logprobs_field(choice.scores)
        if self._gathering.version:
            payload["model_version"] = self._gathering.version
        if self._failover is not None:
            payload["x_mcp_failover"] = self._failover
        return payload

    def _message(self, kind: MessageType, payload: dict[str, Any]) -> bytes:
        return encode_answer(self._view.envelope, kind, payload, request_id=self._request_id, created_s=self._created_s)


def _prompt(payload: _Payload) -> tuple[str, Raw]:
    """The one field that holds the prompt."""
    fields = {"data_chunk": payload.data_chunk, "prompt": payload.prompt, "messages": payload.messages}
    given = [(name, value) for name, value in fields.items() if not isinstance(value, UnsetType)]
    if len(given) != 1:
        said = "none" if not given else " and ".join(name for name, _ in given)
        raise RequestError("invalid_request", f"send one of data_chunk, prompt and messages; the payload has {said}")
    name, value = given[0]
    check_bulk(name, bytes(value))
    opener, form = (b"[", "list of messages") if name == "messages" else (b'"', "text")
    if bytes(value)[:1] != opener:
        raise RequestError("invalid_request", f"{name} must be a {form}", param=name)
    if name == "messages":
        check_count(name, len(decode(_raws, value)), MESSAGES_MAX)
    return name, value


def _check_limits(payload: _Payload) -> None:
    for name in FORBIDDEN:
        if getattr(payload, name) is not UNSET:
            raise steering(name)
    if payload.model_hint and payload.model and payload.model_hint != payload.model:
        raise RequestError("invalid_request", "model_hint and model name two models; send one", param="model")
    if len(payload.model_hint or payload.model or "") > MODEL_CHARS_MAX:
        raise RequestError(
            "invalid_request", f"the model's name is longer than {MODEL_CHARS_MAX} characters", param="model_hint"
        )
    timeout_ms = payload.timeout_ms
    if timeout_ms is not None and not 0 < timeout_ms <= _TIMEOUT_MS_MAX:
        raise RequestError(
            "invalid_request", f"timeout_ms must be above 0, at most {_TIMEOUT_MS_MAX}", param="timeout_ms"
        )
    if payload.n not in (None, 1):
        raise RequestError("invalid_request", "a message has one answer; leave n out", param="n")
    if isinstance(payload.stop, list):
        check_count("stop", len(payload.stop), STOPS_MAX)
    if payload.tools is not None:
        check_count("tools", len(payload.tools), TOOLS_MAX)


def _timestamp_s(envelope: Envelope) -> float | None:
    """When the message was written, wall seconds."""
    given = envelope.meta.timestamp if envelope.meta is not None else None
    if given is None:
        return None
    try:
        if isinstance(given, str):
            moment = datetime.fromisoformat(given)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        seconds = float(given)
    except (ValueError, OverflowError) as error:
        raise _bad_timestamp() from error
    if not isfinite(seconds) or seconds < 0:
        raise _bad_timestamp()
    return seconds / 1000 if seconds >= _MILLISECONDS_FROM else seconds


def _bad_timestamp() -> RequestError:
    return RequestError(
        "invalid_request",
        "meta.timestamp must be seconds since 1970 or a date as ISO 8601 writes it",
        param="meta.timestamp",
    )


def _error(error: AutoGLMError, request_id: str, request: bytes, delivered_chars: int | None = None) -> bytes:
    try:
        envelope = _envelopes.decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        envelope = Envelope()
    retry_after_s = error.retry_after_s
    payload: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after_ms": None if retry_after_s is None else round(retry_after_s * 1000),
        "param": error.param,
        "request_id": request_id,
    }
    if delivered_chars is not None:
        payload["delivered_chars"] = delivered_chars
        if error.code == "server_draining":
            payload["resumable"] = True
    return encode_answer(envelope, "ERROR", payload, request_id=request_id, created_s=None)
