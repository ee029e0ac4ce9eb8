"""Measures how late the event loop is: a timer that notes how long after its time it was called.

Invariant: `max_s` is the worst delay of the last window or two, so a scrape every 15 s misses no stall; `usual_s` is
what requests suffer these seconds, and passes over a single stall. A loop that is late makes every request late,
whatever the cause (a long computation, a busy core, a slow disk).
"""

import asyncio
from collections import deque

from open_autoglm import clock

INTERVAL_S = 0.25
"""Time between two looks; a stall shorter than this may fall between them."""

WINDOW_S = 15.0
"""How long a stall is remembered at least: Prometheus' usual distance between scrapes."""

_RECENT = 16
"""Samples that tell how late the loop is these seconds."""


class LoopLag:
    """Samples one loop's lag. The clock may be replaced in tests.

    Args:
        interval_s: seconds between samples.
        window_s: seconds for which the worst sample is shown at least.
    """

    def __init__(self, *, interval_s: float = INTERVAL_S, window_s: float = WINDOW_S) -> None:
        self._interval_s = interval_s
        self._window_s = window_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._window_ends_s = 0.0
        self._worst_before_s = 0.0
        self._worst_now_s = 0.0
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self.current_s = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sample `loop`; a second start does nothing."""
        if self._timer is None:
            self._loop = loop
            self._window_ends_s = clock.monotonic() + self._window_s
            self._arm(loop)

    def close(self) -> None:
        """Stop sampling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def max_s(self) -> float:
        """Return the worst delay of the last one to two windows, seconds: `mcp_loop_lag_seconds`."""
        return max(self._worst_before_s, self._worst_now_s)

    def usual_s(self) -> float:
        """Return the delay that three of four recent samples did not exceed, seconds: what any request now suffers."""
        recent = sorted(self._recent_s)
        return recent[3 * len(recent) // 4] if recent else 0.0

    def late_s(self, now_s: float) -> float:
        """Return how long the next call is overdue, seconds: a stall that is not over yet. Any thread may ask."""
        return max(0.0, now_s - self._due_s) if self._timer is not None else 0.0

    def sample(self, now_s: float, due_s: float) -> None:
        """Note that a call due at `due_s` came at `now_s`, both monotonic seconds."""
        self.current_s = max(0.0, now_s - due_s)
        self._recent_s.append(self.current_s)
        if now_s >= self._window_ends_s:
            fresh = now_s < self._window_ends_s + self._window_s
            self._worst_before_s = self._worst_now_s if fresh else 0.0
            self._worst_now_s = 0.0
            self._window_ends_s = now_s + self._window_s
        self._worst_now_s = max(self._worst_now_s, self.current_s)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = clock.monotonic() + self._interval_s
        self._timer = loop.call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        self.sample(clock.monotonic(), self._due_s)
        if self._loop is not None:
            self._arm(self._loop)
