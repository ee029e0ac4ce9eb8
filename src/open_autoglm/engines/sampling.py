"""Choosing tokens from logits: greedy for whole batches, temperature and nucleus for single rows."""

from __future__ import annotations

import random

import numpy as np

from open_autoglm.engines.embedded.weights import Array


def restrict(logits: Array, allowed: frozenset[int]) -> None:
    """Makes every token of `logits (vocabulary,)` but the allowed ones impossible, in place."""
    kept = np.fromiter(allowed, np.int64, len(allowed))
    values = logits[kept]
    logits.fill(-np.inf)
    logits[kept] = values


def sample(logits: Array, temperature: float, top_p: float, source: random.Random) -> int:
    """One token, drawn from the smallest set of tokens that holds `top_p` of the probability.

    Args:
        logits: `(vocabulary,)`, at least one of them finite.
        temperature: 0 takes the most likely token.
        top_p: above 0, at most 1.
        source: randomness; exactly one number is drawn, and none at temperature 0.
    """
    if temperature <= 0.0:
        return int(logits.argmax())
    scaled = (logits.astype(np.float64) - float(logits.max())) / max(temperature, 1e-4)
    order = np.argsort(-scaled, kind="stable")
    weights = np.exp(scaled[order])
    total = np.cumsum(weights)
    kept = int(np.searchsorted(total, top_p * total[-1])) + 1
    kept = min(kept, len(total))
    place = int(np.searchsorted(total[:kept], source.random() * total[kept - 1], side="right"))
    return int(order[min(place, kept - 1)])
