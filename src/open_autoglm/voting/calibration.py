"""From a score to a chance: curves that are fitted to logs of (score, right), and how far a score is from the truth.

| a curve is fitted | from | by |
|---|---|---|
| smoothly | some tens of answers | a logistic of the score's logit that never falls (Platt 1999), drawn as points |
| freely | about a thousand | pooling adjacent violators (Zadrozny and Elkan 2002); a point for each block |

Invariants: a curve never falls, and never says 0 or 1, because no log is long enough for that; the same log in any
order gives the same curve; one that is written as JSON and read again says the same of every score. Scores are 0 to 1:
a mean token probability, the share of cheap samples that agree, a verifier's mark.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Final

from msgspec import Struct

from open_autoglm.voting.knowledge import Curve
from open_autoglm.voting.settings import TeamSettings

LOG_MAX: Final = 100_000
"""Rows of a log; a longer one is refused: older rows say less of today's model than they cost."""
FREELY_FROM: Final = 1000
"""Rows from which a free curve is better than a smooth one (Niculescu-Mizil and Caruana 2005)."""
_BLOCKS_MAX: Final = 256
_POINTS: Final = 100
_ROUNDS_MAX: Final = 50
_LOGIT_MAX: Final = 9.0
"""Of a score: beyond 0.9999 numbers say more of rounding than of the answer."""


class Scored(Struct, frozen=True, array_like=True):
    """A row of a log: a score, 0 to 1, and whether the answer was right."""

    score: float
    right: bool


