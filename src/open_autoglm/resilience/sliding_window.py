"""Sliding window: at most so many requests in any 60 seconds, in constant memory.

Requests are counted by the second. A second leaves the window when its last instant is 60 s old, so the limit is
never exceeded in any 60 s; the price is that a request may be refused up to one second longer than by a window
that remembers every arrival. (Weighing two windows of a minute would need less memory, but lets twice the limit
through in the worst case.)
"""

WINDOW_S = 60
"""Length of the window, seconds."""

# One more than the window is long: its oldest second is only partly inside.
_SECONDS = WINDOW_S + 1


class SlidingWindow:
    """Counts the requests of the last minute.

    Args:
        limit: requests in any 60 s, > 0; it may be changed at any time.
    """

    __slots__ = ("_counts", "_second", "_total", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._counts = [0] * _SECONDS
        self._second = 0
        self._total = 0

    def take(self, now_s: float) -> float:
        """Count a request if it fits.

        Returns:
            0.0 when it was counted, else the seconds until it would be.
        """
        wait_s = self.wait_s(now_s)
        if wait_s == 0.0:
            self.count(now_s)
        return wait_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request would fit, 0.0 when it does now. Counts nothing."""
        second = int(now_s)
        if second != self._second:
            self._advance(second)
        if self._total < self.limit:
            return 0.0
        return self._wait_s(now_s)

    def count(self, now_s: float, requests: int = 1) -> None:
        """Count requests, whether they fit or not. `wait_s` must have been asked with the same `now_s` before."""
        self._counts[int(now_s) % _SECONDS] += requests
        self._total += requests

    def remaining(self, now_s: float) -> int:
        """Requests that would fit now."""
        second = int(now_s)
        if second != self._second:
            self._advance(second)
        return max(self.limit - self._total, 0)

    def _advance(self, second: int) -> None:
        counts = self._counts
        for gone in range(max(self._second, second - _SECONDS) + 1, second + 1):
            place = gone % _SECONDS
            self._total -= counts[place]
            counts[place] = 0
        self._second = second

    def _wait_s(self, now_s: float) -> float:
        surplus = self._total - self.limit
        second = self._second - WINDOW_S
        while surplus >= self._counts[second % _SECONDS]:
            surplus -= self._counts[second % _SECONDS]
            second += 1
        return second + _SECONDS - now_s
