"""Statistics of answers: shares with intervals, correlations of errors, bounds that no team of the same models passes.

Pure. Use of capacity is told by spans of time. Sources: Wilson (1927) for intervals of shares; Yule (1912) for phi.
Calibration is in `voting.calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Z_95 = 1.959964
"""Of the normal distribution, two-sided 95 %."""


def interval_95(hits: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share, 0 to 1.

    Raises:
        ValueError: `hits` is not 0 to `count`, or nothing was counted.
    """
    if not 0 <= hits <= count or not count:
        raise ValueError(f"{hits} of {count} is no share")
    share = hits / count
    middle = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) / (1 + Z_95**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def phi(one: Sequence[bool], two: Sequence[bool]) -> float | None:
    """Correlation of two rows of yes and no, -1 to 1; None when one of them never changes."""
    count = len(one)
    first, second = sum(one), sum(two)
    both = sum(a and b for a, b in zip(one, two, strict=True))
    spread = first * (count - first) * second * (count - second)
    return (count * both - first * second) / math.sqrt(spread) if spread else None


def same_wrong(one: Sequence[str], two: Sequence[str], right: Sequence[str]) -> float | None:
    """Of the items that both have wrong, the share that they have wrong alike; None when there is no such item."""
    wrong = [(a, b) for a, b, answer in zip(one, two, right, strict=True) if a != answer and b != answer]
    return sum(a == b for a, b in wrong) / len(wrong) if wrong else None


def ranking(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Chance that a right answer scores higher than a wrong one, a tie being half of one; None where all are alike.

    It is the area under the ROC curve, which says what scores are good for in a cascade: 1 sorts all errors to the end,
    0.5 is no better than drawing lots.
    """
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    hits = sum(right)
    if not hits or hits == len(right):
        return None
    ranks, place = 0.0, 0
    while place < len(order):
        end = place
        while end < len(order) and scores[order[end]] == scores[order[place]]:
            end += 1
        ranks += sum(right[index] for index in order[place:end]) * (place + end + 1) / 2
        place = end
    return (ranks - hits * (hits + 1) / 2) / (hits * (len(right) - hits))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that a share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(max(math.ceil(share * len(ordered)) - 1, 0), len(ordered) - 1)] if ordered else 0.0


def ceiling(right: Mapping[str, Sequence[bool]]) -> float:
    """Share of the items that some model has right; who only chooses among their answers gets no further.

    Raises:
        ValueError: there is no item.
    """
    someone = [any(row) for row in zip(*right.values(), strict=True)]
    if not someone:
        raise ValueError("of no items there is no ceiling")
    return sum(someone) / len(someone)


def oracle_cost(right: Mapping[str, Sequence[bool]], cost: Mapping[str, Sequence[float]]) -> float:
    """Money of a router that knows: each item goes to the cheapest model that has it right, else to the cheapest.

    Args:
        right: of each model, whether it has each item right.
        cost: of each model, what it takes for each item.
    """
    total = 0.0
    for place in range(len(next(iter(right.values()), ()))):
        fitting = [name for name in right if right[name][place]] or list(right)
        total += min(cost[name][place] for name in fitting)
    return total


def busy_of(spans: Iterable[tuple[float, float]]) -> tuple[float, int]:
    """How long calls took, all together, and how many of them were under way at once at most.

    Args:
        spans: beginning and end of each call, in one unit; one that ends where another begins is not at once with it.
    """
    told = list(spans)
    steps = sorted([(end, -1) for _, end in told] + [(begin, 1) for begin, _ in told])
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return math.fsum(end - begin for begin, end in told), max(most, 1 if told else 0)


def utilisation(busy_s: float, wall_s: float, slots: int) -> float:
    """Share of the time in which calls were under way, 0 to 1.

    Args:
        busy_s: that calls took, all together.
        wall_s: for which there could have been calls; of several questions at once the sum of their times.
        slots: calls that could be under way at once for one question.
    """
    return min(1.0, busy_s / (wall_s * slots)) if wall_s > 0 and slots > 0 else 0.0
