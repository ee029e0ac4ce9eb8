"""The trail: what a run tells becomes records, whatever the disk does."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.errors import ServerError
from open_autoglm.telemetry.audit import AuditTrail, RunTrail
from open_autoglm.telemetry.audit_file import AuditFile, Pending
from open_autoglm.telemetry.audit_reader import find_run, verify
from open_autoglm.telemetry.run_privacy import DIGEST, Privacy
from open_autoglm.telemetry.run_record import Label, RunRecord, RunStore, record_of
from open_autoglm.telemetry.run_view import view_of
from open_autoglm.voting.candidate import Candidate, Decision, Vote
from open_autoglm.voting.knowledge import Member

TIME = "2026-01-31T23:59:59.123Z"
HEADER = {
    "model": "team",
    "strategy": "dynamic_voting",
    "question": "How much is 6 x 7?",
    "settings": {"quorum": 1},
    "members": (Member("a"), Member("b")),
}


class Disk(AuditFile):
    """A file on a disk that can be full.

    Attributes:
        full: whether it takes nothing.
        tried: set whenever somebody writes.
    """

    def __init__(self, path: Path, key: bytes = b"") -> None:
        super().__init__(str(path), key, bytes_max=2**20, keep=3, durable=False)
        self.full = False
        self.tried = threading.Event()

    def append(self, batch: Sequence[Pending], time: str) -> None:
        self.tried.set()
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(batch, time)


def tell(trail: AuditTrail, run: str = "req-1") -> RunRecord:
    return told(trail, run).record


def told(trail: AuditTrail, run: str = "req-1") -> RunTrail:
    run_trail = trail.begin(run, HEADER)
    run_trail.event("asked", {"number": 0, "member": "a", "purpose": "answer", "prompt": "How much is 6 x 7?"})
    run_trail.event("candidate", Candidate(0, "a", answer="42", text="It is 42.", cost=0.5, confidence=0.9))
    run_trail.event("decided", Decision("42", 0, 0.9, 1.0, (Vote(0, "a", "42", 0.7),), "all_in"))
    run_trail.end(Decision("42", 0, 0.9, 1.0, (Vote(0, "a", "42", 0.7),), "all_in"), cost=0.5)
    return run_trail


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("key", [b"", b"key"])
def test_a_run_reads_back_as_it_was_told(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(Disk(path, key), key=key)
    record = tell(trail)
    trail.label(record, Label("human", True, "", TIME))
    trail.close()
    read = record_of(find_run(path, "req-1"))
    assert read is not None
    assert view_of(record) == view_of(read)
    assert view_of(record).members == ["a", "b"]
    assert (read.header, read.events, read.end) == (record.header, record.events, record.end)
    assert [(label.by, label.right) for label in read.labels] == [("human", True)]
    assert [each["kind"] for each in lines(path)] == [
        *("opened", "started", "begin", "asked", "candidate", "decided", "end", "label", "stopped")
    ]
    assert verify(path, key).ok


def test_no_text_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(Disk(path))
    record = tell(trail)
    trail.close()
    written = path.read_text()
    assert "6 x 7" not in written
    assert "It is 42" not in written
    assert record.events[1]["answer"].startswith(DIGEST)
    assert record.decision["answer"] == record.events[1]["answer"] == record.decision["votes"][0]["answer"]
    assert trail.privacy_of(record).answer("42") == record.decision["answer"]


def test_texts_are_kept_without_their_secrets(tmp_path: Path) -> None:
    trail = AuditTrail(None, texts=True)
    told = trail.begin("req-1", HEADER)
    told.event("candidate", Candidate(0, "a", answer="42", text="use sk-abcdefgh12345678"))
    told.event("candidate", Candidate(1, "b", answer="sk-abcdefgh12345678"))
    assert told.record.header["question"] == "How much is 6 x 7?"
    assert told.record.events[0]["answer"] == "42"
    assert told.record.events[0]["text"] == "use sk-***"
    assert told.record.events[1]["answer"].startswith(DIGEST)


def test_equal_answers_look_equal_in_one_run_and_different_in_two() -> None:
    trail = AuditTrail(None)
    one, two = (trail.begin(run, {}) for run in ("req-1", "req-2"))
    for told in (one, two):
        for number, answer in enumerate(("42", "42", "43")):
            told.event("candidate", Candidate(number, "a", answer=answer))
    first, second = ([event["answer"] for event in told.record.events] for told in (one, two))
    assert first[0] == first[1] != first[2]
    assert not set(first) & set(second)


def test_a_judge_s_number_stays() -> None:
    told = AuditTrail(None).begin("req-1", {})
    told.event("asked", {"number": 3, "member": "j", "purpose": "judge"})
    told.event("candidate", Candidate(3, "j", answer="2"))
    told.event("candidate", Candidate(2, "a", answer="2"))
    assert told.record.events[1]["answer"] == "2"
    assert told.record.events[2]["answer"].startswith(DIGEST)


def test_arguments_and_results_of_tools_are_left_out() -> None:
    data = Privacy(texts=False, key=b"k").data(
        {
            "tool": "sum",
            "arguments": {"a": 1, "secret": "x" * 9},
            "result": [1, 2],
            "ms": 4.0,
            "why": "y" * 1000,
            "problem": "it says hello",
        }
    )
    assert data["tool"] == "sum"
    assert data["ms"] == 4.0
    assert data["arguments"] == {"left_out": "dict", "items": 2}
    assert data["result"] == {"left_out": "list", "items": 2}
    assert data["why"]["chars"] == 1000
    assert data["problem"]["chars"] == 13


def until(ready: Callable[[], bool]) -> None:
    """Wait for the writer's thread."""
    pause = threading.Event()
    for _ in range(2000):
        if ready():
            return
        pause.wait(0.005)
    raise AssertionError("nothing happened within ten seconds")


