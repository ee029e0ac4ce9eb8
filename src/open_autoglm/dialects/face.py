"""The client's side of a route: reading its requests, writing its answers.

A face reads a body once, only as far as routing needs; the full reading happens when a request has to be translated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from msgspec import Struct

from open_autoglm.dialects.canonical import Event, InferRequest, Kind
from open_autoglm.errors import AutoGLMError

AFFINITY_BYTES = 256
"""Of the prompt's beginning, which stands for a conversation: enough to hold a system prompt's first sentences."""


class RequestView(Struct, gc=False):
    """What routing needs of a request; decoded from the body, so its fields carry the wire's names.

    Attributes:
        model: the name asked for; empty where the router shall choose.
        stream: whether the answer comes in pieces. The gateway may set it where a header says so.
    """

    bulk_key: ClassVar[bytes] = b""
    """Name of the field that `bulk` is the value of, with its quotes."""

    model: str = ""
    stream: bool | None = False

    @property
    def include_usage(self) -> bool:
        """Whether the client of a stream wants its usage."""
        return False

    @property
    def timeout_s(self) -> float | None:
        """The client's own limit in seconds, when the body gives one."""
        return None

    @property
    def session(self) -> str:
        """Session id, or empty."""
        return ""

    @property
    def trace_id(self) -> str:
        """The client's own id of the request, or empty."""
        return ""

    @property
    def no_retry(self) -> bool:
        """Whether the client forbids a second attempt."""
        return False

    @property
    def timestamp_s(self) -> float | None:
        """When the client says it wrote the request, wall seconds, when it says so."""
        return None

    @property
    def hops(self) -> int:
        """How many servers have it from another server, where that is said."""
        return 0

    @property
    def choices(self) -> int:
        """Answers wanted, at least 1."""
        return 1

    @property
    def structured(self) -> bool:
        """Whether the answer is to be JSON, of which a torn half is worth nothing."""
        return False

    @property
    def max_tokens_asked(self) -> int | None:
        """Most tokens of the answer, when the client set a limit."""
        return None

    @property
    def bulk(self) -> bytes:
        """The prompt, messages or input as the client wrote it: JSON."""
        return b""

    @property
    def affinity_text(self) -> str:
        """The prompt's beginning, by which requests of one conversation can be kept together."""
        return self.bulk[:AFFINITY_BYTES].decode("latin-1")

    @property
    def prompt_bytes(self) -> int:
        """Size of the prompt as JSON, for estimates."""
        return len(self.bulk)


class Failover(Struct, frozen=True, gc=False, rename={"from_": "from"}):
    """Where a stream changed endpoints; goes into its last event as `x_mcp_failover`.

    Attributes:
        from_, to: the endpoints, as `chat#2`: the second one of the group `chat`.
        at_char: characters of text that the first one had delivered.
    """

    from_: str
    to: str
    at_char: int


class AnswerEncoder(Protocol):
    """Writes one answer. Use either `stream` and `end`, or `whole`."""

    def stream(self, events: Sequence[Event]) -> bytes:
        """The server-sent events for these events; may be empty."""

    def end(self) -> bytes:
        """What closes a stream that is complete."""

    def whole(self, events: Sequence[Event]) -> bytes:
        """The body of a unary answer."""

    def failed_over(self, failover: Failover) -> None:
        """Another endpoint goes on with this stream, and its last event shall say so."""


class Face(Protocol):
    """The dialect of one client route."""

    name: ClassVar[str]
    kind: ClassVar[Kind]

    def read(self, body: bytes) -> RequestView:
        """Decode what routing needs, and check the body's shape and limits.

        Raises:
            RequestError: `invalid_request`, with the field where one is to blame.
        """

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """Decode the whole request, for translation.

        Raises:
            RequestError: `invalid_request`.
        """

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> AnswerEncoder:
        """An encoder for one answer.

        Args:
            view: of the request.
            request_id: becomes part of the answer's id.
            model: name of the model as the client knows it.
            created_s: wall seconds.
        """

    def error_body(self, error: AutoGLMError, request_id: str, request: bytes = b"") -> bytes:
        """The body of an error answer; `request` is the client's body, for faces whose errors take its form."""

    def error_event(self, error: AutoGLMError, request_id: str, delivered_chars: int, request: bytes = b"") -> bytes:
        """What ends a stream that broke after content; `delivered_chars` of text were sent before."""


_SAME = frozenset({("chat", "openai"), ("completions", "openai"), ("embeddings", "openai")})


def passes(face_name: str, dialect_name: str) -> bool:
    """Whether client and upstream speak the same dialect, so that bytes go on as they came."""
    return (face_name, dialect_name) in _SAME
