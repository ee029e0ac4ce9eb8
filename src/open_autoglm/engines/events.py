"""What an engine is asked, and what it tells of the answer.

Events of a request, in order: `ReasoningDelta` and `TextDelta` as they come, `ToolCall`s, then `Finish` and `Usage`;
or, at any point, one `Failed`, after which nothing follows. Where it is asked for, a `TokenScore` for each token comes
before what the token says. `Usage` says which version of the model computed which
token, so that anybody who has those versions can compute the answer again.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls"]


class GenerateRequest(Struct, frozen=True):
    """One request to an engine.

    Attributes:
        messages: OpenAI chat messages, text only.
        tools: OpenAI tool definitions, or None.
        max_tokens: most tokens of the answer, reasoning included; None for as many as the context holds.
        temperature: 0 for the most likely token, up to 2.
        top_p: share of probability that is sampled from, above 0, at most 1.
        seed: makes sampling repeatable; None for a seed of the engine's choice.
        stop: texts that end the answer and are not part of it.
        deadline_s: monotonic seconds at which the request fails with `deadline_exceeded`.
        stream: whether events are wanted as they come; else they come together, at the end.
        salt: whose request it is; keys and values of a prompt are reused under the same salt only, never under none.
        top_logprobs: with each token, how likely it was and so many of the likeliest, 0 to 5; None for no such thing.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    deadline_s: float | None = None
    stream: bool = True
    salt: str = ""
    top_logprobs: int | None = None


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More of the model's thinking."""

    text: str


class TextDelta(Struct, frozen=True, gc=False):
    """More of the answer."""

    text: str


class ToolCall(Struct, frozen=True, gc=False):
    """A call of one of the request's tools; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class TokenScore(Struct, frozen=True, gc=False):
    """How likely the model held a token that it wrote; the mark that ends an answer is left out.

    Attributes:
        spelled: bytes of the token, maybe part of a character; marks of thinking as they are written.
        logprob: natural logarithm of its probability among all tokens, -9999 to 0.
        top: the likeliest tokens and theirs, the first the likeliest.
    """

    spelled: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class Finish(Struct, frozen=True, gc=False):
    """The answer is complete."""

    reason: FinishReason


class Span(Struct, frozen=True, gc=False):
    """Tokens of an answer, from `start` up to but not `end`, that `version` computed."""

    version: str
    start: int
    end: int


class Usage(Struct, frozen=True):
    """Tokens that the model read and wrote.

    Attributes:
        prompt_tokens, completion_tokens: how many; the mark that ends an answer counts.
        version: of the model that computed all tokens, or the last one of them.
        spans: which version computed which tokens, when there were several; they follow each other without a gap.
    """

    prompt_tokens: int
    completion_tokens: int
    version: str
    spans: tuple[Span, ...] = ()


class Failed(Struct, frozen=True, gc=False):
    """The request failed; `code` is one of `errors.CODES`. Nothing follows."""

    code: str
    message: str


GenerateEvent = ReasoningDelta | TextDelta | ToolCall | TokenScore | Finish | Usage | Failed