def test_a_full_disk_is_said_and_made_up_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(tmp_path / "audit.jsonl")
    disk.full = True
    trail = AuditTrail(disk)
    tell(trail)
    until(lambda: bool(trail.trouble))
    assert "No space left" in trail.trouble
    assert "nothing can be written" in caplog.text
    tell(trail, "req-2")  # goes on all the same
    disk.full = False
    until(lambda: trail.written == 11)
    assert trail.trouble == ""
    assert "written again" in caplog.text
    trail.close()
    assert trail.lost == 0
    assert len(find_run(tmp_path / "audit.jsonl", "req-2")) == 5


def test_what_does_not_fit_is_counted_and_said_in_the_chain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(tmp_path / "audit.jsonl")
    disk.full = True
    trail = AuditTrail(disk, queue_max=4)
    tell(trail)
    assert trail.lost == 2
    assert "the queue is full" in caplog.text
    disk.full = False
    trail.close()
    [lost] = [each for each in lines(tmp_path / "audit.jsonl") if each["kind"] == "lost"]
    assert lost["data"]["records"] == 3  # and the word that it stopped
    assert any("lost" in note for note in verify(tmp_path / "audit.jsonl").notes or [])


async def test_required_records_hold_a_run_back(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "audit.jsonl")
    trail = AuditTrail(disk, required=True)
    await told(trail).settled()
    assert len(find_run(tmp_path / "audit.jsonl", "req-1")) == 5
    disk.full = True
    held = told(trail, "req-2")
    with pytest.raises(ServerError, match="cannot be recorded") as refused:
        await held.settled(0.05)
    assert refused.value.code == "storage_full"
    assert trail.waiting == 0, "whoever gave up is not waited for"
    cancelled = asyncio.create_task(held.settled())
    await asyncio.sleep(0)
    assert trail.waiting == 1
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert trail.waiting == 0
    until(lambda: bool(trail.trouble))
    with pytest.raises(ServerError, match="No space left"):
        trail.begin("req-3", HEADER)
    disk.full = False
    until(lambda: not trail.trouble)
    await trail.begin("req-3", HEADER).settled()
    trail.close()


