"""One write of one key, and its bytes.

Layout, big-endian; a text is its length in one byte and as many bytes of UTF-8:

| bytes | what |
|---|---|
| 1 | flags: 1 the key was removed, 2 the entry lasts: no time to live follows |
| 0 or 4 | time to live: ms that are left when this is sent, 1 or more |
| 8 | clock |
| text | key |
| 1 | members in the vector, 1 or more; then for each its name (text) and counter (8); the writer comes first |
| 2, n | length of the value, value; not when the key was removed |

Invariant: an entry never changes: of its writer and counter there is one in the whole cluster. Only the time that it
has left is another one at each member.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct as Layout
from typing import Final, NamedTuple

from msgspec import Struct

from open_autoglm.byte_reader import ByteReader, write_text
from open_autoglm.protocol.version_vector import COUNTER_MAX, MEMBER_BYTES_MAX, VECTOR_MEMBERS_MAX

KEY_BYTES_MAX: Final = 128
VALUE_BYTES_MAX: Final = 1024
TTL_MS_MAX: Final = 2**32 - 1

_REMOVED, _LASTING = 1, 2
_NUMBER = Layout(">Q")
_TTL = Layout(">I")
_SIZE = Layout(">H")
_COUNT = Layout(">I")


class DisseminationError(ValueError):
    """Bytes from another member that are not as they should be; nothing was taken in."""


class Entry(Struct, frozen=True):
    """See the module.

    Attributes:
        key: of 1 to 128 bytes.
        writer: the member that wrote it.
        counter: of the writer's writes, growing.
        clock: higher than that of everything that the writer knew (Lamport): of two concurrent entries the higher wins.
        vector: what the writer knew of this key, this write included.
        value: up to 1 KiB; None when the key was removed.
    """

    key: str
    writer: str
    counter: int
    clock: int
    vector: dict[str, int]
    value: bytes | None

    @property
    def rank(self) -> tuple[int, str, int]:
        """The highest rank wins; an entry outranks all that its writer knew."""
        return self.clock, self.writer, self.counter

    def knows(self, other: Entry) -> bool:
        """Whether this one was written in place of another entry of the same key, or is it."""
        return self.vector.get(other.writer, 0) >= other.counter


class Told(NamedTuple):
    """An entry on its way; `ttl_ms` is what is left of its life, 0 nothing, None no end."""

    entry: Entry
    ttl_ms: int | None


def write_body(entry: Entry) -> bytes:
    """Return all of an entry but its flags and time to live; it is always the same."""
    others = [name for name in entry.vector if name != entry.writer]
    parts = [_NUMBER.pack(entry.clock), write_text(entry.key), bytes((1 + len(others),))]
    for name in (entry.writer, *others):
        parts += (write_text(name), _NUMBER.pack(entry.vector[name]))
    if entry.value is not None:
        parts += (_SIZE.pack(len(entry.value)), entry.value)
    return b"".join(parts)


def write_head(entry: Entry, ttl_ms: int | None) -> bytes:
    """Return flags and time to live."""
    flags = _REMOVED if entry.value is None else 0
    return bytes((flags | _LASTING,)) if ttl_ms is None else bytes((flags,)) + _TTL.pack(ttl_ms)


def write_told(told: Told) -> bytes:
    """Return an entry's bytes."""
    return write_head(told.entry, told.ttl_ms) + write_body(told.entry)


def write_all(told: Iterable[Told]) -> bytes:
    """Return entries for an exchange of full states: their count (4 bytes), then each."""
    written = [write_told(each) for each in told]
    return _COUNT.pack(len(written)) + b"".join(written)


def read_all(data: bytes, entries_max: int) -> list[Told]:
    """Read what `write_all` wrote.

    Raises:
        DisseminationError: anything in it is not as it should be, or there are more than `entries_max`.
    """
    if len(data) < _COUNT.size:
        raise DisseminationError("entries end too early")
    (count,) = _COUNT.unpack_from(data)
    if count > entries_max:
        raise DisseminationError(f"{count} entries are told; {entries_max} are the most")
    told = read_entries(data[_COUNT.size :], entries_max)
    if len(told) != count:
        raise DisseminationError(f"{count} entries were promised and {len(told)} came")
    return told


def read_entries(data: bytes, entries_max: int) -> list[Told]:
    """Read entries until the end of the bytes.

    Raises:
        DisseminationError: anything in it is not as it should be, or there are more than `entries_max`.
    """
    reader = _Reader(data)
    told: list[Told] = []
    while not reader.ended:
        if len(told) >= entries_max:
            raise DisseminationError(f"more than {entries_max} entries are told")
        told.append(reader.told())
    return told


class _Reader(ByteReader):
    """Reads entries."""

    __slots__ = ()

    failure = DisseminationError

    def number(self) -> int:
        number: int = self.unpack(_NUMBER)[0]
        if not 0 < number <= COUNTER_MAX:
            raise DisseminationError(f"the number {number} is not from 1 to 2^53 - 1")
        return number

    def name(self, bytes_max: int) -> str:
        text = self.text(bytes_max)
        if not text:
            raise DisseminationError("a name is empty")
        return text

    def told(self) -> Told:
        flags = self.byte()
        if flags > _REMOVED | _LASTING:
            raise DisseminationError(f"no entry has the flags {flags}")
        ttl_ms: int | None = None if flags & _LASTING else self.unpack(_TTL)[0]
        clock = self.number()
        key = self.name(KEY_BYTES_MAX)
        count = self.byte()
        if not 0 < count <= VECTOR_MEMBERS_MAX:
            raise DisseminationError(f"a vector has {count} members; 1 to {VECTOR_MEMBERS_MAX} it should have")
        pairs = [(self.name(MEMBER_BYTES_MAX), self.number()) for _ in range(count)]
        vector = dict(pairs)
        if len(vector) != count:
            raise DisseminationError("a vector names a member twice")
        value: bytes | None = None
        if not flags & _REMOVED:
            (size,) = self.unpack(_SIZE)
            if size > VALUE_BYTES_MAX:
                raise DisseminationError(f"a value has {size} bytes; {VALUE_BYTES_MAX} are the most")
            value = self.take(size)
        writer, counter = pairs[0]
        return Told(Entry(key, writer, counter, clock, vector, value), ttl_ms)
