"""OpenAI's chat completions: the client's side.

Answers follow the objects `chat.completion` and `chat.completion.chunk` of OpenAI's API reference. Thinking goes out as
`reasoning_content`, the name that vLLM, SGLang and DeepSeek use. The first event of each choice carries the role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self

import msgspec

from open_autoglm.dialects.canonical import (
    Event,
    Finish,
    InferRequest,
    Kind,
    Notice,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCallDelta,
    Usage,
)
from open_autoglm.dialects.document import members
from open_autoglm.dialects.face import Failover, RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.logprobs import logprobs_field
from open_autoglm.dialects.openai_reader import OpenAIReader
from open_autoglm.dialects.openai_view import ChatView, OpenAIErrors

DONE: Final = b"data: [DONE]\n\n"

_FRAME: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields that all events of a stream have in common."""

_encode = msgspec.json.encode
_reader = OpenAIReader(ChatView, "chat")


class ChatFace(OpenAIErrors):
    """`POST /v1/chat/completions`; see `Face`."""

    __slots__ = ()
    name: ClassVar[str] = "chat"
    kind: ClassVar[Kind] = "chat"

    def read(self, body: bytes) -> RequestView:
        """See `Face.read`."""
        return _reader.read(body)

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`."""
        return _reader.infer(body)

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> ChatEncoder:
        """See `Face.encoder`."""
        return ChatEncoder(view, request_id, model, created_s)


class ChatEncoder:
    """Writes one chat answer; see `AnswerEncoder`."""

    __slots__ = ("_created_s", "_failover", "_head", "_id", "_model", "_scores", "_started", "_tail", "_tally", "_view")

    def __init__(self, view: RequestView, request_id: str, model: str, created_s: int) -> None:
        self._view = view
        self._id = f"chatcmpl-{request_id}"
        self._model = model
        self._created_s = created_s
        self._tally = Tally()
        self._started: set[int] = set()
        head = {"id": self._id, "object": "chat.completion.chunk", "created": created_s, "model": model}
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if view.include_usage else b"]}\n\n"
        self._failover = b""
        self._scores: dict[int, list[TokenScore]] = {}  # of tokens whose text has not gone out

    @classmethod
    def resumed(cls, view: RequestView, event: bytes) -> Self:
        """An encoder that goes on with a stream that somebody else began.

        Args:
            view: of the request.
            event: one of its events, JSON; id, model and the like are kept.
        """
        encoder = cls(view, "", "", 0)
        encoder._head = b"data: " + resumed_head(event)
        encoder._started = {0}
        return encoder

    def stream(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.stream`."""
        self._tally.add(events)
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        """The usage, when the client asked for it, and `[DONE]`."""
        if not self._view.include_usage:
            return DONE
        usage = usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes))
        return self._head + b'],"usage":' + _encode(usage) + self._failover + b"}\n\n" + DONE

    def failed_over(self, failover: Failover) -> None:
        """See `AnswerEncoder.failed_over`; the event of the finish reason says so, and that of the usage."""
        self._failover = failover_field(failover)

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        self._tally.add(events)
        gathering = Gathering(events)
        choices = sorted(gathering.choices.items()) or [(0, Choice())]
        body = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created_s,
            "model": self._model,
            "choices": [_choice(index, choice) for index, choice in choices],
            "usage": usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes)),
        }
        if gathering.version:
            body["system_fingerprint"] = gathering.version
        return _encode(body)

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text, index):
                delta: dict[str, Any] = {"content": text}
            case ReasoningDelta(text, index):
                delta = {"reasoning_content": text}
            case ToolCallDelta(index=index):
                delta = {"tool_calls": [_call_delta(event)]}
            case Finish(index=index):
                delta = {}
            case Notice():
                return notice_event(event)
            case TokenScore(index=index):
                self._scores.setdefault(index, []).append(event)
                return b""
            case _:
                return b""
        if index not in self._started:
            self._started.add(index)
            delta = {"role": "assistant", "content": None, **delta}
        reason, tail = None, self._tail
        if isinstance(event, Finish):
            reason, tail = event.reason, b"]" + self._failover + fingerprint_field(event.version) + tail[1:]
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        if self._scores and (scores := self._scores.pop(index, None)):
            choice["logprobs"] = logprobs_field(scores)
        return self._head + _encode(choice) + tail


def _call_delta(event: ToolCallDelta) -> dict[str, Any]:
    function = {"arguments": event.arguments}
    if not event.id and not event.name:
        return {"index": event.call, "function": function}
    return {"index": event.call, "id": event.id, "type": "function", "function": {"name": event.name, **function}}


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    text = "".join(choice.text)
    calls = choice.tool_calls()
    message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    logprobs = logprobs_field(choice.scores)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason or "stop"}


def notice_event(notice: Notice) -> bytes:
    """A server-sent event of a type of its own, which clients that do not know it pass over."""
    return b"event: mcp." + notice.kind.encode() + b"\ndata: " + bytes(notice.data) + b"\n\n"


def resumed_head(event: bytes) -> bytes:
    """The beginning of further events of a stream, up to the choices, made from one of them."""
    fields = members(event)
    frame = {name: fields[name] for name in _FRAME if name in fields}
    return _encode(frame)[:-1] + (b',"choices":[' if frame else b'"choices":[')


def failover_field(failover: Failover) -> bytes:
    """The field `x_mcp_failover`, with a comma before it."""
    return b',"x_mcp_failover":' + _encode(failover)


def fingerprint_field(version: str) -> bytes:
    """The field `system_fingerprint` with a model's version, with a comma before it; empty for no version."""
    return b',"system_fingerprint":' + _encode(version) if version else b""


def usage_fields(usage: Usage) -> dict[str, Any]:
    """`usage` as OpenAI writes it. Estimated figures carry `estimated: true`, which SDKs keep and ignore."""
    fields: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.estimated:
        fields["estimated"] = True
    return {**fields, **(usage.details or {})}
