"""The thresholds of a cascade: the cheapest ones whose share of wrong answers is small, by a log apart from all tests.

| half of the log | is for |
|---|---|
| items 0, 2, 4, … | finding the thresholds worth a test: none is both cheaper and safer on this half |
| items 1, 3, 5, … | testing them one after the other, the safest first, up to the first that fails |

Invariant: of all logs of independent items, at most `1 - confidence` lead to thresholds whose true share of wrong
answers is above `error_max`. The test is exact (binomial), and since its order was fixed by the other half no
correction for many tests is due (Angelopoulos et al. 2021, "Learn then Test"; Laufer-Goldshlager et al. 2023). It
holds as long as the items are such as those of the log: choose anew when models or questions change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Final

from msgspec import Struct

STEPS_MAX: Final = 8
LOG_MAX: Final = 20_000
_TRIED_MAX: Final = 400


class StepResult(Struct, frozen=True, array_like=True):
    """What one step of a cascade gives for an item: its confidence, 0 to 1, whether it is right, its money or calls."""

    confidence: float
    right: bool
    cost: float


Item = Sequence[StepResult]
"""Of all steps, those too that would not have been reached."""


class Thresholds(Struct, frozen=True):
    """What was chosen, and what it gives on the whole log.

    Attributes:
        values: one for each step; an answer is taken from this confidence on. The last is 0 without abstaining.
        cost: mean of an item, that of abstaining included.
        answered: share of the items, 0 to 1.
        error: share of the answered ones that are wrong.
        error_bound: the same, at most, with the confidence asked for, by the half that tested it.
        deferred: share of the items that the first step did not answer.
    """

    values: tuple[float, ...]
    cost: float
    answered: float
    error: float
    error_bound: float
    deferred: float


class _Tally(Struct, frozen=True):
    answered: int
    wrong: int
    cost: float


def choose_thresholds(
    log: Sequence[Item], error_max: float, *, confidence: float = 0.95, abstain_cost: float | None = None
) -> Thresholds | None:
    """Return the cheapest thresholds that keep the share of wrong answers, None where none can be shown to.

    Args:
        log: 20 items at least, in an order that means nothing, each with the same 1 to 8 steps.
        error_max: of the answered items, above 0 and below 1.
        confidence: above 0 and below 1.
        abstain_cost: of an item that is left without an answer, as when a person looks at it; None: none is left.

    Raises:
        ValueError: something of that is not so.
    """
    _check(log, error_max, confidence)
    abstaining = abstain_cost or 0.0
    finding, testing = log[0::2], log[1::2]
    passed: list[tuple[float, tuple[float, ...]]] = []
    for values in _worth_testing(finding, _tried(finding, abstain_cost is not None), error_max, abstaining):
        tally = _tally(testing, values, abstaining)
        if not tally.answered or binomial_below(tally.wrong, tally.answered, error_max) > 1 - confidence:
            break
        passed.append((_tally(log, values, abstaining).cost, values))
    if not passed:
        return None
    _, values = min(passed)
    whole, tested = _tally(log, values, abstaining), _tally(testing, values, abstaining)
    return Thresholds(
        values,
        whole.cost / len(log),
        whole.answered / len(log),
        whole.wrong / whole.answered,
        error_bound(tested.wrong, tested.answered, confidence),
        sum(item[0].confidence < values[0] for item in log) / len(log),
    )


def walk(item: Item, values: Sequence[float]) -> tuple[StepResult | None, float]:
    """Return the step that answers an item, None for none, and the cost of all that were asked."""
    cost = 0.0
    for step, least in zip(item, values, strict=True):
        cost += step.cost
        if step.confidence >= least:
            return step, cost
    return None, cost


def error_bound(wrong: int, count: int, confidence: float = 0.95) -> float:
    """Return the share of errors that is not exceeded, with this confidence (Clopper and Pearson 1934, one side).

    Raises:
        ValueError: `wrong` is not within 0 to `count`, or `confidence` is not between 0 and 1.
    """
    if not 0 <= wrong <= count or not 0 < confidence < 1:
        raise ValueError(f"no bound for {wrong!r} of {count!r} with confidence {confidence!r}")
    if wrong == count:
        return 1.0
    low, high = wrong / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_below(wrong, count, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def binomial_below(wrong: int, count: int, share: float) -> float:
    """Return the chance of at most `wrong` errors among `count` where each has the chance `share`, above 0, below 1."""
    if wrong >= count:
        return 1.0
    odds = share / (1 - share)
    above = wrong >= count * share  # terms fall from here on towards the nearer end: that side is added up
    errors = wrong + 1 if above else wrong
    term = total = math.exp(
        math.lgamma(count + 1)
        - math.lgamma(errors + 1)
        - math.lgamma(count - errors + 1)
        + errors * math.log(share)
        + (count - errors) * math.log1p(-share)
    )
    while term > total * 1e-17 and 0 < errors < count:
        if above:
            term *= (count - errors) / (errors + 1) * odds
            errors += 1
        else:
            term *= errors / (count - errors + 1) / odds
            errors -= 1
        total += term
    return 1 - total if above else total


def _check(log: Sequence[Item], error_max: float, confidence: float) -> None:
    if not 20 <= len(log) <= LOG_MAX:
        raise ValueError(f"thresholds need a log of 20 to {LOG_MAX} items, not {len(log)}")
    if not 0 < error_max < 1 or not 0 < confidence < 1:
        raise ValueError(f"error and confidence must be between 0 and 1, not {error_max!r} and {confidence!r}")
    if not 1 <= len(log[0]) <= STEPS_MAX or any(len(item) != len(log[0]) for item in log):
        raise ValueError(f"each item needs the same 1 to {STEPS_MAX} steps")


def _tried(log: Sequence[Item], abstain: bool) -> list[tuple[float, ...]]:
    """Combinations of the steps' quantiles, never accepting (1) among them."""
    steps = len(log[0])
    free = steps if abstain else steps - 1
    each = max(int(_TRIED_MAX ** (1 / free)), 2) if free else 1
    grids: list[list[float]] = []
    for place in range(free):
        scores = sorted(item[place].confidence for item in log)
        quantiles = {scores[len(scores) * part // max(each - 1, 1)] for part in range(each - 1)}
        grids.append(sorted(quantiles | {1.0}))
    if not abstain:
        grids.append([0.0])
    return list(product(*grids))


def _worth_testing(
    log: Sequence[Item], tried: Sequence[tuple[float, ...]], error_max: float, abstain_cost: float
) -> list[tuple[float, ...]]:
    """Those that no other is both cheaper and safer than, the safest first."""
    rated = []
    for values in tried:
        tally = _tally(log, values, abstain_cost)
        if tally.answered:
            doubt = binomial_below(tally.wrong, tally.answered, error_max)
            rated.append((doubt, tally.cost, values))
    chosen: list[tuple[float, ...]] = []
    cheapest = math.inf
    for _, cost, values in sorted(rated):
        if cost < cheapest:
            cheapest = cost
            chosen.append(values)
    return chosen


def _tally(log: Sequence[Item], values: Sequence[float], abstain_cost: float) -> _Tally:
    answered = wrong = 0
    total = 0.0
    for item in log:
        step, cost = walk(item, values)
        total += cost
        if step is None:
            total += abstain_cost
        else:
            answered += 1
            wrong += not step.right
    return _Tally(answered, wrong, total)
