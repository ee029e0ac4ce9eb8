"""A map of small values that every member may write, and that ends up the same everywhere.

Of each key the entries are kept of which none knew another: as a rule one; several after writes at once. The one of the
highest rank is what is read, the others stand beside it until somebody writes who knows them all. Merging takes no
account of order, grouping or repetition, so any way of telling will do; the one exception is stated at `SIBLINGS_MAX`.

Invariants: a write is taken only from who names all entries that it replaces (optimistic locking). An entry is gone
when its time to live is over, which counts in milliseconds that are left, never in anybody's time of day; each hop
takes off one at least. Sizes are bounded: keys, entries of a key, members of a vector, changes that are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from open_autoglm.dissemination.conflict_log import ConflictLog
from open_autoglm.dissemination.entry import (
    KEY_BYTES_MAX,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    Entry,
    Told,
    write_body,
    write_head,
)
from open_autoglm.protocol.version_vector import COUNTER_MAX, MEMBER_BYTES_MAX, Vector, join, prune

KEYS_MAX: Final = 1024
SIBLINGS_MAX: Final = 16
"""Of more writers of one key at once those of the lowest rank are lost; what is read never is."""
WRITERS_MAX: Final = 32
"""Members in the vector of a new write."""
CHANGES_MAX: Final = 256
"""Changed keys that are remembered; who lacks more is told everything."""
REMOVED_TTL_MS: Final = 3_600_000
"""A member that was cut off for longer may bring a removed key back."""


class WriteConflict(ValueError):
    """A write did not name everything that it would have replaced; nothing was written.

    Attributes:
        reading: what there is: write again with its vector to replace it.
    """

    def __init__(self, key: str, reading: Reading) -> None:
        super().__init__(f"{key} was written by {', '.join(entry.writer for entry in reading.entries)} meanwhile")
        self.reading = reading


class Reading(NamedTuple):
    """What is known of a key.

    Attributes:
        value: what counts; None when there is none.
        vector: knows all entries.
        entries: the one that counts first, then those that were written at the same time.
    """

    value: bytes | None
    vector: dict[str, int]
    entries: tuple[Entry, ...]


class Change(NamedTuple):
    """A key that changed.

    Attributes:
        number: counts this member's changes.
        source: who told all that is known of the key; empty when some of it was written here, or told by another.
    """

    number: int
    source: str


@dataclass(slots=True)
class _Held:
    entry: Entry
    body: bytes
    expires_s: float


class ReplicatedMap:
    """See the module.

    Args:
        me: this member's name.
        first_counter: counter of its first write; higher than any that it used in a life before, whose writes it may
            not remember: the start of its process in microseconds will do.
        keys_max: keys that can be written here; twice as many are taken in from others.
        changes_max: see `CHANGES_MAX`.

    Attributes:
        conflicts: writes at once that were noticed here.
        taken: entries of others that were new; this and the next three only grow.
        known: that were here already.
        stale: that others here replace.
        refused: that were expired, or had no room.
    """

    def __init__(
        self, me: str, first_counter: int = 1, *, keys_max: int = KEYS_MAX, changes_max: int = CHANGES_MAX
    ) -> None:
        if not 0 < len(me.encode()) <= MEMBER_BYTES_MAX or not 0 < first_counter <= COUNTER_MAX:
            raise ValueError(f"{me!r} cannot write under that name, or from {first_counter} on")
        self.conflicts = ConflictLog()
        self.taken = self.known = self.stale = self.refused = 0
        self._me = me
        self._counter = first_counter - 1
        self._clock = 0
        self._keys_max = keys_max
        self._changes_max = changes_max
        self._keys: dict[str, list[_Held]] = {}
        self._changes: OrderedDict[str, Change] = OrderedDict()
        self._change = 0
        self._forgotten = 0
        self._gone: dict[str, None] = {}
        self._deadline_s = inf

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def change(self) -> int:
        """Number of the last change."""
        return self._change

    def keys(self) -> list[str]:
        """All keys of which something is known, removed ones too."""
        return list(self._keys)

    def get(self, key: str) -> bytes | None:
        """Return what counts of a key; None when there is nothing."""
        held = self._keys.get(key)
        return held[0].entry.value if held else None

    def read(self, key: str) -> Reading:
        """Return all that is known of a key."""
        entries = tuple(held.entry for held in self._keys.get(key, ()))
        return Reading(entries[0].value if entries else None, join(*(entry.vector for entry in entries)), entries)

    # Writing.

    def write(
        self, key: str, value: bytes | None, expected: Vector, now_s: float, *, ttl_ms: int | None = None
    ) -> Entry:
        """Write a key, or remove it with the value None.

        Args:
            key: 1 to 128 bytes that can be shown.
            value: up to 1 KiB.
            expected: vector of what is replaced, as it was read; empty when there was nothing.
            now_s: monotonic seconds.
            ttl_ms: how long the entry lives, 1 ms or more; None for ever. A removal is remembered for an hour.

        Raises:
            WriteConflict: there is something that `expected` does not know.
            ValueError: key, value or time to live are out of range, or there are too many keys.
        """
        self.expire(now_s)
        if not 0 < len(key.encode()) <= KEY_BYTES_MAX or not key.isprintable():
            raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes that can be shown")
        if value is not None and len(value) > VALUE_BYTES_MAX:
            raise ValueError(f"a value has {VALUE_BYTES_MAX} bytes at most, not {len(value)}")
        if ttl_ms is not None and not 0 < ttl_ms <= TTL_MS_MAX:
            raise ValueError(f"a time to live has 1 to {TTL_MS_MAX} ms, not {ttl_ms}")
        if key not in self._keys and len(self._keys) >= self._keys_max:
            raise ValueError(f"there are {self._keys_max} keys already; remove one first")
        reading = self.read(key)
        if any(expected.get(entry.writer, 0) < entry.counter for entry in reading.entries):
            raise WriteConflict(key, reading)
        self._counter += 1
        self._clock += 1
        needed = {entry.writer for entry in reading.entries} | {self._me}
        vector = prune({**reading.vector, self._me: self._counter}, self._gone, needed, WRITERS_MAX)
        entry = Entry(key, self._me, self._counter, self._clock, vector, value)
        if value is None and ttl_ms is None:
            ttl_ms = REMOVED_TTL_MS
        self._put(entry, inf if ttl_ms is None else now_s + ttl_ms / 1000, "")
        return entry

    def set_gone(self, member: str) -> None:
        """Leave a member that is dead or has left out of the vectors of new writes, until it is heard of again."""
        self._gone[member] = None
        if len(self._gone) > KEYS_MAX:
            del self._gone[next(iter(self._gone))]

    def set_present(self, member: str) -> None:
        """Take `set_gone` back."""
        self._gone.pop(member, None)

    # What others tell.

    def merge(self, told: Iterable[Told], now_s: float, source: str = "?") -> list[str]:
        """Take entries in, in any order and any number of times.

        Args:
            told: by another member; what has no time left is refused.
            now_s: monotonic seconds.
            source: who told it.

        Returns:
            The keys of which something new is known.
        """
        self.expire(now_s)
        changed: dict[str, None] = {}
        for entry, ttl_ms in told:
            if ttl_ms is not None and ttl_ms <= 0:
                self.refused += 1
            elif self._put(entry, inf if ttl_ms is None else now_s + ttl_ms / 1000, source):
                changed[entry.key] = None
                self.taken += 1
        return list(changed)

    def _put(self, entry: Entry, expires_s: float, source: str) -> bool:
        """Take one entry in; return whether it was new."""
        self._clock = max(self._clock, entry.clock)
        siblings = self._keys.get(entry.key, [])
        for held in siblings:
            if held.entry.knows(entry):
                if (held.entry.writer, held.entry.counter) == (entry.writer, entry.counter):
                    held.expires_s = min(held.expires_s, expires_s)
                    self._deadline_s = min(self._deadline_s, held.expires_s)
                    self.known += 1
                else:
                    self.stale += 1
                return False
        if not siblings and len(self._keys) >= 2 * self._keys_max:
            self.refused += 1
            return False
        kept = [held for held in siblings if not entry.knows(held.entry)]
        self.conflicts.settle(entry, [held.entry for held in siblings if entry.knows(held.entry)])
        for held in kept:
            self.conflicts.note(held.entry, entry)
        kept.append(_Held(entry, write_body(entry), expires_s))
        kept.sort(key=lambda held: held.entry.rank, reverse=True)
        self._keys[entry.key] = kept[:SIBLINGS_MAX]
        self._deadline_s = min(self._deadline_s, expires_s)
        # It may speak of writes of this member's life before: their numbers must not be used again.
        self._counter = max(self._counter, entry.vector.get(self._me, 0))
        # Who told an entry that does not replace the others may not know these.
        self._note_change(entry.key, source if len(kept) == 1 else "")
        return True

    def _note_change(self, key: str, source: str) -> None:
        self._change += 1
        self._changes[key] = Change(self._change, source)
        self._changes.move_to_end(key)
        if len(self._changes) > self._changes_max:
            self._forgotten = self._changes.popitem(last=False)[1].number

    # Telling others.

    def changes_since(self, number: int) -> dict[str, Change] | None:
        """Return the keys that changed after the change `number`; None when that is no longer known."""
        if number < self._forgotten:
            return None
        changed: dict[str, Change] = {}
        for key in reversed(self._changes):
            change = self._changes[key]
            if change.number <= number:
                break
            changed[key] = change
        return changed

    def told(self, key: str, now_s: float) -> list[bytes]:
        """Return the bytes of each entry of a key, with the time that it has left; see `entry`."""
        written = []
        for held in self._keys.get(key, ()):
            ttl_ms = _left_ms(held.expires_s, now_s)
            if ttl_ms != 0:
                written.append(write_head(held.entry, ttl_ms) + held.body)
        return written

    def everything(self, now_s: float) -> list[Told]:
        """Return all entries, for an exchange of full states."""
        left = (
            Told(held.entry, _left_ms(held.expires_s, now_s)) for siblings in self._keys.values() for held in siblings
        )
        return [told for told in left if told.ttl_ms != 0]

    # Time.

    def next_deadline(self) -> float:
        """When `expire` has something to do at the earliest, monotonic seconds; infinity for never."""
        return self._deadline_s

    def expire(self, now_s: float) -> list[str]:
        """Drop what has no time left; return the keys of which something went."""
        if now_s < self._deadline_s:
            return []
        self._deadline_s = inf
        expired = []
        for key, siblings in list(self._keys.items()):
            kept = [held for held in siblings if held.expires_s > now_s]
            if len(kept) < len(siblings):
                expired.append(key)
                if kept:
                    self._keys[key] = kept
                else:
                    del self._keys[key]
                    self._changes.pop(key, None)
            for held in kept:
                self._deadline_s = min(self._deadline_s, held.expires_s)
        return expired


def _left_ms(expires_s: float, now_s: float) -> int | None:
    """What is left of a life when it is told on, less a millisecond: nothing goes round for ever."""
    return None if expires_s == inf else min(max(int((expires_s - now_s) * 1000) - 1, 0), TTL_MS_MAX)
