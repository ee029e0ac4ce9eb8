"""Lets those of a line that stands go one by one, a little faster than room has been coming free.

Requests that are served in about the same time and were begun together end together, for ever: room then comes free
in bunches, and whoever comes after one waits for the next, however fair the line is. Pacing pulls a bunch apart, once,
and afterwards holds nobody back.

| pacing is | until | grants are |
|---|---|---|
| off | the line has stood for a whole window | as many as there is room for |
| on | the line is empty, or a window had less than half of the best one's grants | `_AHEAD` times as fast as then |

Invariants: nobody is held back for longer than `HOLD_MAX_S` after the one before, so an estimate that is too low costs
little; it rises by `_FASTER` with each window while there is more room.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

HOLD_MAX_S: Final = 0.02
_WINDOW_S: Final = 0.5
_WINDOWS: Final = 4
"""So many are looked back upon: the limit of an endpoint is halved now and then for less than that."""
_AHEAD: Final = 1.1
"""Of the best of those windows. Where answers come at random that is well above the mean, so little room is idle; where
they come in step it is not, and a bunch is pulled apart all but a tenth of a service time."""

_USED: Final = 0.95
_FASTER: Final = 1.5
"""A pace of which more than that share is used may be what holds those in the line back: then it rises sooner."""


class Pacing:
    """See the module. Times are monotonic seconds."""

    __slots__ = ("_count", "_gap_s", "_next_s", "_rates", "_since_s")

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=_WINDOWS)
        self._gap_s = 0.0
        self._next_s = -inf
        self._since_s = -inf
        self._count = 0

    def hold_s(self, now_s: float) -> float:
        """For how long the next one must be held back, 0.0 to `HOLD_MAX_S`."""
        return max(0.0, self._next_s - now_s)

    def granted(self, now_s: float) -> None:
        """One of the line has gone."""
        passed_s = now_s - self._since_s
        if self._since_s == -inf:
            self._since_s, self._count = now_s, 0
        elif passed_s >= _WINDOW_S:
            self._turn(self._count / passed_s)
            self._since_s, self._count = now_s, 0
        self._count += 1
        # Whoever comes late, as timers do, is made good, by one turn at most.
        self._next_s = max(self._next_s, now_s - self._gap_s) + self._gap_s

    def emptied(self) -> None:
        """Nobody waits any more."""
        self._rates.clear()
        self._gap_s = 0.0
        self._next_s = self._since_s = -inf

    def _turn(self, rate: float) -> None:
        if self._rates and rate < max(self._rates) / 2.0:
            self._rates.clear()
            self._gap_s = 0.0
        else:
            used = rate * self._gap_s
            self._rates.append(rate)
            self._gap_s = min(HOLD_MAX_S, 1.0 / ((_AHEAD if used < _USED else _FASTER) * max(self._rates)))
