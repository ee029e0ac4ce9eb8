"""How likely a model held each token that it wrote, for requests that ask for it.

The figures are the model's own: of its whole vocabulary, before temperature, nucleus and constraint have a say. A token
that a constraint forced upon the model therefore shows how little the model would have had it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from open_autoglm.engines.events import FinishReason, GenerateEvent, TokenScore
from open_autoglm.engines.step_model import Logits, Reader

LOGPROB_LEAST: Final = -9999.0
"""Stands for anything less likely, since JSON has no infinity; OpenAI's API uses the same number."""


class ScoredReader:
    """A `Reader` that says of each token how likely it was, before what the token says.

    Args:
        reader: of the answer.
        spell: gives the bytes of a token.
        top: how many of the likeliest tokens are told beside the one that was chosen, 0 to 5.
    """

    __slots__ = ("_logits", "_reader", "_spell", "_top")

    def __init__(self, reader: Reader, spell: Callable[[int], bytes], top: int) -> None:
        self._reader = reader
        self._spell = spell
        self._top = top
        self._logits: NDArray[np.float64] = np.zeros(0)

    @property
    def stopped(self) -> bool:
        """See `Reader`."""
        return self._reader.stopped

    def look(self, logits: Logits) -> None:
        """Keep the logits `(vocabulary,)` that the next token is chosen from; they may be overwritten afterwards."""
        self._logits = logits.astype(np.float64)

    def push(self, token: int) -> list[GenerateEvent]:
        """See `Reader`."""
        return [self._score(token), *self._reader.push(token)]

    def finish(self, reason: FinishReason) -> list[GenerateEvent]:
        """See `Reader`."""
        return self._reader.finish(reason)

    def _score(self, token: int) -> TokenScore:
        logits = self._logits
        most = float(logits.max())
        total = most + float(np.log(np.exp(logits - most).sum()))
        likeliest = np.argsort(-logits, kind="stable")[: self._top].tolist()
        top = tuple((self._spell(other), _bounded(logits[other] - total)) for other in likeliest)
        return TokenScore(self._spell(token), _bounded(logits[token] - total), top)


def _bounded(logprob: float) -> float:
    """A finite number, at most 0; what is no number is as unlikely as can be said."""
    return min(0.0, float(logprob)) if logprob > LOGPROB_LEAST else LOGPROB_LEAST
