"""The journal of runs: what happened in each, in a file that outlives the process.

| table | row |
|---|---|
| `runs` | one run: its state, which process drives it, when it began and last changed state |
| `parts` | events of one run that were kept together, one JSON text a line |

Invariants: when a method returns, what it wrote is on the disk (SQLite in WAL mode with `synchronous=FULL`; one
fsync for all that waits at that moment, of whatever run); when it raises, nothing of it is there; what is written for
a run comes from the process that owns it, in the order of `seq`, without gaps. One thread does all the work; methods
are called from one event loop.

| the journal is | until | then |
|---|---|---|
| open | an fsync fails | stopped: the file is closed, and every call is refused, reading too |
| stopped | the process starts again | what was acknowledged is there; of the calls that failed nobody knows |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.storage.file_turn import FileTurn
from open_autoglm.storage.run_owner import RunOwner
from open_autoglm.storage.run_tables import is_not_synced, open_database, storage_error

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

ACTIVE: Final = ("running", "waiting")
"""States in which a run is not over."""
_COLUMNS: Final = "id,state,owner,about,began,changed"
_PRUNED_AT_ONCE: Final = 100
_PAGES_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """What bounds the journal.

    Attributes:
        waiting: most calls that wait for the thread; further ones are refused.
        waiting_bytes: most bytes of events in them.
        together: most calls in one transaction.
        file_bytes: longest file, without what the last transactions added to its log.
        busy_s: longest wait for another process, seconds.
        keep_s: runs that ended earlier are deleted, seconds.
        keep: so many of those that ended are kept, the newest.
    """

    waiting: int = 10_000
    waiting_bytes: int = 64 * 1024 * 1024
    together: int = 1_000
    file_bytes: int = 4 * 1024 * 1024 * 1024
    busy_s: float = 5.0
    keep_s: float = 30 * 86_400.0
    keep: int = 100_000


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run.

    Attributes:
        id: unique.
        state: `running`, `waiting`, `done`, `failed`, `cancelled`.
        owner: name of the process that drives it; empty for none.
        about: what the caller gave, JSON.
        began_ms: wall time, milliseconds.
        changed_ms: wall time of the last change of state, milliseconds.
    """

    id: str
    state: str
    owner: str
    about: bytes
    began_ms: int
    changed_ms: int


@dataclass(frozen=True, slots=True)
class KeptRun:
    """All that was kept of a run.

    Attributes:
        row: about it.
        events: in order, JSON.
        parts: how many parts they came in, which is the number of the next one.
    """

    row: RunRow
    events: list[bytes]
    parts: int


@dataclass(slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]
    size: int
    outcome: Any = None
    error: Exception | None = None


