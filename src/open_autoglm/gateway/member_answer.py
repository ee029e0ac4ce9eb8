"""What a team needs of a member's answer, read from the body of a chat completion."""

from __future__ import annotations

from math import exp, isfinite

import msgspec
from msgspec import Struct, field


class _TokenScore(Struct, gc=False):
    logprob: float | None = None


class _Scores(Struct, gc=False):
    content: list[_TokenScore] | None = None


class _Message(Struct, gc=False):
    content: str | None = None


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


class MemberAnswer(Struct, frozen=True):
    """Of the answer's first choice.

    Attributes:
        text: its content.
        finish_reason: `stop` where it says none.
        prompt_tokens, completion_tokens: -1 where it does not say.
        cost: that it says itself, 0.0 for none.
        confidence: mean probability of its tokens; None without log probabilities.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost: float
    confidence: float | None


_answers = msgspec.json.Decoder(_Answer, strict=False)


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
    )


def _mean_probability(scores: _Scores | None) -> float | None:
    """The mean probability of the tokens, 0 to 1."""
    if scores is None or not scores.content:
        return None
    chances = [exp(min(0.0, score.logprob)) for score in scores.content if score.logprob is not None]
    return sum(chances) / len(chances) if chances else None
