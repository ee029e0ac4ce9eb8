"""Reading the parameters and messages of a chat request, and the parameters that completions share with it."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
from msgspec import Raw, Struct

from open_autoglm.dialects.canonical import (
    AudioPart,
    ImagePart,
    InferRequest,
    Kind,
    Message,
    OtherPart,
    Part,
    Prompt,
    TextPart,
    ToolCall,
)
from open_autoglm.dialects.document import decode, members
from open_autoglm.errors import RequestError

_NULL: Final = Raw(b"null")


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Parameters(Struct):
    model: str | None = None
    prompt: Raw = _NULL
    input: Raw = _NULL
    messages: Raw = _NULL
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None


class _WireFunction(Struct):
    name: str = ""
    arguments: str = ""


class _WireToolCall(Struct):
    id: str = ""
    function: _WireFunction | None = None


class _WireMessage(Struct):
    role: str
    content: Raw = _NULL
    name: str | None = None
    tool_calls: list[_WireToolCall] | None = None
    tool_call_id: str | None = None


class _WireUrl(Struct):
    url: str
    detail: str | None = None


class _WireAudio(Struct):
    data: str
    format: str = ""


class _WirePart(Struct):
    type: str
    text: str | None = None
    image_url: _WireUrl | str | None = None
    input_audio: _WireAudio | None = None


_parameters = msgspec.json.Decoder(_Parameters)
_message = msgspec.json.Decoder(_WireMessage)
_messages = msgspec.json.Decoder(list[Raw] | None)
_prompt = msgspec.json.Decoder(str | list[Any])
_content = msgspec.json.Decoder(str | list[Raw] | None)
_part = msgspec.json.Decoder(_WirePart)
# Of one kind, a request holds one of these three; where two do, the other is an unknown field like any other.
_PROMPTS: Final[dict[Kind, str]] = {"chat": "messages", "completion": "prompt", "embedding": "input"}
_READ: Final = frozenset(_Parameters.__struct_fields__) - {*_PROMPTS.values(), "max_completion_tokens"}
_MESSAGE_FIELDS: Final = frozenset(_WireMessage.__struct_fields__)


def read_request(body: bytes | Raw, kind: Kind, prefix: str = "") -> InferRequest:
    """Read a whole request.

    Args:
        body: a JSON object with the fields of OpenAI's API.
        kind: what is asked for.
        prefix: before the names of fields in errors.

    Raises:
        RequestError: `invalid_request`, with the field.
    """
    try:
        read = decode(_parameters, body)
        messages = _read_messages(read.messages) if kind == "chat" else ()
        prompt = _read_prompt(read.prompt, "prompt") if kind == "completion" else None
        given = _read_prompt(read.input, "input") if kind == "embedding" else None
    except RequestError as error:
        if error.param is not None:
            error.param = prefix + error.param
        raise
    known = _READ | {_PROMPTS[kind]}
    extra = {name: value for name, value in members(body).items() if name not in known and value != _NULL}
    stop = read.stop
    return InferRequest(
        kind=kind,
        model=read.model or "",
        messages=messages,
        prompt=prompt,
        input=given,
        max_tokens=read.max_tokens if read.max_tokens is not None else read.max_completion_tokens,
        temperature=read.temperature,
        top_p=read.top_p,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=read.seed,
        tools=read.tools,
        tool_choice=read.tool_choice,
        response_format=read.response_format,
        n=read.n,
        stream=read.stream is True,
        include_usage=read.stream_options is not None and read.stream_options.include_usage is True,
        user=read.user,
        extra=extra,
        prefix=prefix,
    )


def _read_prompt(raw: Raw, name: str) -> Prompt:
    """Text, texts, tokens or lists of tokens; a decoder cannot tell the last three apart by itself."""
    value: Any = _named(_prompt, raw, name)
    if isinstance(value, str) or _all(value, str) or _all(value, int):
        return cast(Prompt, value)
    if _all(value, list) and all(_all(tokens, int) for tokens in value):
        return cast(Prompt, value)
    raise RequestError(
        "invalid_request", f"{name} must be a text, a list of texts, or tokens as whole numbers", param=name
    )


def _all(values: list[Any], kind: type) -> bool:
    return all(type(value) is kind for value in values)


def _named(decoder: msgspec.json.Decoder[Any], raw: Raw, name: str) -> Any:
    """Decode the value of a field, and name the field when that fails."""
    try:
        return decode(decoder, raw)
    except RequestError as error:
        error.param = f"{name}{error.param}" if (error.param or "").startswith("[") else name
        raise


def _read_messages(raw_list: Raw) -> tuple[Message, ...]:
    messages = []
    for number, raw in enumerate(_named(_messages, raw_list, "messages") or ()):
        try:
            messages.append(_read_message(raw))
        except RequestError as error:
            place = f"messages[{number}]"
            error.param = f"{place}.{error.param}" if error.param else place
            raise
    return tuple(messages)


def _read_message(raw: Raw) -> Message:
    wire = decode(_message, raw)
    content = decode(_content, wire.content)
    parts: tuple[Part, ...] | None
    if content is None:
        parts = None
    elif isinstance(content, str):
        parts = (TextPart(content),)
    else:
        parts = tuple(_read_part(part, number) for number, part in enumerate(content))
    calls = []
    for call in wire.tool_calls or ():
        function = call.function or _WireFunction()
        calls.append(ToolCall(call.id, function.name, function.arguments))
    return Message(
        role=wire.role,
        parts=parts,
        plain=not isinstance(content, list),
        name=wire.name or "",
        tool_calls=tuple(calls),
        tool_call_id=wire.tool_call_id or "",
        extra={name: value for name, value in members(raw).items() if name not in _MESSAGE_FIELDS},
    )


def _read_part(raw: Raw, number: int) -> Part:
    try:
        wire = decode(_part, raw)
    except RequestError as error:
        place = f"content[{number}]"
        error.param = f"{place}.{error.param}" if error.param else place
        raise
    match wire:
        case _WirePart(type="text", text=str(text)):
            return TextPart(text)
        case _WirePart(type="image_url", image_url=_WireUrl(url=url, detail=detail)):
            return ImagePart(url, detail or "")
        case _WirePart(type="image_url", image_url=str(url)):
            return ImagePart(url)
        case _WirePart(type="input_audio", input_audio=_WireAudio(data=data, format=form)):
            return AudioPart(data, form)
    return OtherPart(wire.type, raw)
