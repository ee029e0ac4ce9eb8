"""The file under the journal of runs: how it is made, opened and checked, and what its errors mean."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from open_autoglm.errors import ServerError

VERSION: Final = 1
"""Of the tables. A file of another one is refused: a run must not go on from what is half understood."""
_MARK: Final = 0x4155_5247
"""SQLite's `application_id` of such a file."""
_LOG_BYTES: Final = 64 * 1024 * 1024
"""The log is cut to this after a checkpoint."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_SYNCED: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

_TABLES: Final = (
    "CREATE TABLE runs(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, owner TEXT NOT NULL,"
    " about BLOB NOT NULL, began INTEGER NOT NULL, changed INTEGER NOT NULL, expires INTEGER NOT NULL)",
    "CREATE INDEX runs_by_state ON runs(state, number)",
    # Rows come at the end of the table whatever their run, so a transaction of many runs writes few pages.
    "CREATE TABLE parts(number INTEGER PRIMARY KEY, run INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX parts_by_run ON parts(run, seq)",
)


def open_database(
    path: Path, *, busy_s: float, file_bytes: int, connection: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """Open a journal's file, or make it; `connection` is what SQLite is spoken to through.

    Raises:
        ServerError: it is none of ours, or of another version, or damaged.
        sqlite3.Error: it cannot be opened.
        OSError: it cannot be made.
    """
    made = not path.exists()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False, factory=connection)
    try:
        _set_up(database, path)
        size = database.execute("PRAGMA page_size").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={max(1, file_bytes // size)}")
        if made:
            _sync_folder(path.parent)
    except BaseException:
        database.close()
        if made:  # else the next try would take its name for one that lasts
            path.unlink(missing_ok=True)
        raise
    return database


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has an effect on an empty file only
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
    database.execute("BEGIN IMMEDIATE")
    mark = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if (mark, version) == (0, 0) and not database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        for table in _TABLES:
            database.execute(table)
        database.execute(f"PRAGMA application_id={_MARK}")
        database.execute(f"PRAGMA user_version={VERSION}")
    elif mark != _MARK:
        raise ServerError("internal_error", f"{str(path)!r} is no journal of runs; move it away")
    elif version != VERSION:
        raise ServerError(
            "internal_error",
            f"{str(path)!r} is a journal of version {version}; this server reads version {VERSION}: move it away, or"
            " use the server that wrote it until its runs are over",
        )
    database.execute("COMMIT")


def _sync_folder(folder: Path) -> None:
    """Make sure that the file's name outlives a loss of power; SQLite does so for its log only."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_not_synced(error: Exception) -> bool:
    """Whether the disk has not kept what it had taken. What of it is lost, and what is not, nobody can tell then: the
    next sync succeeds though the pages of this one are gone."""
    return getattr(error, "sqlite_errorcode", 0) in _NOT_SYNCED


def storage_error(error: Exception, path: Path) -> ServerError:
    """Say in our words what SQLite or the system said."""
    if isinstance(error, OSError):
        full = error.errno in _FULL
    else:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return ServerError("overloaded", f"another process holds {str(path)!r} for too long; try again")
        full = code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE
    if full:
        message = f"no room is left for the journal of runs, {str(path)!r}; free some, or raise runs.file_bytes"
        return ServerError("storage_full", message)
    return ServerError("internal_error", f"the journal of runs, {str(path)!r}, cannot be used: {error}")
