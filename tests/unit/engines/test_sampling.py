"""Sampling: greedy, repeatable, held to the nucleus, held to what is allowed."""

from __future__ import annotations

import random

import numpy as np

from open_autoglm.engines.sampling import restrict, sample

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def drawn(temperature: float, top_p: float, count: int = 4000) -> list[float]:
    source = random.Random(1)
    found = [sample(LOGITS, temperature, top_p, source) for _ in range(count)]
    return [found.count(token) / count for token in range(4)]


def test_temperature_zero_takes_the_most_likely_and_draws_nothing() -> None:
    source = random.Random(1)
    before = source.getstate()
    assert sample(LOGITS, 0.0, 1.0, source) == 0
    assert source.getstate() == before


def test_temperature_one_draws_by_probability() -> None:
    assert np.abs(np.array(drawn(1.0, 1.0)) - np.array([0.5, 0.3, 0.15, 0.05])).max() < 0.03


def test_a_low_temperature_sharpens() -> None:
    assert drawn(0.1, 1.0)[0] > 0.98


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    shares = drawn(1.0, 0.7)
    assert shares[2] == shares[3] == 0
    assert abs(shares[0] - 0.625) < 0.03
    assert drawn(1.0, 0.01)[0] == 1.0


def test_the_same_seed_draws_the_same() -> None:
    assert drawn(1.0, 0.9, 50) == drawn(1.0, 0.9, 50)


def test_restricting_leaves_only_what_is_allowed() -> None:
    logits = LOGITS.copy()
    restrict(logits, frozenset((2, 3)))
    assert int(logits.argmax()) == 2
    assert np.isneginf(logits[:2]).all()
    source = random.Random(1)
    assert {sample(logits, 1.0, 1.0, source) for _ in range(200)} == {2, 3}
