"""Figures of models together, and their picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from open_autoglm.cli.evaluate.asking import Outcome
from open_autoglm.cli.evaluate.picture import draw
from open_autoglm.cli.evaluate.summary import Report, report_of
from open_autoglm.cli.evaluate.task import Task

TASKS = [Task(f"t{number}", [], "1", "number", "odd" if number % 2 else "even") for number in range(4)]


def said(model: str, *answers: str, cost: float = 1.0, **fields: object) -> list[Outcome]:
    return [
        Outcome(model, task.id, "d", answer, answer == "1", latency_s=0.01, cost=cost, **fields)  # type: ignore[arg-type]
        for task, answer in zip(TASKS, answers, strict=False)
    ]


def report() -> Report:
    outcomes = [
        *said("dear", "1", "1", "1", "2", cost=3.0),
        *said("cheap & <small>", "1", "2", "1", "2", confidence=0.75),
        *said("team", "1", "1", "1", "1", calls=2, members={"dear": 1, "cheap": 1}),
    ]
    return report_of(TASKS, outcomes, frozenset({"team"}), 12)


def test_each_model() -> None:
    dear, cheap, team = report().rows
    assert (dear.accuracy, dear.cost, dear.calls, dear.p50_ms, dear.team) == (0.75, 12.0, 1.0, 10.0, False)
    assert (dear.calibration_error, dear.ranking) == (None, None)
    assert (cheap.calibration_error, cheap.ranking) == (0.25, 0.5)
    assert dear.by_class == {"even": 1.0, "odd": 0.5}
    assert (team.accuracy, team.calls, team.members, team.team) == (1.0, 2.0, {"dear": 0.5, "cheap": 0.5}, True)


def test_the_single_models_together() -> None:
    together = report().together
    assert together is not None
    assert (together.tasks, together.best_single, together.best_accuracy) == (4, "dear", 0.75)
    assert (together.ceiling, together.oracle_cost) == (0.75, 1 + 3 + 1 + 1)
    [pair] = together.pairs
    assert pair.phi == pytest.approx((1 * 2 - 0 * 1) / (1 * 3 * 2 * 2) ** 0.5)
    assert pair.same_wrong == 1.0


def test_use_of_members_is_of_the_time_that_the_questions_took() -> None:
    fields = {"members": {"a": 2, "b": 1}, "slots": {"a": 2, "b": 1}, "busy": {"a": 0.012, "b": 0.0025}}
    once = said("team", "1", "1", **fields)
    idle = [Outcome("team", "t3", "d", failure="503", latency_s=0.02)]
    [row] = report_of(TASKS, [*once, *idle], frozenset({"team"}), 4).rows
    assert row.utilisation == {"a": pytest.approx(0.024 / (0.04 * 2)), "b": pytest.approx(0.005 / 0.04)}
    assert [each.utilisation for each in report().rows] == [{}, {}, {}]


def test_what_was_not_answered_is_wrong_and_told() -> None:
    outcomes = [*said("a", "1", "1"), Outcome("a", "t2", "d", failure="503 busy", latency_s=9.0)]
    made = report_of(TASKS, outcomes, frozenset(), 4)
    [row] = made.rows
    assert (row.accuracy, row.failed, row.failures, row.p99_ms) == (pytest.approx(2 / 3), 1, {"503 busy": 1}, 10.0)
    assert (made.together, made.asked, made.planned) == (None, 3, 4)


def test_tasks_that_only_some_were_asked_do_not_count_together() -> None:
    together = report_of(TASKS, [*said("a", "1", "2", "1"), *said("b", "2", "1")], frozenset(), 8).together
    assert together is not None
    assert (together.tasks, together.ceiling, together.best_accuracy) == (2, 1.0, 0.5)


def test_the_picture_is_well_formed_and_names_every_model() -> None:
    picture = draw(report())
    texts = [element.text or "" for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]
    assert {"dear", "cheap & <small>", "team", "100.0 %, 10 ms", "someone is right"} <= set(texts)
    assert picture == draw(report())
    strange = report_of(TASKS, said("a\x1b\x00", "1", "2"), frozenset(), 2)
    assert "a\\x1b\\x00" in ElementTree.tostring(ElementTree.fromstring(draw(strange)), encoding="unicode")