async def test_a_lost_record_is_no_recorded_run(tmp_path: Path) -> None:
    trail = AuditTrail(Disk(tmp_path / "audit.jsonl"), required=True, queue_max=3)
    run = told(trail)
    with pytest.raises(ServerError, match="cannot be recorded"):
        await run.settled()
    trail.close()


async def test_where_nothing_is_required_nobody_waits(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "audit.jsonl")
    disk.full = True
    trail = AuditTrail(disk)
    await told(trail).settled(0.0)
    trail.close()
    assert trail.lost == 7


def test_without_a_run_there_is_no_file_and_no_thread(tmp_path: Path) -> None:
    trail = AuditTrail(Disk(tmp_path / "audit.jsonl"))
    assert "audit-writer" not in {thread.name for thread in threading.enumerate()}
    trail.close()
    assert list(tmp_path.iterdir()) == []


def test_a_label_is_written_after_a_restart_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(Disk(path))
    tell(trail)
    trail.close()
    trail = AuditTrail(Disk(path))
    record = record_of(find_run(path, "req-1"))
    assert record is not None
    trail.label(record, Label("human", False, "", "t"))
    trail.close()
    again = record_of(find_run(path, "req-1"))
    assert again is not None
    assert [label.right for label in again.labels] == [False]


def test_a_request_id_that_comes_again_is_another_run() -> None:
    trail = AuditTrail(None)
    assert [trail.begin("req-1", {}).record.run for _ in range(3)] == ["req-1", "req-1~2", "req-1~3"]


def test_without_a_file_the_newest_runs_are_known_all_the_same() -> None:
    trail = AuditTrail(None, keep=2)
    for number in range(3):
        tell(trail, f"req-{number}")
    assert trail.runs.get("req-0") is None
    assert trail.runs.get("req-2") is not None
    assert trail.head == (0, "")
    trail.close()


def test_runs_in_memory_are_bounded_by_their_size() -> None:
    store = RunStore(100, bytes_max=1000)
    for number in range(10):
        record = RunRecord(f"req-{number}", "", {}, size=100)
        store.put(record)
        store.grow(record, 300)
    assert [number for number in range(10) if store.get(f"req-{number}")] == [8, 9]


def test_a_run_without_an_end_is_bounded_too() -> None:
    told = AuditTrail(None).begin("req-1", {})
    for _ in range(10_010):
        told.event("budget", {"left": 1})
    assert (len(told.record.events), told.record.events_lost) == (10_000, 10)
    told.end(None, failure="deadline_exceeded")
    assert told.record.end["events_lost"] == 10


KILLED = """
import sys
from open_autoglm.telemetry.audit import AuditTrail, RunTrail
from open_autoglm.telemetry.audit_file import AuditFile
trail = AuditTrail(AuditFile(sys.argv[1], b"key", bytes_max=200_000, keep=1000, durable=True), key=b"key")
for number in range(1_000_000):
    run = trail.begin(f"req-{number}", {"model": "team"})
    for each in range(50):
        run.event("candidate", {"ask": each, "member": "a" * 200})
    run.end(None)
    while len(trail._queue) > 2000:
        pass
    if number == 20:
        print("running", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_chain_that_the_next_goes_on_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    last = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src"}
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"running\n"
            until(lambda: path.exists() and path.stat().st_size > 50_000)
            process.send_signal(signal.SIGKILL)
        trail = AuditTrail(Disk(path, b"key"), key=b"key")
        tell(trail, "req-after")
        trail.close()
        verdict = verify(path, b"key")
        assert verdict.ok, verdict
        assert verdict.last > last
        last = verdict.last


async def test_many_runs_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(Disk(path), required=True)

    async def run(number: int) -> None:
        await told(trail, f"req-{number}").settled()

    await asyncio.gather(*(run(number) for number in range(50)))
    trail.close()
    assert verify(path).last == 50 * 5 + 3