class RunJournal:
    """See the module. `open` before anything else.

    Args:
        path: of the file; its folder is made when it is not there, and holds locks beside it.
        limits: what bounds it.
        connection: what SQLite is spoken to through.
    """

    def __init__(
        self,
        path: Path,
        limits: JournalLimits | None = None,
        *,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self._path = path
        self._connection = connection
        self._trouble = ""
        self._limits = limits or JournalLimits()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: RunOwner | None = None
        self._thread = threading.Thread(target=self._serve, name="run journal", daemon=True)

    @property
    def owner(self) -> str:
        """Name of this process among those that share the journal."""
        assert self._owner is not None, "open first"
        return self._owner.name

    @property
    def trouble(self) -> str:
        """Why it keeps nothing any more; empty while it does."""
        return self._trouble

    async def open(self) -> None:
        """Open or make the file, and start the thread.

        Raises:
            ServerError: `internal_error`, the file is none of ours, or damaged, or of a later version, or cannot be
                read and written; `storage_full`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            database = await asyncio.to_thread(self._prepare)
        except (sqlite3.Error, OSError) as error:
            raise storage_error(error, self._path) from error
        self._database = database
        self._thread.start()

    async def close(self) -> None:
        """Finish what waits, and close the file. Runs of this process are then nobody's."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, self._limits.busy_s * 2)

    async def create(self, run_id: str, about: bytes, events: Sequence[bytes], *, now_ms: int, expires_ms: int) -> None:
        """Keep a new run of this process, with its first events, as part 0.

        Args:
            run_id: unique.
            about: JSON.
            events: JSON texts, without line breaks.
            now_ms: wall time, milliseconds.
            expires_ms: wall time at which it is to go on, to be stopped, even if it waits for a person; milliseconds.

        Raises:
            RequestError: `conflict`, there is one of that id.
            ServerError: `storage_full`; `overloaded`, too much waits; `internal_error`, also once it has stopped.
        """
        body = b"\n".join(events)

        def work(database: sqlite3.Connection) -> None:
            row = (run_id, "running", self.owner, about, now_ms, now_ms, expires_ms)
            found = database.execute(
                "INSERT OR IGNORE INTO runs(id,state,owner,about,began,changed,expires) VALUES(?,?,?,?,?,?,?)", row
            )
            if not found.rowcount:
                raise RequestError("conflict", f"there is a run {run_id!r} already")
            database.execute("INSERT INTO parts(run,seq,body) VALUES(?,0,?)", (found.lastrowid, body))

        await self._ask(work, len(about) + len(body))

    async def append(self, run_id: str, seq: int, events: Sequence[bytes], *, state: str, now_ms: int) -> None:
        """Keep what happened in a run of this process.

        Args:
            run_id: of the run.
            seq: number of the part, one more than the last one's.
            events: JSON texts, without line breaks.
            state: of the run, after them.
            now_ms: wall time, milliseconds.

        Raises:
            RequestError: `conflict`, the run is not this process's, or the part is not the next one.
            ServerError: as for `create`.
        """
        body = b"\n".join(events)

        def work(database: sqlite3.Connection) -> None:
            row = database.execute("SELECT number,state,owner FROM runs WHERE id=?", (run_id,)).fetchone()
            if row is None or row[2] != self.owner:
                raise RequestError("conflict", f"run {run_id!r} is not driven by this process, or no longer")
            last = database.execute("SELECT max(seq) FROM parts WHERE run=?", (row[0],)).fetchone()[0]
            if last is None or seq != last + 1:
                raise RequestError("conflict", f"part {seq} of run {run_id!r} does not follow {last}")
            database.execute("INSERT INTO parts(run,seq,body) VALUES(?,?,?)", (row[0], seq, body))
            if row[1] != state:
                database.execute("UPDATE runs SET state=?,changed=? WHERE number=?", (state, now_ms, row[0]))

        await self._ask(work, len(body))

    async def load(self, run_id: str) -> KeptRun | None:
        """All that was kept of a run; None when there is none."""

        def work(database: sqlite3.Connection) -> KeptRun | None:
            found = database.execute(f"SELECT {_COLUMNS},number FROM runs WHERE id=?", (run_id,)).fetchone()  # noqa: S608
            if found is None:
                return None
            bodies = database.execute("SELECT body FROM parts WHERE run=? ORDER BY seq", (found[-1],)).fetchall()
            events = [event for (body,) in bodies for event in body.split(b"\n") if event]
            return KeptRun(RunRow(*found[:-1]), events, len(bodies))

        return await self._ask(work)

    async def row(self, run_id: str) -> RunRow | None:
        """One run; None when there is none."""

        def work(database: sqlite3.Connection) -> RunRow | None:
            row = database.execute(f"SELECT {_COLUMNS} FROM runs WHERE id=?", (run_id,)).fetchone()  # noqa: S608
            return None if row is None else RunRow(*row)

        return await self._ask(work)

    async def rows(self, *, state: str = "", limit: int = 100) -> list[RunRow]:
        """The newest runs, of one state if that is given."""

        def work(database: sqlite3.Connection) -> list[RunRow]:
            where, values = ("WHERE state=?", (state, limit)) if state else ("", (limit,))
            found = database.execute(
                f"SELECT {_COLUMNS} FROM runs {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
                values,
            )
            return [RunRow(*row) for row in found]

        return await self._ask(work)

    async def claim(self, run_id: str) -> bool:
        """Make a run this process's, unless another that lives has it; tell whether it is."""

        def work(database: sqlite3.Connection) -> bool:
            row = database.execute("SELECT owner FROM runs WHERE id=?", (run_id,)).fetchone()
            if row is None or not self._free(row[0]):
                return False
            database.execute("UPDATE runs SET owner=? WHERE id=?", (self.owner, run_id))
            return True

        return await self._ask(work)

    async def release(self, run_id: str) -> None:
        """Leave a run of this process to whoever wants it."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("UPDATE runs SET owner='' WHERE id=? AND owner=?", (run_id, self.owner))

        await self._ask(work)

    async def orphans(self, limit: int, *, now_ms: int, driven: Collection[str] = ()) -> list[str]:
        """Runs that should go on and that nobody drives, the oldest first.

        Args:
            limit: most of them.
            now_ms: wall time, milliseconds: those that wait for a person longer than they may are to go on, too.
            driven: runs that this process does drive.
        """

        def work(database: sqlite3.Connection) -> list[str]:
            found = database.execute(
                "SELECT id,owner FROM runs WHERE state='running' OR (state='waiting' AND expires<?) ORDER BY number",
                (now_ms,),
            )
            lives = {self.owner: False}
            free: list[str] = []
            for run_id, owner in found:
                if owner not in lives:
                    lives[owner] = not self._free(owner)
                if not lives[owner] and run_id not in driven:
                    free.append(run_id)
                    if len(free) == limit:
                        break
            return free

        return await self._ask(work)

    async def prune(self, now_ms: int) -> int:
        """Delete what is kept no longer, a bounded part of it, and give its room back; return how many runs."""
        oldest_ms = now_ms - int(self._limits.keep_s * 1000)

        def work(database: sqlite3.Connection) -> int:
            over = "state NOT IN ('running','waiting')"
            doomed = database.execute(
                f"SELECT number FROM runs WHERE {over} AND (changed<? OR number<=coalesce((SELECT number FROM runs "  # noqa: S608
                f"WHERE {over} ORDER BY number DESC LIMIT 1 OFFSET ?), -1)) ORDER BY number LIMIT ?",
                (oldest_ms, self._limits.keep, _PRUNED_AT_ONCE),
            ).fetchall()
            database.executemany("DELETE FROM parts WHERE run=?", doomed)
            database.executemany("DELETE FROM runs WHERE number=?", doomed)
            spare = database.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(min(spare, _PAGES_AT_ONCE)):
                database.execute("PRAGMA incremental_vacuum(1)")  # Python's module takes one step of it only
            return len(doomed)

        return await self._ask(work)

    def _free(self, owner: str) -> bool:
        assert self._owner is not None
        return not owner or owner == self.owner or not self._owner.lives(owner)

    # The way to the thread and back.

    async def _ask(self, work: Callable[[sqlite3.Connection], _T], size: int = 0) -> _T:
        assert self._loop is not None, "open first"
        if self._closed:
            raise ServerError("server_draining", "the journal of runs is closed")
        if self._trouble:
            raise self._refusal()
        if self._waiting >= self._limits.waiting or self._waiting_bytes + size > self._limits.waiting_bytes:
            raise ServerError("overloaded", f"{self._waiting} calls wait for the journal of runs; try again")
        job = _Job(work, self._loop.create_future(), size)
        self._waiting += 1
        self._waiting_bytes += size
        self._queue.put(job)
        # The thread answers every job, within the time that it waits for other processes and for the disk. Whoever is
        # cancelled meanwhile does not know whether it was kept, as after a crash.
        answer: _T = await job.answer
        return answer

    def _answered(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._waiting -= 1
            self._waiting_bytes -= job.size
            if job.answer.done():
                continue
            if job.error is not None:
                job.answer.set_exception(job.error)
            else:
                job.answer.set_result(job.outcome)

    # The thread.

    def _prepare(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:  # a file that is refused is tried again with each request
            self._turn = FileTurn(self._path.with_name(f"{self._path.name}.lock"), self._limits.busy_s)
            opened.callback(self._turn.close)
            self._owner = RunOwner(self._path.parent)
            opened.callback(self._owner.close)
            with self._turn.taken():
                database = open_database(
                    self._path,
                    busy_s=self._limits.busy_s,
                    file_bytes=self._limits.file_bytes,
                    connection=self._connection,
                )
            opened.pop_all()
        return database

    def _serve(self) -> None:
        assert self._loop is not None
        assert self._owner is not None
        going = True
        while going:
            jobs: list[_Job] = []
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == self._limits.together or self._queue.empty():
                    break
                job = self._queue.get()
            going = job is not None
            self._commit(jobs)
            if len(jobs) > 1 and not self._trouble and any(isinstance(job.error, ServerError) for job in jobs):
                for job in jobs:  # one of them may be what does not fit
                    self._commit([job])
            try:
                self._loop.call_soon_threadsafe(self._answered, jobs)
            except RuntimeError:
                _log.warning("the journal of runs outlived its event loop")
        self._close_file()
        self._owner.close()  # not before: while this process lives, what it drives is nobody else's
        self._turn.close()

    def _close_file(self) -> None:
        with contextlib.suppress(ServerError, sqlite3.Error), self._turn.taken():
            self._database.close()

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """Do jobs in one transaction: all are on the disk afterwards, or those that could not be say why."""
        try:
            if self._trouble:
                raise self._refusal()
            with self._turn.taken():
                self._transact(jobs)
        except (sqlite3.Error, OSError, ServerError) as error:
            if is_not_synced(error):
                self._stop()
                told = self._refusal()
            else:
                told = error if isinstance(error, ServerError) else storage_error(error, self._path)
            for job in jobs:
                job.error = told
            if told.code == "internal_error":
                _log.error("the journal of runs cannot be written: %s", error)
        except Exception:  # the thread's outermost loop: were it to end, every later call would wait for ever
            _log.exception("the journal of runs is broken")
            for job in jobs:
                job.error = ServerError("internal_error", "the journal of runs is broken; the log says why")

    def _stop(self) -> None:
        """Acknowledge nothing any more: a further sync could succeed, and what this one lost would still be lost."""
        self._trouble = (
            f"the journal of runs, {str(self._path)!r}, has stopped: the disk did not keep what was written to it. See"
            " to the disk, then start the server again; what was acknowledged is kept"
        )
        self._close_file()

    def _refusal(self) -> ServerError:
        """What calls are told once it has stopped; a new one each: an exception keeps the frames of every raise."""
        return ServerError("internal_error", self._trouble)

    def _transact(self, jobs: Sequence[_Job]) -> None:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.error = None
                try:
                    job.outcome = job.work(database)
                except AutoGLMError as error:  # raised before it wrote anything
                    job.error = error
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
