"""News that are passed on with other messages: each a limited number of times, those told least often first.

Invariant: there is at most one record of a member among them and one verdict on it, the newest. After
`factor * log2(n + 1)` tellings by each member nearly everybody has heard it (SWIM, section 4.1); then it is dropped.
"""

from __future__ import annotations

from math import ceil, log2


class Rumours:
    """See the module.

    Args:
        factor: SWIM's lambda.
    """

    __slots__ = ("_factor", "_told")

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._told: dict[tuple[str, bool], tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return len(self._told)

    def spread_record(self, about: str, news: bytes) -> None:
        """Begin to tell what a member says of itself, in place of all that was told of it."""
        self._told[(about, False)] = (0, news)
        self._told.pop((about, True), None)

    def spread_verdict(self, about: str, news: bytes) -> None:
        """Begin to tell what is said of a member, in place of what was said before."""
        self._told[(about, True)] = (0, news)

    def take(self, room: int, members: int) -> list[bytes]:
        """Take what fits, and count it as told once more.

        Args:
            room: bytes.
            members: known members, this one included.
        """
        told = self._told
        if not told:
            return []
        limit = max(1, ceil(self._factor * log2(members + 1)))
        taken = []
        order = sorted(told.items(), key=_tellings) if len(told) > 1 else list(told.items())
        for about, (count, news) in order:
            if len(news) > room:
                continue
            room -= len(news)
            taken.append(news)
            if count + 1 >= limit:
                del told[about]
            else:
                told[about] = (count + 1, news)
        return taken


def _tellings(item: tuple[tuple[str, bool], tuple[int, bytes]]) -> int:
    return item[1][0]
