"""The files of the audit: one chain over all of them, whoever writes.

| file | holds |
|---|---|
| `FILE` | the newest records |
| `FILE.000000000123` | older ones, from record 123 on |
| `FILE.head` | number and hash of the last record; the lock of all who write |
| `FILE.broken-…` | what could not be gone on with |

Invariants: whole lines only; a batch is written whole or not at all; several processes write one chain, since each
takes the lock for a batch and reads where another left off. Not for several threads at once; blocks: for a thread of
its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from open_autoglm.telemetry.audit_chain import (
    LINE_BYTES_MAX,
    START,
    UNREADABLE,
    Chain,
    ChainBroken,
    digest,
    encode_data,
    read_entry,
)

DIGITS: Final = 12
"""Of the number in the name of an older file: names sort like numbers."""

_HEAD_BYTES: Final = 256
"""A fixed length, so that writing a head needs no room on a full disk."""

_LOCK_TRIES: Final = 400
_LOCK_PAUSE_S: Final = 0.005
"""Two seconds in all: others hold the lock for one batch."""


class AuditFileError(OSError):
    """Nothing could be written; what was there is as it was."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A record that is not in the chain yet.

    Attributes:
        time: ISO 8601.
        run: id, or empty.
        kind: what happened.
        data: from `audit_chain.encode_data`.
    """

    time: str
    run: str
    kind: str
    data: bytes


class Head(Struct, frozen=True):
    """The content of `FILE.head`.

    Attributes:
        sequence, hash: of the last record.
        mac: of both, made as a record's hash is.
    """

    sequence: int
    hash: str
    mac: str


def older_files(path: Path) -> list[Path]:
    """The files before the newest one, the oldest first."""
    found = path.parent.glob(f"{path.name}.*") if path.parent.is_dir() else ()
    return sorted(each for each in found if each.name[len(path.name) + 1 :].isdecimal())


def read_head(path: Path, key: bytes) -> Head | None:
    """Read `FILE.head`; None when there is none yet.

    Raises:
        ChainBroken: it was changed.
    """
    try:
        written = Path(f"{path}.head").read_bytes()
    except FileNotFoundError:
        return None
    if not written:
        return None
    try:
        head = msgspec.json.decode(written, type=Head)
    except UNREADABLE as error:
        raise ChainBroken("the file of the head was changed") from error
    if head.mac != _head_mac(head.sequence, head.hash, key) or written != _padded(head):
        raise ChainBroken("the file of the head was changed, or another key wrote it", head.sequence)
    return head


class AuditFile:
    """See the module.

    Args:
        path: of the newest records; the folder is made when missing.
        key: for HMAC; empty for none.
        bytes_max: a file that is longer is put aside.
        keep: older files that stay, at least 1; those before them are deleted.
        durable: have the system bring every batch to the disk before it counts as written.
    """

    def __init__(self, path: str, key: bytes, *, bytes_max: int, keep: int, durable: bool) -> None:
        self._path = Path(path)
        self._chain = Chain(key)
        self._bytes_max = bytes_max
        self._keep = keep
        self._durable = durable
        self._fd = -1
        self._lock_fd = -1
        self._size = -1
        self._notes: list[tuple[str, dict[str, object]]] = []
        self._doomed: list[Path] = []
        self._pause = threading.Event()

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last record known here."""
        return self._chain.sequence, self._chain.head

    def append(self, batch: Sequence[Pending], time: str) -> None:
        """Write records, all or none; `time` is for records about the chain itself.

        Raises:
            OSError: nothing was written, as with a full disk, or while another process holds the lock.
        """
        self._lock()
        try:
            self._catch_up(time)
            self._write(batch, time)
        except ChainBroken as broken:  # a damaged end: put aside, and said in the chain that begins anew
            self._put_aside(broken, time)
            self._write(batch, time)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; a later `append` opens them again."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._lock_fd = self._size = -1

    def _lock(self) -> None:
        head = Path(f"{self._path}.head")
        if self._lock_fd >= 0 and not _same_file(self._lock_fd, head):  # somebody took it away: others have another one
            os.close(self._lock_fd)
            self._lock_fd = -1
        if self._lock_fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = _open(str(head), os.O_RDWR)
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._pause.wait(_LOCK_PAUSE_S)
            else:
                return
        raise AuditFileError(errno.EAGAIN, "another process holds its lock", str(self._path))

    def _catch_up(self, time: str) -> None:
        """Have the newest file open, and the chain's end known: another process may have written, or put it aside."""
        if self._fd >= 0 and not _same_file(self._fd, self._path):
            os.close(self._fd)
            self._fd = self._size = -1
        if self._fd < 0:
            self._fd = _open(str(self._path), os.O_RDWR | os.O_APPEND)
        size = os.fstat(self._fd).st_size
        if size != self._size:
            self._read_end(size)
            self._size = os.fstat(self._fd).st_size
        if self._chain.sequence == 0:
            self._notes.append(("opened", {"keyed": bool(self._chain.key), "form": 1}))

    def _read_end(self, size: int) -> None:
        """Find the last whole record, and cut off a torn one behind it."""
        last, torn = _last_line(self._fd, size)
        if torn:
            os.ftruncate(self._fd, size - len(torn))
            self._notes.append(("recovered", {"cut_bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}))
        if not last:
            older = older_files(self._path)
            last = _last_line_of(older[-1]) if older else b""
        if last:
            entry, self._chain.head = read_entry(last, self._chain.key)
            self._chain.sequence = entry.sequence
        else:
            self._chain.sequence, self._chain.head = 0, START
        try:
            told = read_head(self._path, self._chain.key)
        except ChainBroken as broken:  # the records are whole: said in the chain, and written anew
            self._notes.append(("recovered", {"head": broken.reason}))
            return
        if told is not None and told.sequence > self._chain.sequence:
            self._notes.append(("missing", {"from": self._chain.sequence + 1, "to": told.sequence, "head": told.hash}))

    def _put_aside(self, broken: ChainBroken, time: str) -> None:
        """Keep a file that cannot be gone on with under another name, and begin again."""
        self._close_data()
        number = 1
        while (aside := Path(f"{self._path}.broken-{number}")).exists():
            number += 1
        os.replace(self._path, aside)
        for old in older_files(self._path):  # they do not belong to the chain that begins now
            os.replace(old, f"{aside}-{_number(old)}")
        os.ftruncate(self._lock_fd, 0)
        self._notes = [("set_aside", {"file": aside.name, "reason": broken.reason})]
        self._catch_up(time)

    def _write(self, batch: Sequence[Pending], time: str) -> None:
        if self._size > self._bytes_max:
            self._rotate()
        before = Chain(self._chain.key, self._chain.sequence, self._chain.head)
        notes = [Pending(time, "", kind, encode_data(data)) for kind, data in self._notes]
        data = b"".join(self._chain.seal(each.time, each.run, each.kind, each.data) for each in (*notes, *batch))
        try:
            _write_all(self._fd, data)
            if self._durable:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._chain = before
            self._notes = [note for note in self._notes if note[0] not in ("opened", "missing")]  # found again
            self._size = -1  # read the end again: what the system took is not known
            raise
        self._size += len(data)
        self._notes = []
        self._write_head()
        for each in self._doomed:
            with contextlib.suppress(OSError):
                each.unlink()
        self._doomed = []

    def _rotate(self) -> None:
        """Put the newest file aside; say in the chain which of the oldest go, before they do."""
        first = _first_sequence(self._path)
        os.replace(self._path, f"{self._path}.{first:0{DIGITS}d}")
        self._close_data()
        self._fd = _open(str(self._path), os.O_RDWR | os.O_APPEND)
        self._size = 0
        older = older_files(self._path)
        self._doomed, kept = older[: -self._keep], older[-self._keep :]
        if self._doomed:
            self._notes.append(("dropped", {"until": _number(kept[0]) - 1}))

    def _write_head(self) -> None:
        sequence, head = self.head
        data = _padded(Head(sequence, head, _head_mac(sequence, head, self._chain.key)))
        with contextlib.suppress(OSError):  # it guards the end only; the records themselves are written
            os.pwrite(self._lock_fd, data, 0)

    def _close_data(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._size = -1


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _number(older: Path) -> int:
    return int(older.name.rpartition(".")[2])


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _write_all(fd: int, data: bytes) -> None:
    view, done = memoryview(data), 0
    while done < len(data):
        done += os.write(fd, view[done:])


def _last_line(fd: int, size: int) -> tuple[bytes, bytes]:
    """The last whole line, and what is behind it without a line feed.

    Raises:
        ChainBroken: the end holds no line that a record could be.
    """
    start = max(0, size - 2 * LINE_BYTES_MAX)
    data = os.pread(fd, size - start, start)
    whole_end = data.rfind(b"\n") + 1
    torn = data[whole_end:]
    if len(torn) > LINE_BYTES_MAX:
        raise ChainBroken("ends with what is no record")
    begin = data.rfind(b"\n", 0, max(0, whole_end - 1)) + 1
    return data[begin:whole_end], torn


def _last_line_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return _last_line(file.fileno(), os.fstat(file.fileno()).st_size)[0]


def _first_sequence(path: Path) -> int:
    with path.open("rb") as file:
        line = file.readline(LINE_BYTES_MAX + 1)
    try:
        return msgspec.json.decode(line, type=_Numbered).sequence
    except UNREADABLE as error:
        raise ChainBroken("begins with what is no record") from error


class _Numbered(Struct):
    """Any record; only its number is looked at."""

    sequence: int


def _padded(head: Head) -> bytes:
    return msgspec.json.encode(head).ljust(_HEAD_BYTES - 1) + b"\n"


def _head_mac(sequence: int, head: str, key: bytes) -> str:
    return digest(f"head:{sequence}:{head}".encode(), key)
