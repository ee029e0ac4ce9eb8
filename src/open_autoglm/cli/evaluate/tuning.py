"""A cascade made of an evaluation: curves from one half of the tasks, thresholds from the other, and what they give.

Pure. Invariant: no task that a curve was fitted to takes part in the choice of thresholds, and what is promised of
their error is tested on tasks that did not propose them, see `voting.thresholds`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from math import fsum
from statistics import median
from typing import Any

from msgspec import Struct

from open_autoglm.cli.evaluate.asking import Outcome
from open_autoglm.cli.evaluate.task import Task
from open_autoglm.voting.calibration import Scored, calibration_error, chance, fit, thinned
from open_autoglm.voting.knowledge import Curve
from open_autoglm.voting.thresholds import STEPS_MAX, StepResult, choose_thresholds

TASKS_MIN = 100


class Tuning(Struct, frozen=True):
    """What was found.

    Attributes:
        settings: of a virtual model, as the configuration has them.
        tasks: that all of its members were asked.
        said_error, calibrated_error: expected calibration error by member, on the half that fitted no curve.
        error, error_bound: share of wrong answers there, and at most with 95 % confidence.
        cost, best_cost: money for a task: of the cascade, and of its last member alone.
        deferred: share of the tasks that the first member does not answer.
    """

    settings: dict[str, Any]
    tasks: int
    said_error: dict[str, float]
    calibrated_error: dict[str, float]
    error: float
    error_bound: float
    cost: float
    best_cost: float
    deferred: float


def tune(tasks: Sequence[Task], outcomes: Sequence[Outcome], teams: frozenset[str], error_max: float) -> Tuning:
    """Find the cheapest cascade of the single models whose share of wrong answers is shown to be small.

    Args:
        error_max: above 0 and below 1.

    Raises:
        ValueError: too few tasks or models, no confidence, or none is safe enough; the message says which.
    """
    told = {(each.model, each.task): each for each in outcomes if each.model not in teams}
    models = _by_price([each for each in told.values() if each.confidence is not None])
    if not 2 <= len(models) <= STEPS_MAX:
        raise ValueError(
            f"a cascade needs 2 to {STEPS_MAX} single models that tell their confidence, not {len(models)}"
        )
    asked = [task.id for task in tasks if all((model, task.id) in told for model in models)]
    if len(asked) < TASKS_MIN:
        raise ValueError(f"a cascade needs {TASKS_MIN} tasks that all of its models were asked, not {len(asked)}")
    fitting, choosing = asked[0::2], asked[1::2]
    curves = {model: _curve(model, [told[model, task] for task in fitting]) for model in models}
    log = [[_step(told[model, task], curves[model]) for model in models] for task in choosing]
    chosen = choose_thresholds(log, error_max)
    if chosen is None:
        raise ValueError(
            f"no cascade of {', '.join(models)} is shown to have at most {error_max:.1%} wrong answers: "
            "allow more, ask more tasks, or add a better model"
        )
    scores = {model: [told[model, task] for task in choosing] for model in models}
    return Tuning(
        {
            "strategy": "cascade",
            "members": models,
            "cascade_steps": [[model] for model in models],
            "cascade_samples": 1,
            "thresholds": [round(value, 4) for value in chosen.values],
            "curves": {model: [list(point) for point in _points(curve)] for model, curve in curves.items()},
        },
        len(asked),
        {model: _error(own, None) for model, own in scores.items()},
        {model: _error(own, curves[model]) for model, own in scores.items()},
        chosen.error,
        chosen.error_bound,
        chosen.cost,
        fsum(item[-1].cost for item in log) / len(log),
        chosen.deferred,
    )


def as_yaml(name: str, tuning: Tuning) -> list[str]:
    """Return the lines of a configuration that make the cascade a virtual model; values as JSON, which is YAML too."""
    settings = tuning.settings
    lines = ["cooperation:", f"  {name}:"]
    lines += [f"    {key}: {json.dumps(value)}" for key, value in settings.items() if key != "curves"]
    lines.append("    curves:")
    lines += [f"      {json.dumps(model)}: {json.dumps(points)}" for model, points in settings["curves"].items()]
    return lines


def _by_price(outcomes: Sequence[Outcome]) -> list[str]:
    """The cheapest first; of equally cheap ones the fastest."""
    by_model: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        by_model[each.model].append(each)
    return sorted(
        by_model,
        key=lambda model: (
            fsum(each.cost for each in by_model[model]) / len(by_model[model]),
            median(each.latency_s for each in by_model[model]),
            model,
        ),
    )


def _curve(model: str, outcomes: Sequence[Outcome]) -> Curve:
    log = [Scored(each.confidence, each.right) for each in outcomes if each.confidence is not None]
    if not log:
        raise ValueError(f"{model} tells no confidence")
    return thinned(fit(log, model))


def _step(outcome: Outcome, curve: Curve) -> StepResult:
    """A member that failed, or told no confidence, is passed over."""
    sure = 0.0 if outcome.confidence is None or outcome.failure else chance(curve, outcome.confidence)
    return StepResult(sure, outcome.right, outcome.cost)


def _points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.said, curve.right, strict=True))


def _error(outcomes: Sequence[Outcome], curve: Curve | None) -> float:
    log = [
        Scored(each.confidence if curve is None else chance(curve, each.confidence), each.right)
        for each in outcomes
        if each.confidence is not None
    ]
    return calibration_error(log) if log else 0.0
