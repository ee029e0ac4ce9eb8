"""The objects of OpenAI's answers, as far as they are read. Fields that are not named here pass unseen."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType


class UsageFigures(Struct, gc=False):
    """`usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Raw | UnsetType = UNSET
    completion_tokens_details: Raw | UnsetType = UNSET


class Delta(Struct, gc=False):
    """`delta` of a chunk, `message` of a whole answer."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Raw] | None = None
    function_call: Raw | UnsetType = UNSET
    audio: Raw | UnsetType = UNSET


class ChunkChoice(Struct, gc=False):
    """One of a chunk's choices; `text` is a completion's."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    text: str | None = None


class CallFunction(Struct, gc=False):
    """`function` of a piece of a tool call."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(Struct, gc=False):
    """A piece of a tool call."""

    index: int | None = None
    id: str | None = None
    function: CallFunction | None = None


class Chunk(Struct, gc=False):
    """One event of a stream."""

    choices: list[ChunkChoice] | None = None
    usage: UsageFigures | None = None
    error: Any = None


class AnswerChoice(Struct, gc=False):
    """One of a whole answer's choices."""

    index: int = 0
    message: Delta | None = None
    finish_reason: str | None = None
    text: str | None = None


class Answer(Struct, gc=False):
    """A whole answer of any kind."""

    choices: list[AnswerChoice] | None = None
    data: list[Raw] | None = None
    usage: UsageFigures | None = None
    error: Any = None


CALL_PIECES: Final = msgspec.json.Decoder(CallPiece)
CHUNKS: Final = msgspec.json.Decoder(Chunk)
ANSWERS: Final = msgspec.json.Decoder(Answer)
_decode_answer = ANSWERS.decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ANY: Final = msgspec.json.Decoder()


Read = TypeVar("Read", Chunk, Answer)


def error_in(data: bytes, named: Any) -> Any:
    """The error that an object without choices holds, in either form: below `error`, or as the object itself.

    Args:
        data: the object, JSON.
        named: the value of its field `error`.
    """
    if named:
        return named
    value = plain_value(data)
    return value if isinstance(value, dict) and value.get("object") == "error" else None


def plain_value(data: bytes) -> Any:
    """JSON as plain values; None when it cannot be read, which is more than a typed reading looks at."""
    try:
        return _ANY.decode(data)
    except _UNREADABLE:
        return None


class NotAnAnswer(Exception):
    """Bytes that are no answer; says in a few words why, without quoting them."""


def read_chunk(data: bytes) -> Chunk:
    """Read the data of one event.

    Raises:
        NotAnAnswer: it is no chunk.
    """
    if not data.isascii():
        _check_utf8(data)
    try:
        return CHUNKS.decode(data)
    except _UNREADABLE as error:
        return _lenient(data, Chunk, "delta", error)


def read_answer(body: bytes) -> Answer:
    """Read a whole answer.

    Raises:
        NotAnAnswer: it is none.
    """
    if not body.isascii():
        _check_utf8(body)
    try:
        return _decode_answer(body)
    except _UNREADABLE as error:
        return _lenient(body, Answer, "message", error)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise NotAnAnswer("bytes that are not UTF-8") from error


def _lenient(data: bytes, kind: type[Read], inner: str, cause: Exception) -> Read:
    """Read what is JSON but not quite as documented: some servers send `content` as a list of parts."""
    if not isinstance(cause, msgspec.ValidationError):
        raise NotAnAnswer("something that is not JSON") from cause
    try:
        value = _ANY.decode(data)
        for choice in value["choices"]:
            message = choice[inner]
            if isinstance(message.get("content"), list):
                message["content"] = "".join(_text_of(part) for part in message["content"])
        return msgspec.convert(value, kind)
    except (*_UNREADABLE, LookupError, TypeError, AttributeError) as error:
        raise NotAnAnswer("JSON of an unknown form") from error


def _text_of(part: Any) -> str:
    """Text of one part; thinking has text parts of its own, which stand for it here."""
    text = part.get("text")
    if isinstance(text, str):
        return text
    thinking = part.get("thinking")
    return "".join(_text_of(inner) for inner in thinking) if isinstance(thinking, list) else ""
