"""What a team needs of a member's answer, read from the body of a chat completion."""

from __future__ import annotations

from math import exp, isfinite
from typing import Any

import msgspec
from msgspec import Struct, field

from open_autoglm.dialects.sse import EventReader


class _TokenScore(Struct, gc=False):
    logprob: float | None = None


class _Scores(Struct, gc=False):
    content: list[_TokenScore] | None = None


class _Message(Struct, gc=False):
    content: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(Struct, gc=False):
    message: _Message = field(default_factory=_Message)
    logprobs: _Scores | None = None
    finish_reason: str | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int = -1
    completion_tokens: int = -1
    cost: float = 0.0


class _Answer(Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None


class _Piece(Struct, gc=False):
    delta: _Message = field(default_factory=_Message)
    finish_reason: str | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Piece] = []
    usage: _Usage | None = None


class MemberAnswer(Struct, frozen=True):
    """Of the answer's first choice.

    Attributes:
        text: its content.
        finish_reason: `stop` where it says none.
        prompt_tokens, completion_tokens: -1 where it does not say.
        cost: that it says itself, 0.0 for none.
        confidence: mean probability of its tokens; None without log probabilities.
        reasoning: what it shows of its thinking.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost: float
    confidence: float | None
    reasoning: str = ""


_answers = msgspec.json.Decoder(_Answer, strict=False)
_chunks = msgspec.json.Decoder(_Chunk, strict=False)


def read_answer(body: bytes) -> MemberAnswer | None:
    """Read a chat completion that a relay let pass; None when it is none all the same."""
    try:
        answer = _answers.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not answer.choices:
        return None
    choice = answer.choices[0]
    usage = answer.usage or _Usage()
    cost = usage.cost if isfinite(usage.cost) and usage.cost > 0.0 else 0.0
    return MemberAnswer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=cost,
        confidence=_mean_probability(choice.logprobs),
        reasoning=_reasoning(choice.message),
    )


class HeardAnswer:
    """An answer that comes as a stream of chat completion chunks, as our own face writes them.

    Attributes:
        broken: it is no such stream.
    """

    __slots__ = ("_finish_reason", "_pieces", "_reader", "_usage", "broken")

    def __init__(self) -> None:
        self.broken = False
        self._reader = EventReader()
        self._pieces: list[str] = []
        self._finish_reason = "stop"
        self._usage = _Usage()

    def feed(self, payload: bytes) -> str:
        """Read on; return the text that came."""
        return "".join([self._read(data) for _, data in self._reader.feed(payload)])

    def end(self) -> MemberAnswer:
        """The answer so far."""
        usage = self._usage
        cost = usage.cost if isfinite(usage.cost) and usage.cost > 0.0 else 0.0
        text = "".join(self._pieces)
        return MemberAnswer(text, self._finish_reason, usage.prompt_tokens, usage.completion_tokens, cost, None)

    def _read(self, data: bytes) -> str:
        if data == b"[DONE]":
            return ""
        try:
            chunk = _chunks.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.broken = True
            return ""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        piece = chunk.choices[0]
        self._finish_reason = piece.finish_reason or self._finish_reason
        text = piece.delta.content or ""
        self._pieces.append(text)
        return text


def _reasoning(message: _Message) -> str:
    """Under the names that OpenAI's followers use; other forms of it are no text."""
    told = (message.reasoning_content, message.reasoning)
    return next((text for text in told if isinstance(text, str)), "")


def _mean_probability(scores: _Scores | None) -> float | None:
    """The mean probability of the tokens, 0 to 1."""
    if scores is None or not scores.content:
        return None
    chances = [exp(min(0.0, score.logprob)) for score in scores.content if score.logprob is not None]
    return sum(chances) / len(chances) if chances else None
