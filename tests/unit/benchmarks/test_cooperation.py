"""The table of cooperation: how answers are read, how strategies are played, and that the page is the table's."""

from __future__ import annotations

import json
import lzma
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cooperation.answers import ROOT, TABLE, WORDINGS, Run, called, read_runs, worded
from benchmarks.cooperation.page import page
from benchmarks.cooperation.plans import result_of
from benchmarks.cooperation.play import Game, here
from benchmarks.cooperation.recompute import recompute, recomputed
from benchmarks.cooperation.run import PAGE, RESULT, played, single
from benchmarks.cooperation.table import CALIBRATION, Answers, Item, behind_the_network_s, price
from benchmarks.cooperation.tasks import lines
from benchmarks.cooperation.teams import PRODUCTS, SETS, SUBTRACTIONS, TEAMS, maker

from open_autoglm.cli.evaluate.task import read_tasks
from open_autoglm.voting.candidate import Ask, Candidate, Decision

NAMES = ("glm-calc-c", "glm-calc-d", "glm-calc-m")


@pytest.mark.parametrize(
    ("thinking", "answer"),
    [
        ("+ 2608 7310 4308", "808"),
        ("- 8305 4400 7007", "705"),
        ("-- 9702 3617 3300", "28"),
        ("-- 7205 9904", "-5"),
        ("* 8324 2308 2306", "684"),
        ("+算术 4484", ""),
        ("+ 448", ""),
        ("", ""),
    ],
)
def test_the_calculator_computes_what_the_columns_name(thinking: str, answer: str) -> None:
    assert recomputed(thinking) == answer
    assert recompute("", "", thinking) == (answer or None)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ('{"name":"calculator","arguments":{"expression":"12-30"}}', "-18"),
        ('{"name":"weather","arguments":{"city":"Paris"}}', ""),
        ("932", ""),
        ('{"name":"calculator","arguments":{"expression":"12/0"}}', "Division by zero has no answer."),
    ],
)
def test_the_calculator_computes_what_it_is_called_for(call: str, answer: str) -> None:
    assert called(call) == answer


def test_other_words_keep_the_question() -> None:
    for prompt in ("What is 1 + 2?", "从74里减去44还剩多少"):
        texts = {worded(prompt, number) for number in range(1, WORDINGS + 1)}
        assert len(texts | {prompt}) == WORDINGS + 1
        assert all(prompt[1:].rstrip("?？") in text for text in texts)


@pytest.mark.parametrize(
    ("tasks", "answer"),
    [
        ([("1", "53+487", []), ("2", "$1-8506", [1])], "-7966"),
        ([("1", "2+3", []), ("2", "4*5", [])], None),
        ([("1", "2+", [])], None),
        ([("1", "$2+1", [2]), ("2", "1+1", [])], None),
    ],
)
def test_a_plan_of_sums(tasks: list[tuple[str, str, list[int]]], answer: str | None) -> None:
    parts = [
        {"id": int(number), "tool": "calculator", "args": {"expression": expression}, "depends_on": needs}
        for number, expression, needs in tasks
    ]
    assert result_of(json.dumps(parts)) == answer
    assert result_of("no plan") is result_of("[]") is result_of('[{"tool":"search"}]') is None


