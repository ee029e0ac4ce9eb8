"""What is a task, and what is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.cli.evaluate.task import CHECKERS, Task, is_right, read_tasks
from open_autoglm.cli.failure import CommandFailed

HELD_OUT = Path(__file__).parents[4] / "training" / "heldout"


@pytest.mark.parametrize(
    ("checker", "expected", "answer", "right"),
    [
        ("number", "932", "932", True),
        ("number", "932", "The sum of 274 and 658 is 932.", True),
        ("number", "1200", "1,200.00", True),
        ("number", "-5", "−5", True),
        ("number", "932", "932 apples and 3 pears", False),
        ("number", "932", "", False),
        ("number", "1", "9" * 500, False),
        ("exact", "Paris", " Paris\n", True),
        ("exact", "Paris", "paris", False),
        ("json", '{"a":1,"b":[2]}', '```json\n{"b": [2.0], "a": 1}\n```', True),
        ("json", '{"a":1}', '{"a":true}', False),
        ("json", '{"a":1}', '{"a":1} so', False),
        ("json", "null", "nothing", False),
        ("json", "[]", "[" * 100_000, False),
        ("contains", "Eiffel", "the EIFFEL tower", True),
        ("contains", "Eiffel", "tower", False),
        ("choice", "B", "(b) because of rain", True),
        ("choice", "B", "B.", True),
        ("choice", "B", "Because", False),
        ("choice", "math", "Math", True),
    ],
)
def test_checkers(checker: str, expected: str, answer: str, right: bool) -> None:
    assert is_right(Task("t", [], expected, checker), answer) is right


@given(st.sampled_from(sorted(CHECKERS)), st.text(max_size=50))
def test_no_answer_breaks_a_checker(checker: str, answer: str) -> None:
    assert is_right(Task("t", [], "5", checker), answer) in (True, False)


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_file_of_tasks(tmp_path: Path) -> None:
    one = {"prompt": "1+1", "answer": 2, "checker": "number", "system": "Be brief.", "class": "sums"}
    path = written(tmp_path, one, "", {"id": "x", "prompt": "p", "answer": "a", "checker": "exact"})
    first, second = read_tasks(path)
    assert first.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1"}]
    assert (first.id, first.answer, first.kind) == ("tasks-1", "2", "sums")
    assert second.id == "x"
    assert read_tasks(path, 1) == [first]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 1"),
        ("[]", "line 1"),
        ({"prompt": " ", "answer": "a", "checker": "exact"}, "the prompt is empty"),
        ({"prompt": "p", "answer": "a", "checker": "guess"}, "number, exact, json, contains, choice"),
        ({"prompt": "p", "answer": "a", "checker": "number"}, "is no number"),
        ({"prompt": "p", "answer": "{", "checker": "json"}, "is no JSON"),
        ({"prompt": "p", "checker": "exact"}, "answer"),
    ],
)
def test_what_is_no_task(tmp_path: Path, line: Any, why: str) -> None:
    with pytest.raises(CommandFailed, match=why):
        read_tasks(written(tmp_path, line))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot read"):
        read_tasks(tmp_path / "missing.jsonl")
    with pytest.raises(CommandFailed, match="has no tasks"):
        read_tasks(written(tmp_path, ""))


@pytest.mark.parametrize("path", sorted(HELD_OUT.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_held_out_sets_are_tasks(path: Path) -> None:
    tasks = read_tasks(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(tasks) == len(lines)
    assert all(is_right(task, task.answer) for task in tasks)
    roles = [message["role"] for message in tasks[0].messages]
    system = json.loads(lines[0])["system"]
    assert roles == {"result": ["user", "tool"], "intent": ["system", "user"], "plan": ["system", "user"]}.get(
        system, ["user"]
    )
    assert (tasks[0].tools is not None) == (system == "tools")
