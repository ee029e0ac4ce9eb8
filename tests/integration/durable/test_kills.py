"""Runs whose processes are killed with SIGKILL, at every write of their journal."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.durable.lives import (
    branches,
    lines,
    live,
    live_beside_each_other,
    live_with_little_room,
    note,
)

from open_autoglm.scheduling.task import Task

END = sum(5 * 10**branch + 11 for branch in range(5))


def _events(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "runs.db").exists():
        return []
    database = sqlite3.connect(folder / "runs.db")
    try:
        bodies = [body for (body,) in database.execute("SELECT body FROM parts ORDER BY run, seq")]
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    except sqlite3.OperationalError:  # killed before the tables were there
        return []
    finally:
        database.close()
    return [msgspec.json.decode(line) for body in bodies for line in body.split(b"\n") if line]


def _done(folder: Path) -> dict[str, Any]:
    return {event["task"]: event.get("result") for event in _events(folder) if event["kind"] == "task_done"}


def _state(folder: Path) -> str:
    database = sqlite3.connect(folder / "runs.db")
    try:
        return str(database.execute("SELECT state FROM runs").fetchone()[0])
    finally:
        database.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.timeout(600)
def test_killed_at_any_write_no_finished_step_runs_again_and_the_result_is_the_same(
    tmp_path: Path, after: bool
) -> None:
    tasks = branches()
    boundary = 0
    while True:
        folder = tmp_path / str(boundary)
        folder.mkdir()
        code = live(folder, tasks, write=boundary, after=after)
        done = _done(folder)
        effects = lines(folder, "effects")
        if code == 0:
            break  # there is no such write any more
        assert code == -signal.SIGKILL
        assert live(folder, tasks) == 0
        again = [line.split()[0] for line in lines(folder, "effects")[len(effects) :]]
        assert not done.keys() & set(again), "a finished step ran again"
        assert max(Counter(again).values(), default=0) <= 1
        assert len(set(lines(folder, "effects"))) == 30, "a step's key changed between its tries"
        assert _done(folder)["end"] == END
        assert _state(folder) == "done"
        boundary += 1
    assert boundary >= 8, "a run of this shape has one write a wave, at the least"
    assert _done(tmp_path / str(boundary))["end"] == END


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 4])
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_over_and_over_spends_no_more_than_its_budget(
    tmp_path: Path, after: bool, write: int
) -> None:
    tasks = [
        Task(f"t{number}", "spend", {"tokens": 7 + number % 3}, (f"t{number - 2}",) if number > 1 else ())
        for number in range(20)
    ]
    note(tmp_path, "budget", "100")
    lives = 0
    while lives == 0 or _state(tmp_path) == "running":
        assert live(tmp_path, tasks, write=write, after=after) in (0, -signal.SIGKILL)
        assert sum(map(int, lines(tmp_path, "spent"))) <= 100
        lives += 1
        assert lives < 50
    assert lives > 1
    assert live(tmp_path, tasks) == 0
    # Killed before any end of a step is kept it gets nowhere, and after some lives a person is asked.
    assert _state(tmp_path) == ("waiting" if write == 1 and not after else "budget_exhausted")
    assert set(_done(tmp_path).values()) <= {7, 8, 9}
    assert sum(map(int, lines(tmp_path, "spent"))) <= 100


def test_a_step_with_effects_that_was_begun_is_left_to_a_person(tmp_path: Path) -> None:
    tasks = [Task("w", "write", {"kill": True}), Task("a", "add", {"own": 1}), Task("b", "add", {"own": 2}, ("w",))]
    assert live(tmp_path, tasks) == -signal.SIGKILL
    assert live(tmp_path, tasks) == 0
    assert _state(tmp_path) == "waiting"
    assert Counter(line.split()[0] for line in lines(tmp_path, "effects"))["w"] == 1
    note(tmp_path, "approve", "w")
    assert live(tmp_path, tasks) == 0
    assert _state(tmp_path) == "done"
    writes = [line for line in lines(tmp_path, "effects") if line.startswith("w ")]
    assert len(writes) == 2
    assert len(set(writes)) == 1, "the second try has the first one's key"


def test_processes_that_share_a_journal_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert live_beside_each_other(tmp_path, 60) == [-signal.SIGKILL, 0, 0]
    kept: dict[str, list[str]] = {}
    database = sqlite3.connect(tmp_path / "runs.db")
    for run_id, body in database.execute("SELECT id, body FROM parts JOIN runs ON run=runs.number ORDER BY run, seq"):
        kept.setdefault(run_id, []).append(body.decode())
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    acknowledged = [line.split() for line in lines(tmp_path, "acknowledged")]
    assert len(acknowledged) >= 2 * 60 * 3
    assert all(part in kept[run_id] for run_id, part in acknowledged)
    assert all(parts == ["first", "1", "2", "3"][: len(parts)] for parts in kept.values())


def test_a_full_disk_refuses_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    assert live_with_little_room(tmp_path) == 0
    assert lines(tmp_path, "refused") == ["storage_full"]
    acknowledged = lines(tmp_path, "acknowledged")
    assert len(acknowledged) > 10
    database = sqlite3.connect(tmp_path / "runs.db")
    kept = [seq for (seq,) in database.execute("SELECT seq FROM parts ORDER BY seq")]
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert kept == list(range(len(acknowledged) + 1))