class Bin(Struct, frozen=True):
    """A row of a reliability table: of the `count` answers that scored `low` to `high`, what was said and what was."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


def chance(curve: Curve, score: float) -> float:
    """Return the chance that an answer of this score is right by a curve, above 0 and below 1; level at its ends."""
    above = bisect_right(curve.said, score)
    if above == 0:
        return curve.right[0]
    if above == len(curve.said):
        return curve.right[-1]
    low, high = curve.said[above - 1], curve.said[above]
    below = curve.right[above - 1]
    return min(below + (score - low) / (high - low) * (curve.right[above] - below), curve.right[above])


def curves_of(settings: TeamSettings, members: Iterable[str]) -> tuple[Curve, ...]:
    """Return the curves that the settings name, of the settings' class of tasks.

    Raises:
        ValueError: one is of no member, or its points do not rise.
    """
    names = {name for member in members for name in (member, agreement_of(member))}
    curves = []
    for member, points in settings.curves.items():
        if member not in names:
            raise ValueError(f"curves names {member!r}, which is no member")
        if not points or any(len(point) != 2 for point in points):
            raise ValueError(f"the curve of {member!r} must be pairs of a confidence and a chance")
        said, right = tuple(point[0] for point in points), tuple(point[1] for point in points)
        if any(low >= high for low, high in pairwise(said)) or any(low > high for low, high in pairwise(right)):
            raise ValueError(f"the curve of {member!r} must rise, in confidence and in chance")
        curves.append(Curve(member, settings.task_class, said, right))
    return tuple(curves)


def thinned(curve: Curve, error_max: float = 0.005) -> Curve:
    """Return a curve of fewer points, of 4 digits, that says the same but for `error_max` and rounding."""
    last = len(curve.said) - 1
    kept, open_ends = {0, last}, [(0, last)]
    while open_ends:
        low, high = open_ends.pop()
        chord = Curve("", "", (curve.said[low], curve.said[high]), (curve.right[low], curve.right[high]))
        inner = range(low + 1, high)
        far = max(inner, key=lambda at: abs(chance(chord, curve.said[at]) - curve.right[at]), default=low)
        if abs(chance(chord, curve.said[far]) - curve.right[far]) > error_max:
            kept.add(far)
            open_ends += [(low, far), (far, high)]
    points = {round(curve.said[at], 4): round(curve.right[at], 4) for at in sorted(kept)}
    return Curve(curve.member, curve.task_class, tuple(points), tuple(points.values()))


def fit(log: Sequence[Scored], member: str = "", task_class: str = "") -> Curve:
    """Return the curve that suits a log of this length.

    Raises:
        ValueError: the log is empty or too long, or a score is not within 0 to 1.
    """
    return (fit_freely if len(log) >= FREELY_FROM else fit_smoothly)(log, member, task_class)


def fit_smoothly(log: Sequence[Scored], member: str = "", task_class: str = "") -> Curve:
    """Fit by Newton's method, with Platt's targets instead of 0 and 1; a score that misleads gives a level line.

    Raises:
        ValueError: as `fit`.
    """
    _check(log)
    slope, shift = _logistic_fit(log)
    said = tuple(place / _POINTS for place in range(_POINTS + 1))
    return Curve(member, task_class, said, tuple(_logistic(slope * _logit(score) + shift) for score in said))


def fit_freely(log: Sequence[Scored], member: str = "", task_class: str = "") -> Curve:
    """Fit by pooling adjacent violators; each block of equal chance is a point at its mean score.

    Raises:
        ValueError: as `fit`.
    """
    _check(log)
    blocks: list[tuple[float, float, float]] = []  # (count, sum of scores, hits)
    for block in _blocks(log):
        blocks.append(block)
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][0] >= blocks[-1][2] * blocks[-2][0]:
            count, scores, hits = blocks.pop()
            before = blocks.pop()
            blocks.append((before[0] + count, before[1] + scores, before[2] + hits))
    edge = 1 / (len(log) + 2)
    said = tuple(scores / count for count, scores, _ in blocks)
    return Curve(member, task_class, said, tuple(min(max(hits / count, edge), 1 - edge) for count, _, hits in blocks))


def reliability_table(log: Sequence[Scored], bins: int = 10) -> tuple[Bin, ...]:
    """Return what was said and what was, by equal parts of 0 to 1; parts without an answer are left out.

    Raises:
        ValueError: as `fit`, or `bins` is not within 1 to 1000.
    """
    _check(log)
    if not 1 <= bins <= 1000:
        raise ValueError(f"bins must be within 1 to 1000, not {bins!r}")
    filled: dict[int, list[Scored]] = {}
    for row in log:
        filled.setdefault(min(int(row.score * bins), bins - 1), []).append(row)
    return tuple(
        Bin(
            place / bins,
            (place + 1) / bins,
            len(rows),
            math.fsum(row.score for row in rows) / len(rows),
            sum(row.right for row in rows) / len(rows),
        )
        for place, rows in sorted(filled.items())
    )


def calibration_error(log: Sequence[Scored], bins: int = 10) -> float:
    """Return the expected calibration error, 0 to 1: the mean distance of what was said from what was, by bins.

    Raises:
        ValueError: as `reliability_table`.
    """
    table = reliability_table(log, bins)
    return math.fsum(row.count * abs(row.mean_score - row.share_right) for row in table) / len(log)


def agreement_of(member: str) -> str:
    """Return the name under which the curve of a member's agreement with itself is kept, beside its confidence's."""
    return f"{member} agreement"


def self_agreement(answers: Iterable[str]) -> tuple[str, float]:
    """Return what most samples of one model say and their share of all, 0 to 1: a score that needs no probabilities.

    An empty answer is a sample that does not count and agrees with nobody. Of equally frequent ones it is the first.
    """
    answers = list(answers)
    counts = Counter(answer for answer in answers if answer)
    if not counts:
        return "", 0.0
    leader, count = counts.most_common(1)[0]
    return leader, count / len(answers)


def _check(log: Sequence[Scored]) -> None:
    if not 1 <= len(log) <= LOG_MAX:
        raise ValueError(f"a log needs 1 to {LOG_MAX} rows, not {len(log)}")
    for row in log:
        if not 0 <= row.score <= 1:
            raise ValueError(f"a score must be within 0 to 1, not {row.score!r}")


def _blocks(log: Sequence[Scored]) -> list[tuple[float, float, float]]:
    """Equal scores made one block, and in a long log neighbours too."""
    blocks: list[tuple[float, float, float]] = []
    least = len(log) / _BLOCKS_MAX
    for score, rows in groupby(sorted(log, key=lambda row: row.score), key=lambda row: row.score):
        rights = [row.right for row in rows]
        count, scores, hits = float(len(rights)), score * len(rights), float(sum(rights))
        if blocks and blocks[-1][0] < least:
            before = blocks.pop()
            count, scores, hits = count + before[0], scores + before[1], hits + before[2]
        blocks.append((count, scores, hits))
    return blocks


def _logistic_fit(log: Sequence[Scored]) -> tuple[float, float]:
    """Slope, 0 at least, and shift that give the targets the least loss."""
    hits = sum(row.right for row in log)
    high, low = (hits + 1) / (hits + 2), 1 / (len(log) - hits + 2)
    rows = sorted((_logit(row.score), high if row.right else low) for row in log)
    level = _logit(math.fsum(target for _, target in rows) / len(rows))
    slope, shift = 0.0, level
    loss = _loss(rows, slope, shift)
    for _ in range(_ROUNDS_MAX):
        step_slope, step_shift = _newton(rows, slope, shift)
        part, new_loss = 1.0, _loss(rows, slope - step_slope, shift - step_shift)
        while new_loss > loss and part > 1e-6:
            part /= 2
            new_loss = _loss(rows, slope - part * step_slope, shift - part * step_shift)
        gained = loss - new_loss
        if gained <= 1e-12 * len(rows):
            break
        slope, shift, loss = slope - part * step_slope, shift - part * step_shift, new_loss
    return (slope, shift) if slope > 0 else (0.0, level)


def _newton(rows: list[tuple[float, float]], slope: float, shift: float) -> tuple[float, float]:
    """Gradient of the loss by the inverse of its second derivatives; a little is added so that one exists."""
    g_slope = g_shift = h_both = 0.0
    h_slope = h_shift = 1e-9
    for x, target in rows:
        said = _logistic(slope * x + shift)
        wrong, weight = said - target, said * (1 - said)
        g_slope += wrong * x
        g_shift += wrong
        h_slope += weight * x * x
        h_shift += weight
        h_both += weight * x
    determinant = h_slope * h_shift - h_both * h_both
    return (h_shift * g_slope - h_both * g_shift) / determinant, (h_slope * g_shift - h_both * g_slope) / determinant


def _loss(rows: list[tuple[float, float]], slope: float, shift: float) -> float:
    """Cross entropy, by a form that does not overflow."""
    total = 0.0
    for x, target in rows:
        z = slope * x + shift
        total += (max(z, 0.0) - z * target) + math.log1p(math.exp(-abs(z)))
    return total


def _logistic(z: float) -> float:
    z = min(max(z, -_LOGIT_MAX), _LOGIT_MAX)
    return 1 / (1 + math.exp(-z))


def _logit(chance: float) -> float:
    edge = _logistic(-_LOGIT_MAX)
    chance = min(max(chance, edge), 1 - edge)
    return math.log(chance / (1 - chance))
