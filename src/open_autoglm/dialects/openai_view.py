"""What the three OpenAI faces read of a request, and the limits that hold for all of them."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from open_autoglm.dialects.document import count_openers
from open_autoglm.dialects.face import RequestView
from open_autoglm.dialects.openai_error import error_body, error_event
from open_autoglm.errors import AutoGLMError, RequestError

MODEL_CHARS_MAX: Final = 256
MESSAGES_MAX: Final = 2_048
CHOICES_MAX: Final = 8
STOPS_MAX: Final = 16
TOOLS_MAX: Final = 128

_MESSAGE_BYTES_MIN: Final = 3
"""`{},`: so many bytes for each message, at least."""
_BARE: Final = frozenset({b"[]", b"{}", b'""', b"null"})

FORBIDDEN: Final = ("api_base", "base_url", "api_key")
"""Fields that would steer where a request goes; refused, since a server behind us might obey them."""

_raws = msgspec.json.Decoder(list[Raw])


class StreamOptions(Struct, gc=False):
    """`stream_options`, as far as it is read."""

    include_usage: bool | None = None


class OpenAIView(RequestView, gc=False):
    """Fields of all three routes; for others and for properties see `RequestView`."""

    stream_options: StreamOptions | None = None
    n: int | None = None
    api_base: Raw | UnsetType = UNSET
    base_url: Raw | UnsetType = UNSET
    api_key: Raw | UnsetType = UNSET

    @property
    def include_usage(self) -> bool:
        options = self.stream_options
        return options is not None and options.include_usage is True

    @property
    def choices(self) -> int:
        return self.n or 1

    def check_limits(self, bulk: bytes, few: bool) -> None:
        """Check the counts of one route.

        Args:
            bulk: see `RequestView.bulk`.
            few: the body has few objects and lists in all; see `document.check`.

        Raises:
            RequestError: `invalid_request`, with the field.
        """


class ChatView(OpenAIView, kw_only=True, gc=False):
    """Fields of a chat completion."""

    bulk_key: ClassVar[bytes] = b'"messages"'

    messages: Raw
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    tools: list[Raw] | None = None
    response_format: Raw | UnsetType = UNSET

    @property
    def bulk(self) -> bytes:
        return bytes(self.messages)

    @property
    def structured(self) -> bool:
        return self.response_format is not UNSET and b'"json_' in bytes(self.response_format)

    @property
    def max_tokens_asked(self) -> int | None:
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens

    def check_limits(self, bulk: bytes, few: bool) -> None:
        if bulk[:1] != b"[" or (len(bulk) < 8 and b"{" not in bulk):
            raise RequestError("invalid_request", "messages must be a list of at least one message", param="messages")
        if (
            not few
            and len(bulk) > MESSAGES_MAX * _MESSAGE_BYTES_MIN
            and count_openers(bulk, MESSAGES_MAX) > MESSAGES_MAX
        ):
            check_count("messages", len(_raws.decode(bulk)), MESSAGES_MAX)
        if self.stop is not None and type(self.stop) is list:
            check_count("stop", len(self.stop), STOPS_MAX)
        if self.tools is not None:
            check_count("tools", len(self.tools), TOOLS_MAX)


class CompletionView(OpenAIView, kw_only=True, gc=False):
    """Fields of a completion."""

    bulk_key: ClassVar[bytes] = b'"prompt"'

    prompt: Raw
    max_tokens: int | None = None
    best_of: int | None = None
    stop: str | list[str] | None = None

    @property
    def bulk(self) -> bytes:
        return bytes(self.prompt)

    @property
    def choices(self) -> int:
        """One for each prompt and `n`."""
        prompts = 1
        bulk = self.bulk
        if bulk[:1] == b"[":
            first = bulk[1:].lstrip()[:1]
            prompts = len(_raws.decode(bulk)) if first in (b'"', b"[") else 1
        return prompts * (self.n or 1)

    @property
    def max_tokens_asked(self) -> int | None:
        return self.max_tokens

    def check_limits(self, bulk: bytes, few: bool) -> None:
        check_bulk("prompt", bulk)
        if self.best_of is not None:
            check_range("best_of", self.best_of, CHOICES_MAX)
        if self.stop is not None and type(self.stop) is list:
            check_count("stop", len(self.stop), STOPS_MAX)


class EmbeddingView(OpenAIView, kw_only=True, gc=False):
    """Fields of an embedding."""

    bulk_key: ClassVar[bytes] = b'"input"'

    input: Raw
    encoding_format: str | None = None

    @property
    def bulk(self) -> bytes:
        return bytes(self.input)

    def check_limits(self, bulk: bytes, few: bool) -> None:
        check_bulk("input", bulk)
        if self.stream:
            raise RequestError("invalid_request", "embeddings are not streamed; leave stream out", param="stream")
        if self.encoding_format not in (None, "float", "base64"):
            value = self.encoding_format[:40]
            raise RequestError(
                "invalid_request", f"encoding_format is {value!r}; write float or base64", param="encoding_format"
            )


def check_bulk(name: str, bulk: bytes) -> None:
    """Raise unless a prompt is a text or a list of something."""
    if bulk[:1] not in (b'"', b"[") or bulk[:1] + bulk[1:-1].strip() + bulk[-1:] in _BARE:
        raise RequestError("invalid_request", f"{name} must be a text or a list that is not empty", param=name)


def check_count(name: str, count: int, most: int) -> None:
    """Raise when a list is too long."""
    if count > most:
        raise RequestError("invalid_request", f"{name} has {count} entries; at most {most} are taken", param=name)


def check_range(name: str, value: int, most: int) -> None:
    """Raise unless a number is 1 to `most`."""
    if not 1 <= value <= most:
        shown = value if abs(value) < 10**9 else "far out of range"
        raise RequestError("invalid_request", f"{name} is {shown}; it must be 1 to {most}", param=name)


def check_model(model: str) -> None:
    """Raise unless a model is named."""
    if not model:
        raise RequestError("invalid_request", "model is missing; name one (GET /v1/models lists them)", param="model")
    if len(model) > MODEL_CHARS_MAX:
        raise RequestError("invalid_request", f"model is longer than {MODEL_CHARS_MAX} characters", param="model")


def steering(name: str) -> RequestError:
    """A client names a model; where it runs and with whose key is the server's own business."""
    return RequestError("invalid_request", f"{name} may not be set in a request; it is configured here", param=name)


class OpenAIErrors:
    """The errors of OpenAI's routes."""

    __slots__ = ()

    def error_body(self, error: AutoGLMError, request_id: str, request: bytes = b"") -> bytes:
        """See `Face.error_body`."""
        return error_body(error, request_id)

    def error_event(self, error: AutoGLMError, request_id: str, delivered_chars: int, request: bytes = b"") -> bytes:
        """See `Face.error_event`."""
        return error_event(error, request_id, delivered_chars)
