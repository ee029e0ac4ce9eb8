"""A disk in memory that keeps what was synced, and of the rest what chance leaves, when the machine crashes.

A seed decides what a crash keeps: each write since the last sync of its file is lost, whole, or torn at some byte,
and a file that was created, renamed or removed since the last sync of the folder may be as it was before. Writes are
not put into another order within one file. Invariant: what was synced without an error survives every crash.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class _File:
    """A file as programs see it, and as the platter has it."""

    live: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)


class Disk:
    """See the module. Paths are plain names; there is one folder.

    Args:
        seed: of what crashes leave.
        capacity_bytes: of all files together.

    Attributes:
        broken: while true, `sync` fails, and what it should have kept counts as lost for ever, as on Linux.
    """

    def __init__(self, seed: int = 0, *, capacity_bytes: int = 2**30) -> None:
        self.broken = False
        self.capacity_bytes = capacity_bytes
        self._rng = random.Random(seed)
        self._live: dict[str, _File] = {}
        self._names: dict[str, _File] = {}

    def names(self) -> list[str]:
        """The files that there are."""
        return sorted(self._live)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return bytes(self._file(name).live)

    def write(self, name: str, data: bytes, *, at: int | None = None) -> None:
        """Write at a place of a file, at its end when no place is named; a new name makes a file.

        Raises:
            OSError: the disk is full; as much as fits was written.
        """
        file = self._live.setdefault(name, _File())
        place = len(file.live) if at is None else at
        room = self.capacity_bytes - sum(len(each.live) for each in self._live.values())
        grows = max(0, place + len(data) - len(file.live))
        kept = data if grows <= room else data[: max(0, len(data) - (grows - room))]
        file.live[place : place + len(kept)] = kept
        file.writes.append((place, kept))
        if len(kept) < len(data):
            raise OSError(errno.ENOSPC, "no space left on the virtual disk", name)

    def truncate(self, name: str) -> None:
        """Empty a file; that is as lasting as a write."""
        file = self._file(name)
        file.live.clear()
        file.writes.append((-1, b""))

    def sync(self, name: str) -> None:
        """Make a file's content last, and with it the name, as `fsync` of the file and of its folder.

        Raises:
            OSError: the disk is broken; what was written since the last sync may be lost, even if the next one works.
        """
        file = self._file(name)
        if self.broken:
            file.writes.clear()
            raise OSError(errno.EIO, "the virtual disk cannot sync", name)
        # What an earlier failed sync dropped stays in memory alone: this one does not bring it back.
        file.synced = self._after(file, len(file.writes), torn=False)
        file.writes.clear()
        self._names[name] = file

    def rename(self, name: str, other: str) -> None:
        """Give a file another name, in whose place it then stands.

        Raises:
            FileNotFoundError: there is no such file.
        """
        self._live[other] = self._file(name)
        del self._live[name]

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        self._file(name)
        del self._live[name]

    def sync_folder(self) -> None:
        """Make the names last, as `fsync` of the folder.

        Raises:
            OSError: the disk is broken.
        """
        if self.broken:
            raise OSError(errno.EIO, "the virtual disk cannot sync", "the folder")
        self._names = dict(self._live)

    def crash(self) -> None:
        """Lose power and start again: what was synced is there, of the rest what chance leaves."""
        rng = self._rng
        names = dict(self._names)
        for name in sorted({*self._live, *self._names}):
            if self._live.get(name) is not self._names.get(name) and rng.random() < 0.5:
                names.pop(name, None)
                if name in self._live:
                    names[name] = self._live[name]
        for file in {id(each): each for each in [*names.values(), *self._live.values()]}.values():
            file.synced = self._after(file, rng.randint(0, len(file.writes)), torn=rng.random() < 0.5)
            file.live = bytearray(file.synced)
            file.writes.clear()
        self._live = names
        self._names = dict(names)

    def _file(self, name: str) -> _File:
        try:
            return self._live[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file on the virtual disk", name) from None

    def _after(self, file: _File, count: int, *, torn: bool) -> bytes:
        """What the platter has after the first `count` writes since the last sync, the last of them perhaps torn."""
        content = bytearray(file.synced)
        for number, (place, data) in enumerate(file.writes[:count], 1):
            if place < 0:
                content.clear()
                continue
            if torn and number == count:
                data = data[: self._rng.randint(0, len(data))]
            content.extend(bytes(max(0, place - len(content))))
            content[place : place + len(data)] = data
        return bytes(content)
