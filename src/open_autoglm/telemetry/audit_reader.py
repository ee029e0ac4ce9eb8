"""The audit read from its files: the whole chain checked, or one run found. Blocks; not for the event loop.

Invariant: nothing is held but one line and what was asked for; a file is read once, from its beginning to its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from open_autoglm.telemetry.audit_chain import LINE_BYTES_MAX, UNREADABLE, ChainBroken, Entry, Verifier
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


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that had been there and are not in the chain any more, as it says itself.

    Attributes:
        file, line: where the record stands that tells of it.
        sequence, hash: of that record.
        time: when it was noticed, ISO 8601.
        reason: what is not there.
    """

    file: str
    line: int
    sequence: int
    hash: str
    time: str
    reason: str


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
        gaps: records that are gone; what went with files that were dropped in their time is none.
        notes: what else the chain says about itself: cut after a crash, records lost while the disk was full, …
    """

    first: int = 0
    last: int = 0
    head: str = ""
    dropped: int = 0
    file: str = ""
    line: int = 0
    sequence: int = 0
    reason: str = ""
    gaps: list[Gap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every record is there and as it was written."""
        return not self.reason and not self.gaps


def files_of(path: Path) -> list[Path]:
    """The chain's files, the oldest first."""
    return [*older_files(path), *([path] if path.exists() else [])]


def verify(
    path: Path,
    key: bytes = b"",
    expect: tuple[int, str] | None = None,
    known: Collection[tuple[int, str]] = (),
) -> Verdict:
    """Check the whole chain; the first record that is wrong ends it.

    Args:
        path: of the newest file.
        key: with which it was written.
        expect: number and hash of a record that was noted elsewhere and must be there.
        known: numbers and hashes of records that tell of gaps which somebody knows of: notes, no gaps.

    Raises:
        OSError: a file cannot be read.
    """
    verdict = Verdict()
    verifier = Verifier(key)
    seen = expect is None
    here: tuple[str, int] = (path.name, 0)
    try:
        for file in files_of(path):
            for number, line in enumerate(_lines(file), 1):
                here = (file.name, number)
                entry = verifier.take(line)
                _note(verdict, Gap(*here, entry.sequence, verifier.head, entry.time, ""), entry, known)
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
    verdict.gaps = [gap for gap in verdict.gaps if gap.sequence > verdict.dropped]
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
    "lost": "records were lost, the disk took none",
}
_NOTES_MAX: Final = 100


def _note(verdict: Verdict, gap: Gap, entry: Entry, known: Collection[tuple[int, str]]) -> None:
    """Take down what a record says of the chain itself; `gap` is where it stands."""
    reason = _gone(entry)
    if reason and (entry.sequence, gap.hash) not in known:
        if len(verdict.gaps) < _NOTES_MAX:
            verdict.gaps.append(replace(gap, reason=reason))
    elif entry.kind == "dropped":
        verdict.dropped = max(verdict.dropped, _said(entry, _Until).until)
    elif (reason or entry.kind in _SPOKEN) and len(verdict.notes) < _NOTES_MAX:
        words = f"known: {reason}" if reason else f"{_SPOKEN[entry.kind]} {bytes(entry.data).decode()}"
        verdict.notes.append(f"record {entry.sequence}: {words}")


def _gone(entry: Entry) -> str:
    """What a record says is gone; empty where it tells of something else."""
    if entry.kind == "missing":
        missing = _said(entry, _Missing)
        return f"records {missing.first} to {missing.last}, which had been written, were not there any more"
    if entry.kind == "set_aside":
        aside = _said(entry, _SetAside)
        return f"all records before are in {aside.file}, set aside since one {aside.reason}; the chain began anew"
    return ""


def _said(entry: Entry, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(entry.data, type=form)
    except UNREADABLE as error:  # somebody made a record that has a hash and no sense
        raise ChainBroken(f"is no record of what is {entry.kind}", entry.sequence) from error


class _Until(Struct):
    """Of a `dropped` record."""

    until: int


class _Missing(Struct, rename={"first": "from", "last": "to"}):
    """Of a `missing` record."""

    first: int
    last: int


class _SetAside(Struct):
    """Of a `set_aside` record."""

    file: str
    reason: str


_Form = TypeVar("_Form", _Until, _Missing, _SetAside)


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
