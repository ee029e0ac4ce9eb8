"""What was written at once by several: kept for whoever has to judge it.

Invariant: at most `records_max` conflicts; the oldest falls out, and is counted. Each pair of writes is there once,
however often and in whatever order it was heard of.

| state of a conflict | ends with |
|---|---|
| open: both writes stand beside each other | a write that knows both |
| settled | falling out of the log |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from open_autoglm.dissemination.entry import Entry

RECORDS_MAX: Final = 256

_Dot = tuple[str, int]


class Conflict(Struct):
    """Two writes of a key of which neither knew the other.

    Attributes:
        winner: what is read.
        loser: what is not.
        settled_by: writer and counter of the write that knew both; None while there is none.
    """

    winner: Entry
    loser: Entry
    settled_by: _Dot | None = None


class ConflictLog:
    """See the module.

    Args:
        records_max: conflicts that are kept, open ones and settled ones.

    Attributes:
        noted: conflicts that were ever kept; this and the next only grow.
        dropped: that fell out.
    """

    __slots__ = ("_records", "_records_max", "dropped", "noted")

    def __init__(self, records_max: int = RECORDS_MAX) -> None:
        self._records: dict[tuple[_Dot, _Dot], Conflict] = {}
        self._records_max = records_max
        self.noted = self.dropped = 0

    def __len__(self) -> int:
        return len(self._records)

    def note(self, one: Entry, other: Entry) -> None:
        """Keep two concurrent writes of one key, in whatever order."""
        loser, winner = sorted((one, other), key=lambda entry: entry.rank)
        pair = ((winner.writer, winner.counter), (loser.writer, loser.counter))
        if pair in self._records:
            return
        self._records[pair] = Conflict(winner, loser)
        self.noted += 1
        if len(self._records) > self._records_max:
            del self._records[next(iter(self._records))]
            self.dropped += 1

    def settle(self, by: Entry, replaced: Iterable[Entry]) -> None:
        """Take note that a write replaced some, and so settled what was open between them."""
        dots = {(entry.writer, entry.counter) for entry in replaced}
        for (winner, loser), conflict in self._records.items():
            if conflict.settled_by is not None or not {winner, loser} & dots:
                continue
            if by.knows(conflict.winner) and by.knows(conflict.loser):
                conflict.settled_by = (by.writer, by.counter)

    def of(self, key: str) -> list[Conflict]:
        """All that are kept of a key, oldest first."""
        return [conflict for conflict in self._records.values() if conflict.winner.key == key]

    def open(self) -> list[Conflict]:
        """All that no write has settled, oldest first."""
        return [conflict for conflict in self._records.values() if conflict.settled_by is None]
