"""The latest calls of an endpoint and how they ended, in a ring of fixed size.

Recording a call is two stores; counting searches the ring by time and is done only after a bad call.
The times run upwards from the next place round to the one just before it; an unused place is infinitely old.
"""

from bisect import bisect_left
from math import inf

GOOD, FAILED, SLOW, FAILED_SLOW = 0, 1, 2, 3
"""How a call ended."""


class CallWindow:
    """Ends of the latest calls.

    Args:
        calls_max: size of the ring, > 0.
        age_max_s: calls older than this do not count, seconds.
    """

    __slots__ = ("_age_max_s", "_calls_max", "_marks", "_next", "_times")

    def __init__(self, calls_max: int, age_max_s: float) -> None:
        self._calls_max = calls_max
        self._age_max_s = age_max_s
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._times = [-inf] * self._calls_max
        self._marks = bytearray(self._calls_max)
        self._next = 0

    def record(self, now_s: float, mark: int) -> None:
        """Note the end of a call; `now_s` never goes back."""
        at = self._next
        self._times[at] = now_s
        self._marks[at] = mark
        at += 1
        self._next = at if at < self._calls_max else 0

    def latest_s(self) -> float:
        """When the latest call ended, minus infinity when there was none."""
        return self._times[self._next - 1]

    def count(self, now_s: float) -> tuple[int, int, int]:
        """Calls, failed calls and slow calls in the window; a call may be both."""
        times, marks, split, size = self._times, self._marks, self._next, self._calls_max
        oldest_s = max(now_s - self._age_max_s, _LONG_AGO_S)
        first = bisect_left(times, oldest_s, split, size)
        start = 0 if first < size else bisect_left(times, oldest_s, 0, split)
        both = marks.count(FAILED_SLOW, first, size) + marks.count(FAILED_SLOW, start, split)
        failed = marks.count(FAILED, first, size) + marks.count(FAILED, start, split) + both
        slow = marks.count(SLOW, first, size) + marks.count(SLOW, start, split) + both
        return size - first + split - start, failed, slow


# Later than minus infinity, so an unused place is never in the window.
_LONG_AGO_S = -1e300
