"""Asking many questions: each once, some at once, and what is in the log not again."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import msgspec
import pytest

from open_autoglm.cli.evaluate.asking import Outcome, answer_text, ask_all, confidence_of, digest_of, read_log
from open_autoglm.cli.evaluate.task import Task
from open_autoglm.cli.failure import CommandFailed

TASKS = [Task(f"t{number}", [{"role": "user", "content": str(number)}], "1", "number") for number in range(20)]


def test_each_question_is_asked_once_and_no_more_at_once_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0
    gate = threading.Barrier(4, timeout=10)

    def ask(model: str, task: Task) -> Outcome:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()  # all four are under way together
        with lock:
            running -= 1
        return Outcome(model, task.id, digest_of(task), "1", True)

    log, told = io.StringIO(), list[Outcome]()
    ask_all(ask, [("m", task) for task in TASKS], 4, log, told.append)
    assert most == 4
    assert sorted(outcome.task for outcome in told) == sorted(task.id for task in TASKS)
    kept = [msgspec.json.decode(line, type=Outcome) for line in log.getvalue().splitlines()]
    assert kept == told


def test_who_is_told_may_end_it() -> None:
    asked: list[str] = []

    def ask(model: str, task: Task) -> Outcome:
        asked.append(task.id)
        return Outcome(model, task.id, "")

    def told(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_all(ask, [("m", task) for task in TASKS], 2, None, told)
    assert len(asked) <= 3


def test_a_log_is_read_again_without_failures_and_without_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_log(path) == {}
    good, bad = Outcome("m", "t", "d1", "1", True), Outcome("m", "u", "d2", failure="busy")
    path.write_bytes(msgspec.json.encode(good) + b"\n" + msgspec.json.encode(bad) + b'\n{"model":"m","ta')
    assert read_log(path) == {("m", "d1"): good}
    path.write_bytes(b"something else\n" + msgspec.json.encode(good) + b"\n")
    with pytest.raises(CommandFailed, match="line 1 is no answer"):
        read_log(path)


def test_a_changed_task_has_another_digest() -> None:
    assert digest_of(TASKS[0]) != digest_of(msgspec.structs.replace(TASKS[0], answer="2"))


def test_what_is_read_of_an_answer() -> None:
    call = {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    assert json.loads(answer_text({"content": None, "tool_calls": [call]})) == {
        "name": "weather",
        "arguments": {"city": "Paris"},
    }
    broken = {"tool_calls": [{"function": {"name": "weather", "arguments": "{"}}]}
    for message in (None, {}, {"content": None}, broken, {"tool_calls": [{}]}):
        assert answer_text(message) == ""
    assert confidence_of({"logprobs": {"content": [{"logprob": 0.0}, {"logprob": -1e9}]}}) == 0.5
    strange = [{"logprob": -1e9}, {"logprob": float("nan")}, {"logprob": -(10**400)}]
    assert confidence_of({"logprobs": {"content": strange}}) == 0.0
    assert confidence_of({"logprobs": {"content": []}}) is confidence_of({}) is confidence_of({"logprobs": []}) is None
