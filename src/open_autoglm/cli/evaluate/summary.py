"""Figures of an evaluation: of each model by itself, and of the models together.

What is said of the models together (ceiling, errors in common, a router that knows) is of the tasks that all of them
were asked, and of single models only: a virtual model's errors are its members'.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

from msgspec import Struct

from open_autoglm.cli.evaluate.asking import Outcome
from open_autoglm.cli.evaluate.figures import (
    ceiling,
    interval_95,
    oracle_cost,
    phi,
    quantile,
    ranking,
    same_wrong,
    utilisation,
)
from open_autoglm.cli.evaluate.task import Task
from open_autoglm.voting.calibration import Scored, calibration_error

FAILURES_SHOWN = 5


class Row(Struct, frozen=True):
    """One model.

    Attributes:
        model: its name.
        team: whether it is a virtual model.
        tasks, right, failed: how many; one that failed is not right.
        accuracy, low, high: share that is right, with its 95 % interval.
        p50_ms, p95_ms, p99_ms: of the answers' latencies.
        cost: money, of all answers.
        calls: answers of members, for each task.
        tokens: that were written, for each task.
        members: share of its calls that each member got.
        utilisation: by member, share of the time in which it was at work, 0 to 1: the time that its calls took, divided
            by the time that the questions took, all together, times its slots, the calls of it that were under way at
            once for one question at most. Questions that are asked at once are counted each by itself.
        calibration_error: of the confidence that it told; None where it told none.
        ranking: chance that it was surer of a right answer than of a wrong one; None where that cannot be said.
        by_class: accuracy by class of task.
        failures: the most frequent reasons.
    """

    model: str
    team: bool
    tasks: int
    right: int
    failed: int
    accuracy: float
    low: float
    high: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cost: float
    calls: float
    tokens: float
    members: dict[str, float]
    utilisation: dict[str, float]
    calibration_error: float | None
    ranking: float | None
    by_class: dict[str, float]
    failures: dict[str, int]


class Pair(Struct, frozen=True):
    """Errors of two single models: correlation, and the share of the errors in common that are the same answer."""

    first: str
    second: str
    phi: float | None
    same_wrong: float | None


class Together(Struct, frozen=True):
    """The single models together.

    Attributes:
        tasks: that all of them answered.
        best_single: name of the most accurate one on these.
        best_accuracy: its accuracy on these.
        ceiling: share that some model has right; a router that knew would reach it.
        oracle_cost: what such a router would have paid.
        pairs: errors in common.
    """

    tasks: int
    best_single: str
    best_accuracy: float
    ceiling: float
    oracle_cost: float
    pairs: list[Pair]


class Report(Struct, frozen=True):
    """All figures. `together` is None with fewer than two single models, or no task that all have answered."""

    rows: list[Row]
    together: Together | None
    asked: int
    planned: int


def report_of(tasks: Sequence[Task], outcomes: Sequence[Outcome], teams: frozenset[str], planned: int) -> Report:
    """Make figures of outcomes; models come in the order in which they are named first."""
    kinds = {task.id: task.kind for task in tasks}
    by_model: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_model[outcome.model].append(outcome)
    rows = [_row(model, told, kinds, model in teams) for model, told in by_model.items()]
    singles = {model: told for model, told in by_model.items() if model not in teams}
    return Report(rows, _together(tasks, singles), len(outcomes), planned)


def _row(model: str, told: list[Outcome], kinds: dict[str, str], team: bool) -> Row:
    right = sum(outcome.right for outcome in told)
    answered = [outcome for outcome in told if not outcome.failure]
    latencies_ms = [outcome.latency_s * 1000 for outcome in answered]
    low, high = interval_95(right, len(told))
    p50_ms, p95_ms, p99_ms = (quantile(latencies_ms, share) for share in (0.5, 0.95, 0.99))
    members = Counter[str]()
    classes: dict[str, list[bool]] = defaultdict(list)
    for outcome in told:
        members.update(outcome.members)
        classes[kinds[outcome.task]].append(outcome.right)
    scored = [Scored(outcome.confidence, outcome.right) for outcome in answered if outcome.confidence is not None]
    failures = Counter(outcome.failure for outcome in told if outcome.failure)
    return Row(
        model,
        team,
        len(told),
        right,
        len(told) - len(answered),
        right / len(told),
        low,
        high,
        p50_ms,
        p95_ms,
        p99_ms,
        cost=sum(outcome.cost for outcome in told),
        calls=sum(outcome.calls for outcome in told) / len(told),
        tokens=sum(outcome.completion_tokens for outcome in told) / len(told),
        members={name: count / members.total() for name, count in members.most_common()},
        utilisation=_utilisation(told, members),
        calibration_error=calibration_error(scored) if scored else None,
        ranking=ranking([row.score for row in scored], [row.right for row in scored]),
        by_class={name: sum(hits) / len(hits) for name, hits in sorted(classes.items()) if name},
        failures=dict(failures.most_common(FAILURES_SHOWN)),
    )


def _utilisation(told: Sequence[Outcome], members: Counter[str]) -> dict[str, float]:
    """See `Row`, in the order of the calls; of members whose calls nobody has timed there is nothing to tell."""
    wall_s = sum(outcome.latency_s for outcome in told)
    found = {}
    for name, _ in members.most_common():
        slots = max(outcome.slots.get(name, 0) for outcome in told)
        if slots:
            found[name] = utilisation(sum(outcome.busy.get(name, 0.0) for outcome in told), wall_s, slots)
    return found


def _together(tasks: Sequence[Task], singles: dict[str, list[Outcome]]) -> Together | None:
    answers = {model: {outcome.task: outcome for outcome in told} for model, told in singles.items()}
    common = [task for task in tasks if all(task.id in told for told in answers.values())]
    if len(answers) < 2 or not common:
        return None
    right = {model: [told[task.id].right for task in common] for model, told in answers.items()}
    cost = {model: [told[task.id].cost for task in common] for model, told in answers.items()}
    # What is right is written alike, so that only wrong answers are compared as they stand.
    said = {
        model: [task.answer if told[task.id].right else told[task.id].answer.strip() or "\0" for task in common]
        for model, told in answers.items()
    }
    expected = [task.answer for task in common]
    pairs = [
        Pair(
            first,
            second,
            phi([not hit for hit in right[first]], [not hit for hit in right[second]]),
            same_wrong(said[first], said[second], expected),
        )
        for first, second in combinations(right, 2)
    ]
    best = max(right, key=lambda model: sum(right[model]))
    accuracy = sum(right[best]) / len(common)
    return Together(len(common), best, accuracy, ceiling(right), oracle_cost(right, cost), pairs)
