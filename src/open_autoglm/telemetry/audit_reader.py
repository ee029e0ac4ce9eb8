"""The audit read from its files: the whole chain checked, or one run found. Blocks; not for the event loop.

Invariant: nothing is held but one line and what was asked for; a file is read once, from its beginning to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw, Struct

from open_autoglm.telemetry.audit_chain import LINE_BYTES_MAX, UNREADABLE, ChainBroken, Verifier
from open_autoglm.telemetry.audit_file import older_files, read_head

ENTRIES_MAX: Final = 20_000
"""Of one run: more than any strategy or task graph makes."""


class Told(Struct, frozen=True):
    """A record as it is read by somebody who does not check it.

    Attributes:
        sequence, time, run, kind: as in `audit_chain.Entry`.
        data: decoded on demand, see `audit_chain.Entry.value`.
    """

    sequence: int
    time: str
    run: str
    kind: str
    data: Raw


@dataclass(slots=True)
class Verdict:
    """What a check of the chain found.

    Attributes:
        first, last: numbers of the first and last record that are as they were written; 0 for none.
        head: hash of the last one.
        dropped: number up to which old records went with their files, as the chain itself says.
        file, line: where the first wrong record stands; empty when there is none.
        sequence: its number, where it can be told.
        reason: what is wrong; empty when nothing is.
        notes: what the chain says about itself: cut after a crash, records lost while the disk was full, …
    """

    first: int = 0
    last: int = 0
    head: str = ""
    dropped: int = 0
    file: str = ""
    line: int = 0
    sequence: int = 0
    reason: str = ""
    notes: list[str] | None = None

    @property
    def ok(self) -> bool:
        """Whether every record is there and as it was written."""
        return not self.reason


def files_of(path: Path) -> list[Path]:
    """The chain's files, the oldest first."""
    return [*older_files(path), *([path] if path.exists() else [])]


def verify(path: Path, key: bytes = b"", expect: tuple[int, str] | None = None) -> Verdict:
    """Check the whole chain; the first record that is wrong ends it.

    Args:
        path: of the newest file.
        key: with which it was written.
        expect: number and hash of a record that was noted elsewhere and must be there.

    Raises:
        OSError: a file cannot be read.
    """
    verdict = Verdict(notes=[])
    verifier = Verifier(key)
    seen = expect is None
    here: tuple[str, int] = (path.name, 0)
    try:
        for file in files_of(path):
            for number, line in enumerate(_lines(file), 1):
                here = (file.name, number)
                entry = verifier.take(line)
                _note(verdict, entry.kind, entry.sequence, entry.data)
                verdict.first, verdict.last, verdict.head = verifier.first, verifier.sequence, verifier.head
                if expect is not None and entry.sequence == expect[0]:
                    seen = verifier.head == expect[1]
                    if not seen:
                        raise ChainBroken("is not the one that was noted", entry.sequence)
        here = (path.name, 0)
        _check_ends(path, key, verdict)
        if not seen:
            raise ChainBroken("the record that was noted is not there", expect[0] if expect else 0)
    except ChainBroken as broken:
        verdict.file, verdict.line = here
        verdict.reason, verdict.sequence = broken.reason, broken.sequence
    return verdict


def _check_ends(path: Path, key: bytes, verdict: Verdict) -> None:
    if verdict.first > verdict.dropped + 1:
        raise ChainBroken(f"records {verdict.dropped + 1} to {verdict.first - 1} are missing at the beginning", 1)
    head = read_head(path, key)
    if head is None and verdict.last:
        raise ChainBroken("the file of the head is missing")
    if head is None:
        return
    if head.sequence > verdict.last:
        missing = f"records {verdict.last + 1} to {head.sequence} are missing at the end"
        raise ChainBroken(missing, verdict.last + 1)
    if head.sequence == verdict.last and head.hash != verdict.head:
        raise ChainBroken("the file of the head tells of another record", head.sequence)


_SPOKEN: Final = {
    "recovered": "after a crash a torn last line was cut off, or the head written anew",
    "missing": "records that had been there were missing at a start",
    "lost": "records were lost, the disk took none",
    "set_aside": "a damaged file was set aside, and the chain began anew",
}


def _note(verdict: Verdict, kind: str, sequence: int, data: Raw) -> None:
    if kind == "dropped":
        try:
            verdict.dropped = max(verdict.dropped, msgspec.json.decode(data, type=_Until).until)
        except UNREADABLE as error:  # somebody made a record that has a hash and no sense
            raise ChainBroken("is no record of dropped files", sequence) from error
    elif kind in _SPOKEN and verdict.notes is not None and len(verdict.notes) < 100:
        verdict.notes.append(f"record {sequence}: {_SPOKEN[kind]} {bytes(data).decode()}")


class _Until(Struct):
    """Of a `dropped` record."""

    until: int


def find_run(path: Path, run: str) -> list[Told]:
    """Every record of one run, in order; at most `ENTRIES_MAX`. They are not checked.

    Raises:
        OSError: a file cannot be read.
    """
    sign = b'"run":' + msgspec.json.encode(run) + b","
    found: list[Told] = []
    for file in files_of(path):
        for line in _lines(file):
            if sign in line and len(found) < ENTRIES_MAX:
                told = _told(line)
                if told is not None and told.run == run:
                    found.append(told)
    return found


def ended_runs(path: Path) -> Iterator[list[Told]]:
    """The records of each run that has ended, in the order of the ends; they are not checked.

    Raises:
        OSError: a file cannot be read.
    """
    under_way: dict[str, list[Told]] = {}
    for file in files_of(path):
        for line in _lines(file):
            told = _told(line)
            if told is None or not told.run:
                continue
            if told.kind == "begin":
                under_way[told.run] = []
                if len(under_way) > _UNDER_WAY_MAX:  # the oldest was cut off, or lost its end
                    del under_way[next(iter(under_way))]
            entries = under_way.get(told.run)
            if entries is not None and len(entries) < ENTRIES_MAX:
                entries.append(told)
                if told.kind == "end":
                    yield under_way.pop(told.run)


def newest_runs(path: Path, limit: int) -> list[Told]:
    """The records with which the newest runs ended, the newest first.

    Raises:
        OSError: a file cannot be read.
    """
    found: list[Told] = []
    for file in reversed(files_of(path)):
        ended = [told for line in _lines(file) if _ENDED.search(line) and (told := _told(line)) and told.kind == "end"]
        found += reversed(ended[-(limit - len(found)) :])
        if len(found) >= limit:
            break
    return found


_UNDER_WAY_MAX: Final = 10_000
_ENDED: Final = re.compile(rb'"kind":"end",')


def _told(line: bytes) -> Told | None:
    try:
        return msgspec.json.decode(line, type=Told)
    except UNREADABLE:
        return None


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while line := opened.readline(LINE_BYTES_MAX + 1):
            yield line
