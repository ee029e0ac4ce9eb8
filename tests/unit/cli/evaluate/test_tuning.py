"""From an evaluation to a cascade that keeps what it promises, as a configuration that is understood."""

import random

import pytest

from open_autoglm.cli.evaluate.asking import Outcome
from open_autoglm.cli.evaluate.task import Task
from open_autoglm.cli.evaluate.tuning import TASKS_MIN, as_yaml, tune
from open_autoglm.config import parse_config

TASKS = [Task(str(number), [], "", "exact") for number in range(2000)]


def said(task: Task, model: str, right: bool, confidence: float | None, cost: float) -> Outcome:
    return Outcome(model, task.id, "", "x", right, cost=cost, confidence=confidence, latency_s=1.0)


def evaluation(seed: int, tasks: list[Task] = TASKS) -> list[Outcome]:
    """A cheap model that boasts, and a dear one that is right in 97 of 100."""
    rng = random.Random(seed)
    outcomes = []
    for task in tasks:
        ease = rng.random() ** 0.3
        outcomes.append(said(task, "cheap", rng.random() < ease, max(ease, 0.01) ** 0.25, 1.0))
        outcomes.append(said(task, "dear", rng.random() < 0.97, 0.98, 10.0))
    return outcomes


def test_it_finds_a_cascade_that_is_cheaper_and_as_safe_as_asked() -> None:
    tuning = tune(TASKS, evaluation(1), frozenset(), 0.08)
    assert tuning.settings["members"] == ["cheap", "dear"]
    assert tuning.error <= tuning.error_bound <= 0.08
    assert tuning.cost < tuning.best_cost == 10.0
    assert 0 < tuning.deferred < 1
    assert tuning.calibrated_error["cheap"] < 0.05 < tuning.said_error["cheap"]


def test_its_configuration_is_understood() -> None:
    models = "models:\n" + "".join(
        f"  - {{name: {name}, endpoint: http://127.0.0.1:900{port}/v1}}\n"
        for port, name in enumerate(("cheap", "dear"))
    )
    text = models + "\n".join(as_yaml("team", tune(TASKS, evaluation(1), frozenset(), 0.08))) + "\n"
    loaded = parse_config(text, source="team.yaml", environ={}, trusted=True)
    entry = loaded.config.cooperation["team"]
    assert entry.strategy == "cascade"
    assert list(entry.curves) == ["cheap", "dear"]
    assert len(entry.thresholds) == 2


def test_teams_are_no_members_and_failures_are_passed_over() -> None:
    outcomes = evaluation(2)
    outcomes += [said(task, "team", True, 1.0, 0.0) for task in TASKS]
    outcomes[0] = Outcome("cheap", "0", "", failure="timeout")
    assert tune(TASKS, outcomes, frozenset({"team"}), 0.08).settings["members"] == ["cheap", "dear"]


@pytest.mark.parametrize(
    ("outcomes", "error_max", "message"),
    [
        (evaluation(1), 0.001, "at most 0.1% wrong"),
        (evaluation(1, TASKS[: TASKS_MIN - 1]), 0.1, "needs 100 tasks"),
        ([each for each in evaluation(1) if each.model == "dear"], 0.1, "not 1"),
        ([Outcome(each.model, each.task, "", "x", True) for each in evaluation(1)], 0.1, "not 0"),
    ],
)
def test_what_is_lacking_is_said(outcomes: list[Outcome], error_max: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(TASKS, outcomes, frozenset(), error_max)
