"""Thresholds that keep the share of wrong answers small, on items that they were not chosen on."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.voting.thresholds import (
    StepResult,
    Thresholds,
    binomial_below,
    choose_thresholds,
    error_bound,
    walk,
)


def items(count: int, seed: int) -> list[tuple[StepResult, StepResult]]:
    """A cheap step that more or less knows what it knows, and a dear one that is right in 97 of 100."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        ease = rng.random() ** 0.3
        felt = min(max(ease + rng.gauss(0, 0.1), 0.0), 1.0)
        made.append((StepResult(felt, rng.random() < ease, 1.0), StepResult(0.9, rng.random() < 0.97, 10.0)))
    return made


def error_of(chosen: Thresholds, log: list[tuple[StepResult, StepResult]]) -> float:
    steps = [step for step in (walk(item, chosen.values)[0] for item in log) if step is not None]
    return sum(not step.right for step in steps) / len(steps)


@given(count=st.integers(1, 300), share=st.floats(0.001, 0.999), data=st.data())
def test_the_binomial_is_exact(count: int, share: float, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, count))
    exact = math.fsum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(wrong + 1))
    assert binomial_below(wrong, count, share) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert error_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert error_bound(3, 100) == pytest.approx(0.07571, abs=1e-5)
    assert error_bound(5, 5) == 1.0
    assert error_bound(0, 0) == 1.0
    for wrong, count, confidence in ((-1, 5, 0.9), (6, 5, 0.9), (1, 5, 1.0)):
        with pytest.raises(ValueError, match="no bound"):
            error_bound(wrong, count, confidence)


def test_fresh_items_keep_the_error_as_often_as_promised() -> None:
    fresh = items(4000, seed=-1)
    broken = chosen_at_all = 0
    costs = []
    for seed in range(25):
        chosen = choose_thresholds(items(500, seed), 0.08, confidence=0.9)
        if chosen is not None:
            chosen_at_all += 1
            broken += error_of(chosen, fresh) > 0.08
            costs.append(chosen.cost)
            assert chosen.error_bound <= 0.08
    assert chosen_at_all > 15, "it is a bound that can be kept"
    assert broken <= 5
    assert sum(costs) / len(costs) < 8, "and it is cheaper than always asking the dear one, which costs 10"


def test_what_no_threshold_keeps_is_not_promised() -> None:
    assert choose_thresholds(items(600, 1), 0.001) is None
    assert choose_thresholds(items(40, 1), 0.05) is None, "so few items show nothing"


def test_abstaining_keeps_an_error_that_answering_all_cannot() -> None:
    rng = random.Random(3)
    log = [(StepResult(score, rng.random() < score, 1.0),) for score in (rng.random() for _ in range(2000))]
    assert choose_thresholds(log, 0.2) is None
    chosen = choose_thresholds(log, 0.2, abstain_cost=20.0)
    assert chosen is not None
    assert 0.2 < chosen.answered < 0.7
    assert chosen.cost == pytest.approx(1 + 20 * (1 - chosen.answered))
    assert chosen.error <= 0.2
    assert chosen.deferred == pytest.approx(1 - chosen.answered)


def test_a_cheap_step_that_is_always_right_is_taken_alone() -> None:
    log = [(StepResult(0.7, True, 1.0), StepResult(0.9, True, 10.0))] * 400
    chosen = choose_thresholds(log, 0.05)
    assert chosen is not None
    assert (chosen.cost, chosen.deferred, chosen.error) == (1.0, 0.0, 0.0)
    assert walk(log[0], chosen.values) == (log[0][0], 1.0)


def test_a_walk_ends_at_the_first_step_that_is_sure() -> None:
    item = (StepResult(0.5, False, 1.0), StepResult(0.7, True, 4.0))
    assert walk(item, (0.5, 0.0)) == (item[0], 1.0)
    assert walk(item, (0.6, 0.0)) == (item[1], 5.0)
    assert walk(item, (0.6, 0.8)) == (None, 5.0)


@pytest.mark.parametrize(
    ("log", "error_max", "confidence"),
    [
        (items(19, 1), 0.05, 0.95),
        (items(50, 1), 0.0, 0.95),
        (items(50, 1), 0.05, 1.0),
        ([*items(50, 1), (StepResult(0.5, True, 1.0),)], 0.05, 0.95),
        ([()] * 50, 0.05, 0.95),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(log, error_max: float, confidence: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        choose_thresholds(log, error_max, confidence=confidence)
