"""Log-probabilities of an answer's tokens: `logprobs` and `top_logprobs` of a chat completion, and what comes of them.

`choices[].logprobs.content` has an entry for every token that the model wrote, in order: thinking too, between its
marks `<think>` and `</think>`, because that is where a small model shows that it is unsure; the mark that ends an
answer is left out. Source of the form: OpenAI's API reference, chat completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Raw

from open_autoglm.dialects.canonical import InferRequest, TokenScore
from open_autoglm.errors import RequestError

TOP_MAX: Final = 5
"""The likeliest tokens that are told with each; OpenAI tells up to 20."""
SCORES_MAX: Final = 1 << 20
"""Entries that are read from another server's answer."""


def top_logprobs(request: InferRequest) -> int | None:
    """How many of the likeliest tokens a chat completion wants told with each; None when it wants no figures at all.

    Raises:
        RequestError: `invalid_request`: a value is none of those that there are.
    """
    wanted, top = _plain(request.extra.get("logprobs")), _plain(request.extra.get("top_logprobs"))
    if wanted is not None and not isinstance(wanted, bool):
        raise _refusal(request, "logprobs", wanted, "true or false")
    if top is None:
        return 0 if wanted else None
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= TOP_MAX:
        raise _refusal(request, "top_logprobs", top, f"a whole number, 0 to {TOP_MAX}")
    if top and not wanted:
        raise _refusal(request, "top_logprobs", top, "left out unless logprobs is true")
    return top if wanted else None


def logprobs_field(scores: Sequence[TokenScore]) -> dict[str, Any] | None:
    """A choice's `logprobs`; None when nothing is known."""
    if not scores:
        return None
    return {
        "content": [
            {**_entry(score.spelled, score.logprob), "top_logprobs": [_entry(*other) for other in score.top]}
            for score in scores
        ],
        "refusal": None,
    }


def read_scores(field: Any) -> list[TokenScore]:
    """What `logprobs_field` wrote, read again; empty for anything else."""
    content = field.get("content") if isinstance(field, dict) else None
    if not isinstance(content, list):
        return []
    scores = []
    for entry in content[:SCORES_MAX]:
        read = _read(entry)
        if read is None:
            return []
        others = entry.get("top_logprobs")
        top = [_read(other) for other in others] if isinstance(others, list) else []
        scores.append(TokenScore(*read, top=tuple(other for other in top[:TOP_MAX] if other is not None)))
    return scores


def _entry(spelled: bytes, logprob: float) -> dict[str, Any]:
    return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelled)}


def _read(entry: Any) -> tuple[bytes, float] | None:
    if not isinstance(entry, dict):
        return None
    token, logprob, spelled = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(token, str) or not isinstance(logprob, int | float) or isinstance(logprob, bool):
        return None
    try:
        told = bytes(spelled) if isinstance(spelled, list) else token.encode("utf-8", "replace")
        figure = float(logprob)
    except (TypeError, ValueError, OverflowError):
        return None
    return (told, min(0.0, figure)) if isfinite(figure) else None


def _plain(raw: Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def _refusal(request: InferRequest, name: str, value: Any, allowed: str) -> RequestError:
    param = request.prefix + name
    return RequestError("invalid_request", f"{param} is {str(value)!r:.40}; it must be {allowed}", param=param)
