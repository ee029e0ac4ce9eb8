"""How often a log says that peers are turned away: a peer with a wrong key comes again each second, for ever.

Invariant: of one address and reason, one line a minute; at most 64 of these are remembered, and the oldest goes first.
"""

from __future__ import annotations

from typing import Final

_PAUSE_S: Final = 60.0
_REMEMBERED_MAX: Final = 64


class TurnedAway:
    """See the module."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def line(self, address: str, reason: str, now_s: float) -> str:
        """Return what to say of a peer that is turned away; empty when that was said within the last minute.

        Args:
            address: of the peer.
            reason: in words.
            now_s: monotonic seconds.
        """
        key = (address, reason)
        told_s, more = self._told.get(key, (0.0, 0))
        if key in self._told and now_s - told_s < _PAUSE_S:
            self._told[key] = (told_s, more + 1)
            return ""
        self._told.pop(key, None)
        if len(self._told) >= _REMEMBERED_MAX:
            del self._told[next(iter(self._told))]
        self._told[key] = (now_s, 0)
        again = f" ({more} times more since this was said last)" if more else ""
        return f"a peer at {address} was turned away: {reason}{again}"
