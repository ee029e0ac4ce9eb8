"""`autoglm runs`: what is refused before anything is sent, and how a run is shown."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.cli.terminals import err, out, piped, screen

from open_autoglm.cli.commands.runs import show
from open_autoglm.cli.main import run

RUN: dict[str, Any] = {
    "id": "run-1",
    "name": "report",
    "state": "waiting",
    "stop_reason": "",
    "budget": {"tokens": 20000, "time": 60.0},
    "spent": {"tokens": 1200, "money": 0.25},
    "reserved": {"tokens": 1000, "money": 0.0},
    "asking": [{"task": "put", "question": "unknown", "arguments": {"to": "x" * 100 + "y"}}],
    "tasks": [
        {"id": "a", "tool": "calculator", "state": "done", "depends_on": [], "result": {"result": "x" * 100}},
        {"id": "put", "tool": "put", "state": "asking", "depends_on": ["a"]},
        {
            "id": "b",
            "tool": "put",
            "state": "failed",
            "depends_on": [],
            "error": {"code": "refused", "message": "by eva"},
        },
    ],
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "the run is missing"),
        (["start"], "the file is missing"),
        (["start", "/none/graph.json"], "cannot read '/none/graph.json'"),
        (["cancel", "r1", "a"], "takes no task"),
        (["cancel", "r1", "--note", "x"], "--note goes with"),
        (["refuse", "r1", "--done"], "--done goes with"),
    ],
)
def test_what_is_missing_or_too_much_is_said(words: list[str], said: str) -> None:
    terminal = piped(MCP_ADMIN_URL="http://127.0.0.1:9", MCP_ADMIN_KEY="key")
    assert run(["runs", *words], terminal) == 1
    assert said in err(terminal)


def test_a_run_shows_its_tasks_and_what_it_asks() -> None:
    terminal = piped()
    show(RUN, terminal)
    assert out(terminal).splitlines()[0] == "run-1  report: waiting"
    assert "refused: by eva" in out(terminal)
    spent = "spent: 1,200 of 20,000 tokens (1,000 more set aside), 0.25 money, 60 s for all of it"
    assert out(terminal).splitlines()[-1] == spent
    assert "x" * 60 not in out(terminal)
    assert "autoglm runs approve run-1 put" in err(terminal)
    assert "--done" in err(terminal)
    assert '{"to": "' + "x" * 100 + 'y"}' in err(terminal)


def test_a_name_that_somebody_gave_moves_no_cursor() -> None:
    terminal = screen()
    show({**RUN, "name": "a\x1b[2J"}, terminal)
    assert "a\\x1b[2J" in out(terminal)
    assert "\x1b[2J" not in out(terminal)


def test_a_run_that_was_stopped_says_why() -> None:
    terminal = piped()
    show({**RUN, "name": "", "state": "cancelled", "stop_reason": "deadline_exceeded", "asking": []}, terminal)
    assert out(terminal).splitlines()[0] == "run-1  (no name): cancelled (deadline_exceeded)"
    assert err(terminal) == ""
