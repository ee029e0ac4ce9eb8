"""Records that hold each other: whoever changes, removes or moves one breaks all that follow.

A record is one line of JSON. Its last field, `hash`, is the SHA-256 of the line without that field; with a key it is
the HMAC-SHA-256 (RFC 2104), which nobody can make who has the file and not the key. `previous` is the hash of the
record before it, `sequence` its number. Fields stand in one order, without spaces, the keys of `data` sorted: there is
one way to write a record, so one changed byte is always seen.

Invariant: pure; `Verifier` accepts exactly what `Chain` wrote, in the order in which it was written.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

START: Final = "0" * 64
"""`previous` of the very first record."""

LINE_BYTES_MAX: Final = 4 * 2**20
"""Longest record; more is not read, and not written."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading bytes that are no record may raise."""

_HASH_FIELD: Final = b',"hash":"'
_TAIL_BYTES: Final = len(_HASH_FIELD) + 64 + 2


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """What a record says, in the order of its fields.

    Attributes:
        sequence: 1, 2, …
        previous: hash of the record before, 64 hex digits.
        time: ISO 8601, UTC.
        run: id of the run that it tells of; empty for what concerns the chain itself.
        kind: what happened.
        data: more about it, an object.
    """

    sequence: int
    previous: str
    time: str
    run: str
    kind: str
    data: Raw

    def value(self) -> dict[str, Any]:
        """`data`, decoded."""
        value: dict[str, Any] = msgspec.json.decode(self.data, type=dict[str, Any])
        return value


class ChainBroken(Exception):
    """A record does not belong where it stands.

    Args:
        reason: what is wrong with it, for people.
        sequence: of the first record that is not as it was written; 0 where that cannot be told.
    """

    def __init__(self, reason: str, sequence: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sequence = sequence


def encode_data(data: object) -> bytes:
    """Write `data` in its one form: UTF-8, keys sorted, no spaces. Structs and tuples are fine.

    Raises:
        TypeError: a value is none of JSON's.
    """
    return msgspec.json.encode(data, order="sorted")


def digest(body: bytes, key: bytes) -> str:
    """Hash of a record without its hash: SHA-256, or HMAC-SHA-256 with a key; 64 lower-case hex digits."""
    if key:
        return hmac.digest(key, body, "sha256").hex()
    return hashlib.sha256(body).hexdigest()


class Chain:
    """Writes records.

    Args:
        key: for HMAC; empty for plain SHA-256.
        sequence, head: number and hash of the last record that is there; 0 and `START` for none.
    """

    __slots__ = ("head", "key", "sequence")

    def __init__(self, key: bytes = b"", sequence: int = 0, head: str = START) -> None:
        self.key = key
        self.sequence = sequence
        self.head = head

    def seal(self, time: str, run: str, kind: str, data: bytes) -> bytes:
        """Return the next record as a line with its line feed. `data` is from `encode_data`."""
        self.sequence += 1
        body = msgspec.json.encode(Entry(self.sequence, self.head, time, run, kind, Raw(data)))
        self.head = digest(body, self.key)
        return b'%b%b%b"}\n' % (body[:-1], _HASH_FIELD, self.head.encode())


def read_entry(line: bytes, key: bytes) -> tuple[Entry, str]:
    """Read one line (with its line feed) by itself; return the record and its hash.

    Raises:
        ChainBroken: it is not as it was written.
    """
    if not line.endswith(b"\n"):
        raise ChainBroken("is torn: its end is missing")
    if len(line) > LINE_BYTES_MAX:
        raise ChainBroken(f"is longer than {LINE_BYTES_MAX} bytes")
    tail = line[-_TAIL_BYTES - 1 : -1]
    if len(tail) != _TAIL_BYTES or not tail.startswith(_HASH_FIELD) or not tail.endswith(b'"}'):
        raise ChainBroken("was changed: it does not end with its hash")
    body = line[: -_TAIL_BYTES - 1] + b"}"
    try:
        entry = msgspec.json.decode(body, type=Entry)
        whole = msgspec.json.encode(entry) == body
    except UNREADABLE as error:
        raise ChainBroken("was changed: it is no record") from error
    found = tail[len(_HASH_FIELD) : -2]
    if not whole or not hmac.compare_digest(found, digest(body, key).encode()):
        raise ChainBroken("was changed: its hash does not fit it", entry.sequence)
    return entry, found.decode()


class Verifier:
    """Takes the lines of a chain in their order.

    Args:
        key: with which it was written.

    Attributes:
        sequence: number of the last record taken; 0 before the first.
        head: its hash.
        first: number of the first record taken.
    """

    __slots__ = ("_key", "first", "head", "sequence")

    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self.first = 0
        self.sequence = 0
        self.head = START

    def take(self, line: bytes) -> Entry:
        """Take one line; the first may have any number, when those before it were dropped with their file.

        Raises:
            ChainBroken: it is not what was written after the one before.
        """
        entry, head = read_entry(line, self._key)
        if self.first:
            self._follow(entry)
        elif entry.sequence < 1 or (entry.sequence == 1 and entry.previous != START):
            raise ChainBroken("is no beginning of a chain", entry.sequence)
        else:
            self.first = entry.sequence
        self.sequence = entry.sequence
        self.head = head
        return entry

    def _follow(self, entry: Entry) -> None:
        expected = self.sequence + 1
        if entry.sequence > expected:
            missing = f"{expected}" if entry.sequence == expected + 1 else f"{expected} to {entry.sequence - 1}"
            raise ChainBroken(f"comes too early: {missing} missing before it, removed or moved", expected)
        if entry.sequence < expected:
            raise ChainBroken(f"comes after {self.sequence}: moved, or repeated", entry.sequence)
        if entry.previous != self.head:
            raise ChainBroken("does not follow the one before, which was replaced", self.sequence)
