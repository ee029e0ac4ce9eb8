"""OpenAI's dialect, spoken to a model's server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from open_autoglm.dialects.canonical import (
    AudioPart,
    Event,
    Finish,
    ImagePart,
    InferRequest,
    Kind,
    Message,
    OtherPart,
    Part,
    ReasoningDelta,
    TextDelta,
    TextPart,
    ToolCallDelta,
    Usage,
)
from open_autoglm.dialects.openai_chunk import AnswerChoice, ChunkChoice, Delta
from open_autoglm.dialects.openai_reading import OpenAIReading, has_value
from open_autoglm.dialects.refusal import Refusal, classify
from open_autoglm.dialects.sse import ServerEvent
from open_autoglm.dialects.upstream import DialectName

_PATHS: dict[Kind, str] = {"chat": "/chat/completions", "completion": "/completions", "embedding": "/embeddings"}

_encode = msgspec.json.encode


class OpenAIDialect:
    """See `UpstreamDialect`. It can express every request."""

    __slots__ = ()
    name: ClassVar[DialectName] = "openai"

    def path(self, kind: Kind) -> str:
        """See `UpstreamDialect.path`."""
        return _PATHS[kind]

    def encode(self, request: InferRequest, upstream_model: str, *, want_usage: bool = True) -> bytes:
        """See `UpstreamDialect.encode`."""
        body: dict[str, Any] = {"model": upstream_model}
        match request.kind:
            case "chat":
                body["messages"] = [message_fields(message) for message in request.messages]
            case "completion":
                body["prompt"] = request.prompt
            case "embedding":
                body["input"] = request.input
        given = {
            "max_tokens": None if "max_completion_tokens" in request.extra else request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            "tools": request.tools,
            "tool_choice": request.tool_choice,
            "response_format": request.response_format,
            "n": request.n,
            "user": request.user,
        }
        body.update((name, value) for name, value in given.items() if value is not None)
        body.update(request.extra)
        if request.stream:
            body["stream"] = True
            if want_usage:
                body["stream_options"] = {"include_usage": True}
        return _encode(body)

    def decoder(self, streamed: bool, request: InferRequest | None = None) -> OpenAIDecoder:
        """See `UpstreamDialect.decoder`."""
        choices = request.n or 1 if request is not None else 1
        return OpenAIDecoder(choices=choices)

    def classify(self, status: int, content_type: str, body: bytes) -> Refusal:
        """See `UpstreamDialect.classify`."""
        return classify(status, body)


def message_fields(message: Message) -> dict[str, Any]:
    """A message as OpenAI writes it."""
    fields: dict[str, Any] = {"role": message.role}
    parts = message.parts
    if parts is None:
        fields["content"] = None
    elif message.plain:
        fields["content"] = message.text()
    else:
        fields["content"] = [_part_fields(part) for part in parts]
    if message.name:
        fields["name"] = message.name
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    fields.update(message.extra)
    return fields


def _part_fields(part: Part) -> dict[str, Any] | Raw:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(url, detail):
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case AudioPart(data, form):
            return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        case OtherPart(_, raw):
            return raw


class _WireFunction(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _WireCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _WireFunction | None = None


_call = msgspec.json.Decoder(_WireCall)


class OpenAIDecoder(OpenAIReading):
    """See `Decoder`. The usage comes last, from `end`."""

    __slots__ = ()

    def __init__(self, *, choices: int = 1) -> None:
        super().__init__(choices=choices, structured=False)

    def feed(self, payload: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        if self._over:
            return []
        events = self._events(self._cut_events(payload))
        self._check_reader()
        return events

    def end(self) -> list[Event]:
        """See `Decoder.end`."""
        events = [] if self._over else self._events(self._last_events())
        self._close()
        return events + self._usage_events() if self.failure is None else events

    def whole(self, body: bytes, content_type: str) -> list[Event]:
        """See `Decoder.whole`."""
        answer = self._read_whole(body, content_type)
        if answer is None:
            return []
        if not answer.choices:
            self.failure = Refusal("malformed", "the answer is JSON without choices")
            return []
        events = [event for choice in answer.choices for event in self._of_choice(choice, choice.message)]
        return events + self._usage_events() if self.failure is None else []

    def _events(self, read: list[ServerEvent]) -> list[Event]:
        events: list[Event] = []
        for name, data in read:
            chunk = self._read(name, data)
            if chunk is None:
                break
            for choice in chunk.choices or ():
                events += self._of_choice(choice, choice.delta)
        return events

    def _of_choice(self, choice: ChunkChoice | AnswerChoice, delta: Delta | None) -> Iterator[Event]:
        index = choice.index
        if delta is not None:
            reasoning = delta.reasoning_content or delta.reasoning
            if reasoning:
                yield ReasoningDelta(reasoning, index)
            text = delta.content or delta.refusal
            if text:
                yield TextDelta(text, index)
            yield from self._of_calls(delta, index)
        elif choice.text:
            yield TextDelta(choice.text, index)
        if choice.finish_reason or isinstance(choice, AnswerChoice):
            yield Finish(choice.finish_reason or "stop", index)

    def _of_calls(self, delta: Delta, index: int) -> Iterator[Event]:
        for number, raw in enumerate(delta.tool_calls or ()):
            try:
                call = _call.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._fail(Refusal("malformed", "the answer holds a tool call of an unknown form"))
                return
            function = call.function or _WireFunction()
            place = number if call.index is None else call.index
            yield ToolCallDelta(place, call.id or "", function.name or "", function.arguments or "", index)

    def _usage_events(self) -> list[Event]:
        usage = self._usage
        if usage is None or usage.prompt_tokens is None:
            return []
        details = {
            name: raw
            for name in ("prompt_tokens_details", "completion_tokens_details")
            if has_value(raw := getattr(usage, name))
        }
        return [Usage(max(0, usage.prompt_tokens), max(0, usage.completion_tokens or 0), details=details or None)]
