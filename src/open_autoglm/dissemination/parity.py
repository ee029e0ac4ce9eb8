"""One parity for a group of datagrams: when one of the group is lost, it comes back without being asked for again.

The parity is the exclusive or of the bodies, each preceded by its length (2 bytes) and filled up with zeros. Invariant:
what comes back is what was sent, or nothing; the reader keeps `KEPT` bodies at most.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

from open_autoglm.dissemination.entry import DisseminationError

GROUP_MAX: Final = 16
KEPT: Final = 64
_SIZE: Final = Layout(">H")
_HEAD: Final = Layout(">QB")


class ParityWriter:
    """See the module.

    Args:
        group: datagrams for one parity, 2 to 16.
    """

    __slots__ = ("_count", "_first", "_group", "_sum")

    def __init__(self, group: int) -> None:
        if not 2 <= group <= GROUP_MAX:
            raise ValueError(f"a parity is for 2 to {GROUP_MAX} datagrams, not {group}")
        self._group = group
        self._clear()

    def _clear(self) -> None:
        self._first = self._count = 0
        self._sum = b""

    def add(self, number: int, body: bytes) -> bytes | None:
        """Take a datagram in; their numbers follow each other. Return the parity when the group is whole."""
        if self._count == 0:
            self._first = number
        self._count += 1
        self._sum = _xor(self._sum, _SIZE.pack(len(body)) + body)
        return self.close() if self._count == self._group else None

    def close(self) -> bytes | None:
        """Return the parity of a group that is not whole; None, and the group goes on, when it has less than two."""
        if self._count < 2:
            return None
        parity = _HEAD.pack(self._first, self._count) + self._sum
        self._clear()
        return parity


class ParityReader:
    """See the module."""

    __slots__ = ("_bodies",)

    def __init__(self) -> None:
        self._bodies: dict[int, bytes] = {}

    def add(self, number: int, body: bytes) -> None:
        """Keep a datagram that came."""
        self._bodies[number] = body
        if len(self._bodies) > KEPT:
            del self._bodies[next(iter(self._bodies))]

    def recover(self, parity: bytes) -> tuple[int, bytes] | None:
        """Return number and body of the one datagram of the group that did not come; None when none or more lack.

        Raises:
            DisseminationError: this is no parity, or it does not fit what came.
        """
        if len(parity) < _HEAD.size + _SIZE.size:
            raise DisseminationError("a parity ends too early")
        first, count = _HEAD.unpack_from(parity)
        if not 2 <= count <= GROUP_MAX:
            raise DisseminationError(f"a parity is for 2 to {GROUP_MAX} datagrams, not {count}")
        missing = [number for number in range(first, first + count) if number not in self._bodies]
        if len(missing) != 1:
            return None
        left = parity[_HEAD.size :]
        for number in range(first, first + count):
            if number != missing[0]:
                body = self._bodies[number]
                left = _xor(left, _SIZE.pack(len(body)) + body)
        (size,) = _SIZE.unpack_from(left)
        if size > len(left) - _SIZE.size or any(left[_SIZE.size + size :]):
            raise DisseminationError("a parity does not fit what came")
        body = left[_SIZE.size : _SIZE.size + size]
        self.add(missing[0], body)
        return missing[0], body


def _xor(left: bytes, right: bytes) -> bytes:
    size = max(len(left), len(right))
    # The shorter one is filled up at its end.
    number = int.from_bytes(left.ljust(size, b"\0"), "big") ^ int.from_bytes(right.ljust(size, b"\0"), "big")
    return number.to_bytes(size, "big")