def run_of(model: str, name: str, count: int, wrong: dict[int, str], ms: int) -> Run:
    """Answers that are right but for some, each after so many milliseconds."""
    answers: list[int | str] = [wrong.get(place, 0) for place in range(count)]
    sure = [2_000 + 10 * ms if place in wrong else 9_900 for place in range(count)]
    return Run(name, model, "greedy", answers, sure, sure, sure, [10] * count, [ms * 1000] * count)


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Three members; of the first item the first two say the same, of the second each says something else."""
    runs = []
    for number, name in enumerate(NAMES):
        wrong = {0: "7"} if number == 2 else {}
        wrong[1] = str(number)
        runs.append(run_of(name, "arithmetic-3", 1500, wrong, 10 * (number + 1)))
        runs.append(run_of(name, "arithmetic-3-calibration", 600, dict.fromkeys(range(number * 7, 100), "x"), 5))
    path = tmp_path / "answers.xz"
    head = {"sets": {"arithmetic-3": "", "arithmetic-3-calibration": ""}}
    path.write_bytes(lzma.compress("\n".join([json.dumps(head), *(json.dumps(asdict(run)) for run in runs)]).encode()))
    return Answers(path)


def team(name: str) -> Any:
    return next(each for each in TEAMS["sums of three digits"] if each.name == name)


def test_a_vote_ends_with_the_second_of_two_that_agree(answers: Answers) -> None:
    [first, second, *_] = answers.items("arithmetic-3")
    make = maker(team("majority of c, d, m"), "arithmetic", answers)
    played = Game(first, answers, here).play(make(0))
    assert played.decision.answer == first.answer
    assert (played.seconds, played.decision.reason) == (pytest.approx(0.02), "decided")
    assert played.calls == dict.fromkeys(NAMES, 1)
    assert played.cost == pytest.approx(sum(price(name, 10) for name in NAMES))
    assert Game(second, answers, here).play(make(0)).seconds == pytest.approx(0.03)


def test_confidence_breaks_a_tie_where_members_tell_it(answers: Answers) -> None:
    item = answers.items("arithmetic-3")[1]  # each says its number, and the last one is the surest
    make = maker(team("majority of c, d, m"), "arithmetic", answers)
    sure, blind = (Game(item, answers, here, sure=told).play(make(0)).decision for told in (True, False))
    assert (sure.answer, sure.tie) == ("2", True)
    assert blind.tie
    assert blind.answer in ("0", "1")  # the cheaper ones


def test_members_are_busy_until_the_decision(answers: Answers) -> None:
    [first, second, *_] = answers.items("arithmetic-3")
    vote = team("majority of c, d, m")
    make = maker(vote, "arithmetic", answers)
    one = Game(first, answers, here).play(make(0))
    assert one.busy == {name: (pytest.approx(ms / 1000), 1) for name, ms in zip(NAMES, (10, 20, 20), strict=True)}
    found = played(vote, [first, second], answers)["utilisation"]
    assert found == {name: pytest.approx(ms / 50) for name, ms in zip(NAMES, (20, 40, 50), strict=True)}


def test_what_is_asked_at_once_takes_a_slot_each(answers: Answers) -> None:
    played = Game(answers.items("arithmetic-3")[5], answers, here).play(Waiting())
    assert played.busy == {NAMES[1]: (pytest.approx(0.02), 1), NAMES[0]: (pytest.approx(0.005), 1)}


class Waiting:
    """Asks one member now and another after 15 ms."""

    decision: Decision | None = None

    def begin(self) -> list[Ask]:
        return [Ask(0, NAMES[1]), Ask(1, NAMES[0], after_s=0.015), Ask(2, NAMES[0], after_s=0.5)]

    def take(self, candidate: Candidate) -> list[Ask]:
        self.decision = Decision(candidate.answer, candidate.ask, 0.0, 1.0, (), "all_in")
        return []

    def stop(self, reason: str) -> None:
        raise AssertionError(reason)


def test_a_question_that_waits_is_asked_in_its_time_or_not_at_all(answers: Answers) -> None:
    item = answers.items("arithmetic-3")[5]
    played = Game(item, answers, here).play(Waiting())
    assert (played.decision.candidate, played.seconds) == (0, pytest.approx(0.02))
    assert played.calls == {NAMES[0]: 1, NAMES[1]: 1}


def test_the_imagined_network_is_always_the_same() -> None:
    item = Item("s", 1, "arithmetic", "1")
    assert behind_the_network_s(item, "glm-nano", 0) == behind_the_network_s(item, "glm-nano", 0)
    assert behind_the_network_s(item, "glm-nano", 0) != behind_the_network_s(item, "glm-nano", 1)


def test_sets_have_the_size_that_is_published_and_no_calibration_in_them() -> None:
    kept = Answers()
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    for tasks, found in zip(SETS, result["sets"], strict=True):
        items = tasks.items(kept)
        assert (tasks.name, tasks.rule, len(items)) == (found["name"], found["rule"], found["items"])
        assert not {item.set for item in items} & {"arithmetic-3-calibration", "intent", "tool", "plan"}
        for row in found["rows"][: len(tasks.singles)]:
            assert single(row["name"], items, kept)["right"] == row["right"]


def test_the_sets_are_written_as_tasks_of_which_the_larger_has_the_smaller(tmp_path: Path) -> None:
    kept = Answers()
    few, many = (list(lines(tasks, kept)) for tasks in (SUBTRACTIONS, PRODUCTS))
    assert (len(few), len(many)) == (len(SUBTRACTIONS.items(kept)), len(PRODUCTS.items(kept)))
    assert set(few) < set(many)
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(many), encoding="utf-8")
    tasks = read_tasks(path)
    assert [task.answer for task in tasks] == [item.answer for item in PRODUCTS.items(kept)]
    assert len({task.id for task in tasks}) == len(tasks)


def test_what_was_served_is_what_was_played_and_its_threshold_is_the_calibration_s() -> None:
    kept = Answers()
    team = json.loads((ROOT / "benchmarks" / "cooperation" / "server.json").read_text())["cooperation"]["recomputed"]
    said = sorted(kept.said(item, "glm-nano").mean for item in kept.items(CALIBRATION["arithmetic"]))
    assert team["thresholds"] == [said[int(0.2 * len(said))], 0.0]
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    for rows, found in zip(result["recomputed"], result["sets"][1:3], strict=True):
        right = {row["name"]: row["right"] for row in found["rows"]}
        assert [row["tasks"] for row in rows] == [found["items"]] * 2
        assert [row["right"] for row in rows] == [right["glm-nano"], right["sums: the least sure recomputed"]]


def test_the_page_is_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULT.read_text(encoding="utf-8")))


def test_the_kept_answers_are_those_of_the_frozen_files() -> None:
    head, runs = read_runs()
    sums = (TABLE.parents[3] / "training" / "heldout" / "SHA256SUMS").read_text()
    assert all(digest in sums for digest in head["sets"].values())
    frozen = (TABLE.parents[3] / "training" / "SHA256SUMS").read_text()
    assert all(digest in frozen for digest in head["models"].values())
    assert TABLE.stat().st_size < 1_000_000
    assert len({(run.set, run.model, run.way) for run in runs}) == len(runs)
