"""OpenAI's dialect, spoken to a model's server."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from open_autoglm.dialects.canonical import (
    AudioPart,
    ImagePart,
    InferRequest,
    Kind,
    Message,
    OtherPart,
    Part,
    TextPart,
)
from open_autoglm.dialects.openai_decoder import OpenAIDecoder
from open_autoglm.dialects.refusal import Refusal, classify
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
