"""The journal of runs: what was acknowledged is there, and what was refused is not."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.errors import RequestError, ServerError
from open_autoglm.storage.run_journal import JournalLimits, RunJournal
from open_autoglm.testing.disk import Disk

NOW_MS = 1_000_000_000_000


@asynccontextmanager
async def _open(path: Path, limits: JournalLimits | None = None) -> AsyncIterator[RunJournal]:
    journal = RunJournal(path / "runs.db", limits)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def _create(journal: RunJournal, run_id: str, now_ms: int = NOW_MS) -> None:
    await journal.create(run_id, b"{}", [b'{"kind":"plan"}'], now_ms=now_ms, expires_ms=now_ms + 1000)


async def test_what_was_kept_is_there_in_order_after_opening_again(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await _create(journal, "r1")
        await journal.append("r1", 1, [b"1", b"2"], state="running", now_ms=NOW_MS + 1)
        await journal.append("r1", 2, [b"3"], state="waiting", now_ms=NOW_MS + 2)
    async with _open(tmp_path) as journal:
        kept = await journal.load("r1")
        assert kept is not None
        assert kept.events == [b'{"kind":"plan"}', b"1", b"2", b"3"]
        assert (kept.parts, kept.row) == (3, await journal.row("r1"))
        row = await journal.row("r1")
        assert row is not None
        assert (row.state, row.began_ms, row.changed_ms, row.about) == ("waiting", NOW_MS, NOW_MS + 2, b"{}")
        assert await journal.load("none") is None
        assert await journal.row("none") is None


async def test_an_id_is_taken_once(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await _create(journal, "r1")
        with pytest.raises(RequestError, match="already"):
            await _create(journal, "r1")


@pytest.mark.parametrize("seq", [0, 2])
async def test_a_part_that_does_not_follow_is_refused_alone(tmp_path: Path, seq: int) -> None:
    async with _open(tmp_path) as journal:
        await asyncio.gather(_create(journal, "r1"), _create(journal, "r2"))
        wrong, right = await asyncio.gather(
            journal.append("r1", seq, [b"x"], state="running", now_ms=NOW_MS),
            journal.append("r2", 1, [b"y"], state="running", now_ms=NOW_MS),
            return_exceptions=True,
        )
        assert isinstance(wrong, RequestError)
        assert right is None
        assert await _events(journal, "r1") == [b'{"kind":"plan"}']


async def test_many_runs_share_transactions(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await asyncio.gather(*(_create(journal, f"r{n}") for n in range(50)))
        for seq in range(1, 5):
            await asyncio.gather(
                *(journal.append(f"r{n}", seq, [b"%d" % seq], state="running", now_ms=NOW_MS) for n in range(50))
            )
        assert [await _events(journal, f"r{n}") for n in range(50)] == [
            [b'{"kind":"plan"}', b"1", b"2", b"3", b"4"] for _ in range(50)
        ]


async def _events(journal: RunJournal, run_id: str) -> list[bytes]:
    kept = await journal.load(run_id)
    assert kept is not None
    return kept.events


async def _fill(write: Callable[[int], Awaitable[None]]) -> tuple[int, ServerError]:
    """Write until it is refused; return how many were not, and the refusal."""
    for number in range(10_000):
        try:
            await write(number)
        except ServerError as refused:
            return number, refused
    raise AssertionError("it never became full")


async def test_a_full_journal_refuses_clearly_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    limits = JournalLimits(file_bytes=256 * 1024)
    async with _open(tmp_path, limits) as journal:
        await _create(journal, "r1")
        await _create(journal, "r2")
        kept, refused = await _fill(
            lambda n: journal.append("r1", n + 1, [b"x" * 5000], state="running", now_ms=NOW_MS)
        )
        assert kept > 10
        assert (refused.code, "no room" in refused.message) == ("storage_full", True)
        small, large = await asyncio.gather(
            journal.append("r2", 1, [b"y"], state="running", now_ms=NOW_MS),
            journal.append("r1", kept + 1, [b"x" * 500_000], state="running", now_ms=NOW_MS),
            return_exceptions=True,
        )
        assert small is None, "what fits is kept beside what does not"
        assert isinstance(large, ServerError)
    async with _open(tmp_path) as journal:
        assert len(await _events(journal, "r1")) == kept + 1
        assert await _events(journal, "r2") == [b'{"kind":"plan"}', b"y"]
        assert await journal.claim("r1")
        await journal.append("r1", kept + 1, [b"more"], state="done", now_ms=NOW_MS)


async def test_too_many_calls_at_once_are_refused(tmp_path: Path) -> None:
    async with _open(tmp_path, JournalLimits(waiting=3)) as journal:
        answers = await asyncio.gather(*(_create(journal, f"r{n}") for n in range(5)), return_exceptions=True)
        assert [getattr(answer, "code", "") for answer in answers] == ["", "", "", "overloaded", "overloaded"]
        await _create(journal, "r9")


async def test_too_many_bytes_at_once_are_refused(tmp_path: Path) -> None:
    async with _open(tmp_path, JournalLimits(waiting_bytes=100)) as journal:
        with pytest.raises(ServerError, match="wait"):
            await journal.create("r1", b"{}", [b"x" * 100], now_ms=NOW_MS, expires_ms=NOW_MS)


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await _create(journal, "r1")
    with pytest.raises(ServerError, match="closed"):
        await journal.load("r1")
    await journal.close()


async def test_what_is_old_or_too_much_is_deleted_and_its_room_given_back(tmp_path: Path) -> None:
    limits = JournalLimits(keep_s=100.0, keep=2)
    async with _open(tmp_path, limits) as journal:
        for n in range(6):
            await journal.create(f"r{n}", b"{}", [b"x" * 100_000], now_ms=NOW_MS, expires_ms=NOW_MS)
        for n in range(5):  # r5 goes on
            ended_ms = NOW_MS + n * 1000
            await journal.append(f"r{n}", 1, [b"end"], state="done", now_ms=ended_ms)
        assert await journal.prune(NOW_MS + 100_000) == 3
        assert [row.id for row in await journal.rows()] == ["r5", "r4", "r3"]
        assert await journal.prune(NOW_MS + 103_500) == 1
        assert [row.id for row in await journal.rows()] == ["r5", "r4"]
        assert [row.id for row in await journal.rows(state="running")] == ["r5"]
        assert await journal.prune(NOW_MS + 10_000_000) == 1
        assert [row.id for row in await journal.rows(limit=10)] == ["r5"]
    database = sqlite3.connect(tmp_path / "runs.db")
    assert database.execute("PRAGMA page_count").fetchone()[0] * 4096 < 250_000
    database.close()


async def test_a_run_is_driven_by_one_at_a_time_and_by_another_once_that_is_gone(tmp_path: Path) -> None:
    async with _open(tmp_path) as one:
        await _create(one, "r1")
        async with _open(tmp_path) as other:
            assert not await other.claim("r1")
            assert await other.orphans(10, now_ms=NOW_MS) == []
            with pytest.raises(RequestError, match="not driven by this process"):
                await other.append("r1", 1, [b"x"], state="running", now_ms=NOW_MS)
            await one.release("r1")
            assert await other.orphans(10, now_ms=NOW_MS) == ["r1"]
            assert await other.claim("r1")
            assert not await one.claim("r1")
            with pytest.raises(RequestError, match="no longer"):
                await one.append("r1", 1, [b"x"], state="running", now_ms=NOW_MS)
            await other.append("r1", 1, [b"y"], state="running", now_ms=NOW_MS)
        assert await one.orphans(10, now_ms=NOW_MS) == ["r1"]
        assert await one.claim("r1")
        assert await one.orphans(10, now_ms=NOW_MS) == ["r1"], "it was left without being released"
        assert await one.orphans(10, now_ms=NOW_MS, driven={"r1"}) == []
        assert not await one.claim("none")
        assert fnmatch.filter(os.listdir(tmp_path), "runs-*.lock") == [f"runs-{one.owner}.lock"]


async def test_locks_of_processes_that_are_gone_are_cleared_away_and_no_others(tmp_path: Path) -> None:
    async with _open(tmp_path) as living:
        (tmp_path / "runs-0123456789abcdef.lock").write_bytes(b"")
        (tmp_path / "runs-link.lock").symlink_to(tmp_path / "runs.db")
        async with _open(tmp_path) as journal:
            there = {Path(path).name for path in _left(tmp_path) if Path(path).name.startswith("runs-")}
            assert there == {f"runs-{living.owner}.lock", f"runs-{journal.owner}.lock", "runs-link.lock"}
    assert [Path(path).name for path in _left(tmp_path)] == ["runs-link.lock"]


async def test_a_run_that_waits_longer_than_it_may_is_found(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await _create(journal, "r1")
        await journal.append("r1", 1, [], state="waiting", now_ms=NOW_MS)
        assert await journal.orphans(10, now_ms=NOW_MS + 1000) == []
        assert await journal.orphans(10, now_ms=NOW_MS + 1001) == ["r1"]


async def test_a_file_of_others_or_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "runs.db")
    database.execute("CREATE TABLE t(x)")
    database.commit()
    with pytest.raises(ServerError, match="no journal of runs"):
        await RunJournal(tmp_path / "runs.db").open()
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]
    database.close()
    other = tmp_path / "other"
    async with _open(other):
        pass
    database = sqlite3.connect(other / "runs.db")
    database.execute("PRAGMA user_version=7")
    database.close()
    with pytest.raises(ServerError, match="version 7"):
        await RunJournal(other / "runs.db").open()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ServerError, match="cannot be used"):
        await RunJournal(tmp_path / "runs.db").open()


def _left(folder: Path) -> list[str]:
    """Locks of processes in a folder, and what this process has open there."""
    held = [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]
    return [*map(str, folder.glob("runs-*")), *(path for path in held if path.startswith(str(folder.resolve())))]


async def test_a_file_that_is_refused_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"not a database" * 1000)
    for _ in range(3):
        with pytest.raises(ServerError, match="cannot be used"):
            await RunJournal(tmp_path / "runs.db").open()
    assert _left(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="cannot be used"):
        await RunJournal(tmp_path / "file" / "runs.db").open()


async def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    async with _open(tmp_path) as journal:
        await _create(journal, "r1")
        assert {entry.stat().st_mode & 0o077 for entry in os.scandir(tmp_path)} == {0}


class Platter(sqlite3.Connection):
    """SQLite on a disk whose sync can fail: the simulated disk decides, and a commit that it does not keep is none."""

    disk: Disk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.disk.write("log", b"transaction")
            try:
                self.disk.sync("log")
            except OSError as error:
                super().execute("ROLLBACK")
                told = sqlite3.OperationalError("disk I/O error")
                told.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise told from error
        return super().execute(sql, parameters)


@given(
    seed=st.integers(0, 2**32),
    good=st.integers(0, 4),
    together=st.integers(1, 4),
    heals=st.booleans(),
)
@settings(max_examples=25, deadline=None)
async def test_a_sync_that_fails_is_not_tried_again_as_if_nothing_had_happened(
    tmp_path_factory: pytest.TempPathFactory, seed: int, good: int, together: int, heals: bool
) -> None:
    """What was acknowledged outlives it; from then on nothing is acknowledged, even once the disk syncs again."""
    path = tmp_path_factory.mktemp("journal")
    disk = Disk(seed)
    journal = RunJournal(path / "runs.db", connection=type("Here", (Platter,), {"disk": disk}))
    await journal.open()
    runs = [f"r{number}" for number in range(together)]
    await asyncio.gather(*(_create(journal, run) for run in runs))
    for seq in range(1, good + 1):
        await asyncio.gather(*(journal.append(run, seq, [b"kept"], state="running", now_ms=NOW_MS) for run in runs))
    assert journal.trouble == ""
    disk.broken = True
    lost = await asyncio.gather(
        *(journal.append(run, good + 1, [b"lost"], state="running", now_ms=NOW_MS) for run in runs),
        return_exceptions=True,
    )
    disk.broken = not heals
    syncs = len(disk.read("log"))
    for told in lost:
        assert isinstance(told, ServerError)
        assert (told.code, "has stopped: the disk did not keep" in told.message) == ("internal_error", True)
    with pytest.raises(ServerError, match="has stopped"):
        await journal.append(runs[0], good + 1, [b"again"], state="running", now_ms=NOW_MS)
    with pytest.raises(ServerError, match="has stopped"):
        await _create(journal, "another")
    with pytest.raises(ServerError, match="has stopped"):
        await journal.load(runs[0])
    assert "start the server again" in journal.trouble
    assert len(disk.read("log")) == syncs, "nothing more was written"
    await journal.close()
    disk.crash()
    async with _open(path) as again:
        for run in runs:
            assert await again.claim(run)
            assert await _events(again, run) == [b'{"kind":"plan"}', *[b"kept"] * good]
            await again.append(run, good + 1, [b"goes on"], state="running", now_ms=NOW_MS)


async def test_a_run_of_a_stopped_journal_is_nobody_elses_while_its_process_lives(tmp_path: Path) -> None:
    disk = Disk()
    journal = RunJournal(tmp_path / "runs.db", connection=type("Here", (Platter,), {"disk": disk}))
    await journal.open()
    await _create(journal, "r1")
    disk.broken = True
    with pytest.raises(ServerError, match="has stopped"):
        await _create(journal, "r2")
    async with _open(tmp_path) as other:
        assert not await other.claim("r1")
        await journal.close()
        assert await other.claim("r1")


async def test_a_stopped_journal_does_not_grow_by_what_it_refuses(tmp_path: Path) -> None:
    disk = Disk()
    journal = RunJournal(tmp_path / "runs.db", connection=type("Here", (Platter,), {"disk": disk}))
    await journal.open()
    disk.broken = True
    with pytest.raises(ServerError, match="has stopped"):
        await _create(journal, "r1")
    frames = []
    for _ in range(3):
        with pytest.raises(ServerError, match="has stopped") as caught:
            await _create(journal, "r2")
        frames.append(len(caught.traceback))
    assert len(set(frames)) == 1, "each refusal held the frames of those before, with all that they had"
    await journal.close()
