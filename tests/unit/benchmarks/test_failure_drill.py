"""The drill with members that fail: what counts as a fault, and that the page is the result's."""

from __future__ import annotations

import json

import pytest
from benchmarks.cooperation.failure_drill import DEADLINE_MS, RESULT, TEAMS, Heard, account, faults
from benchmarks.cooperation.failure_drill_cast import PHASES, total
from benchmarks.cooperation.failure_drill_page import PAGE, page

from open_autoglm.telemetry.run_view import AskView, RunView

QUESTION = "What is 123 + 456?"


def run(dead: AskView, wrong: AskView) -> RunView:
    """A run that decided for A."""
    good = AskView(2, "team.one", outcome="won", letter="A")
    return RunView("r", reason="decided", letter="A", asks=[dead, wrong, good])


DEAD = AskView(0, "team.dead", outcome="failed", why="upstream_error")
WRONG = AskView(1, "team.wrong", outcome="vote", letter="B")
HEARD = Heard(QUESTION, "r", "579", 100.0)


def found(heard: Heard, view: RunView) -> list[str]:
    return faults("refused", [heard], [view], [account(view)])


def test_a_run_that_names_its_culprits_is_no_fault() -> None:
    assert total(QUESTION) == 579
    assert account(run(DEAD, WRONG)) == {"dead": "failed, upstream_error", "wrong": "outvoted", "slow": "not asked"}
    assert found(HEARD, run(DEAD, WRONG)) == []


@pytest.mark.parametrize(
    ("heard", "dead", "wrong", "words"),
    [
        (Heard(QUESTION, "r", "580", 1.0), DEAD, WRONG, "'580' in run r"),
        (Heard(QUESTION, "r", "579", DEADLINE_MS + 1.0), DEAD, WRONG, "took 4001 ms"),
        (HEARD, AskView(0, "team.dead", outcome="vote", letter="A"), WRONG, "the one that is dead: agreed"),
        (HEARD, DEAD, AskView(1, "team.wrong", outcome="vote", letter="A"), "the one that is wrong: agreed"),
        (HEARD, AskView(0, "team.other"), WRONG, "names the one that is dead in no run"),
    ],
)
def test_what_is_not_as_it_must_be_is_found(heard: Heard, dead: AskView, wrong: AskView, words: str) -> None:
    assert any(words in fault for fault in found(heard, run(dead, wrong)))


def test_the_page_has_what_was_measured_and_nothing_was_at_fault() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert result["faults"] == []
    assert [(row["team"], row["phase"]) for row in result["rows"]] == [(t, p) for t in TEAMS for p in PHASES]
    assert page(result) == PAGE.read_text(encoding="utf-8")
