"""Consistent hashing: a ring of points, each owned by an item; a key belongs to the next point clockwise.

An item's points follow from its name and number of points alone, so adding or removing an item moves only the keys
that it gets or had (Karger and others, 1997).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

_POINT_BYTES = 8
_POINTS_PER_DIGEST = 8


class HashRing(Generic[_Item]):
    """An immutable ring.

    Args:
        entries: item, its name (different from the others'), and how many points it gets, > 0.

    Raises:
        ValueError: there are no entries.
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, entries: Iterable[tuple[_Item, str, int]]) -> None:
        ring = [(point, name, item) for item, name, count in entries for point in _points(name, count)]
        if not ring:
            raise ValueError("a hash ring needs at least one item")
        # By name where two points meet, so that the order of the entries does not matter.
        ring.sort(key=lambda entry: entry[:2])
        self._points = [point for point, _, _ in ring]
        self._owners = [item for _, _, item in ring]

    def owner(self, key: int) -> _Item:
        """The item that a key belongs to.

        Args:
            key: evenly spread over 0 to 2^64 - 1.
        """
        at = bisect_left(self._points, key)
        return self._owners[at if at < len(self._owners) else 0]

    def walk(self, key: int) -> Iterator[_Item]:
        """All items, each once, in the order in which they stand in for the owner of a key; the owner first."""
        owners = self._owners
        first = bisect_left(self._points, key)
        met: list[_Item] = []
        for at in range(first, first + len(owners)):
            item = owners[at % len(owners)]
            if item not in met:
                met.append(item)
                yield item


def _points(name: str, count: int) -> Iterator[int]:
    for number in range(count):
        part = number % _POINTS_PER_DIGEST
        if part == 0:
            digest = blake2b(f"{name}\0{number}".encode(), digest_size=_POINT_BYTES * _POINTS_PER_DIGEST).digest()
        yield int.from_bytes(digest[part * _POINT_BYTES : (part + 1) * _POINT_BYTES], "little")
