"""OpenAI's chat completions: the client's side.

Answers follow the objects `chat.completion` and `chat.completion.chunk` of OpenAI's API reference. Thinking goes out as
`reasoning_content`, the name that vLLM, SGLang and DeepSeek use. The first event of each choice carries the role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from open_autoglm.dialects.canonical import (
    Event,
    Finish,
    InferRequest,
    Kind,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from open_autoglm.dialects.face import RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.openai_view import ChatView, OpenAIErrors, OpenAIReader

DONE: Final = b"data: [DONE]\n\n"

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

    __slots__ = ("_created_s", "_head", "_id", "_model", "_started", "_tail", "_tally", "_view")

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

    def stream(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.stream`."""
        self._tally.add(events)
        return b"".join([self._event(event) for event in events])

    def end(self) -> bytes:
        """The usage, when the client asked for it, and `[DONE]`."""
        if not self._view.include_usage:
            return DONE
        usage = usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes))
        return self._head + b'],"usage":' + _encode(usage) + b"}\n\n" + DONE

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        self._tally.add(events)
        choices = sorted(Gathering(events).choices.items()) or [(0, Choice())]
        return _encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created_s,
                "model": self._model,
                "choices": [_choice(index, choice) for index, choice in choices],
                "usage": usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes)),
            }
        )

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
            case _:
                return b""
        if index not in self._started:
            self._started.add(index)
            delta = {"role": "assistant", "content": None, **delta}
        reason = event.reason if isinstance(event, Finish) else None
        return self._head + _encode({"index": index, "delta": delta, "finish_reason": reason}) + self._tail


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
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason or "stop"}


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
