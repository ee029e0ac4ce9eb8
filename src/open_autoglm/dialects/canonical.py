"""What every dialect can be translated through: one form of request, one set of answer events.

Only translation uses it; where client and upstream speak the same dialect, bytes go on as they came.
Events of an answer, in order: `ReasoningDelta`, `TextDelta` and `ToolCallDelta` as they come, one `Finish` per
choice, at most one `Usage`; a `TokenScore` comes before what its token says. Embeddings are `Embedding` events and a
`Usage`.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct, field

Kind = Literal["chat", "completion", "embedding"]
"""What is asked of a model."""


class TextPart(Struct, frozen=True):
    """Text of a message."""

    text: str


class ImagePart(Struct, frozen=True):
    """An image: an address or a `data:` URL; `detail` as the client wrote it, or empty."""

    url: str
    detail: str = ""


class AudioPart(Struct, frozen=True):
    """Sound, base64, in `format` (`wav`, `mp3`)."""

    data: str
    format: str


class OtherPart(Struct, frozen=True):
    """A part of a kind that is not known here, as the client wrote it."""

    kind: str
    raw: Raw


Part = TextPart | ImagePart | AudioPart | OtherPart


class ToolCall(Struct, frozen=True):
    """A call that a model made; `arguments` is JSON as text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One message of a conversation.

    Attributes:
        role: `system`, `developer`, `user`, `assistant`, `tool`, or what the client wrote.
        parts: None when the message has no content at all (an assistant's tool calls).
        plain: the content was a string, not a list of parts.
        name: of the speaker, or empty.
        tool_calls: calls that this message makes.
        tool_call_id: the call that this message answers, or empty.
        extra: fields that are not known here, as the client wrote them.
    """

    role: str
    parts: tuple[Part, ...] | None = None
    plain: bool = True
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    extra: dict[str, Raw] = field(default_factory=dict)

    def text(self) -> str:
        """The message's text parts, joined by newlines; other parts are left out."""
        return "\n".join(part.text for part in self.parts or () if isinstance(part, TextPart))


Prompt = str | list[str] | list[int] | list[list[int]]
"""What a completion or an embedding is made of: text, texts, tokens, or lists of tokens."""


class InferRequest(Struct):
    """One request, in no dialect. None means that the client did not say.

    Attributes:
        kind: what is asked for; `messages` belong to chat, `prompt` to completion, `input` to embedding.
        model: the name that the client asked for; may be empty on our own protocol's route.
        max_tokens: of the answer.
        stop: texts that end the answer.
        tools, tool_choice, response_format: plain JSON values.
        n: answers wanted.
        stream, include_usage: how the answer is wanted.
        user: the client's own label.
        extra: every other field, as the client wrote it.
        prefix: before a field's name where an error names it, as `payload.`.
    """

    kind: Kind
    model: str = ""
    messages: tuple[Message, ...] = ()
    prompt: Prompt | None = None
    input: Prompt | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    n: int | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    extra: dict[str, Raw] = field(default_factory=dict)
    prefix: str = ""


class TextDelta(Struct, frozen=True, gc=False):
    """More of the answer's text; `index` is the choice."""

    text: str
    index: int = 0


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More of the model's thinking."""

    text: str
    index: int = 0


class ToolCallDelta(Struct, frozen=True, gc=False):
    """More of a tool call. `call` counts the calls of a choice; `id` and `name` come with the first piece only."""

    call: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    index: int = 0


class TokenScore(Struct, frozen=True, gc=False):
    """How likely the model held a token that it wrote, thinking and its marks included.

    Attributes:
        spelled: bytes of the token.
        logprob: natural logarithm of its probability, -9999 to 0.
        top: the likeliest tokens and theirs, the first the likeliest.
    """

    spelled: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()
    index: int = 0


class Finish(Struct, frozen=True, gc=False):
    """A choice is complete: `stop`, `length`, `tool_calls`, `content_filter`, or what the upstream wrote.

    `version` is that of the model which computed it, where the upstream says so.
    """

    reason: str
    index: int = 0
    version: str = ""


class Usage(Struct, frozen=True, gc=False):
    """Tokens that were read and written.

    Attributes:
        prompt_tokens, completion_tokens: both >= 0.
        estimated: nobody counted; see `estimate_tokens`.
        details: the upstream's other figures (cached, reasoning), as it wrote them.
    """

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    details: dict[str, Raw] | None = None


class Notice(Struct, frozen=True):
    """What happens while several models work on one answer; told only in streams, and only to those who ask for it.

    Attributes:
        kind: as `asked`, `candidate` or `decided`.
        data: a JSON object.
    """

    kind: str
    data: Raw


class Embedding(Struct, frozen=True, gc=False):
    """One vector."""

    vector: list[float]
    index: int = 0


Event = TextDelta | ReasoningDelta | ToolCallDelta | TokenScore | Finish | Usage | Embedding | Notice


def estimate_tokens(size_bytes: int) -> int:
    """Tokens of a text of so many bytes of UTF-8, when nobody counted them: a quarter, rounded up.

    English has about four characters per token and Chinese, at three bytes a character, about 1.3 characters; the
    estimate is within a factor of two for both and is always marked as what it is.
    """
    return (size_bytes + 3) // 4
