"""The limits of one key: rate with burst, requests a minute, requests in flight.

A request is let in by all limits or counted by none of them.
"""

from math import ceil
from typing import Literal

from open_autoglm.resilience.settings import KeyLimits
from open_autoglm.resilience.sliding_window import SlidingWindow
from open_autoglm.resilience.token_bucket import TokenBucket

Limit = Literal["requests_per_second", "requests_per_minute", "concurrency"]

# Nobody knows when a request in flight ends; a client that asks once a second does no harm.
_CONCURRENCY_RETRY_S = 1.0
# Stands for "no limit" where a comparison is cheaper than a question.
_UNLIMITED = 2**62


def requests_at_once(limits: KeyLimits) -> int:
    """How many requests a key that has rested may send at once; 0 when no rate is limited."""
    at_once = _burst(limits) if limits.requests_per_second else 0
    per_minute = limits.requests_per_minute
    return min(at_once or per_minute, per_minute or at_once)


def _burst(limits: KeyLimits) -> int:
    return limits.burst or max(1, ceil(limits.requests_per_second))


class KeyLimiter:
    """Lets requests of one key in, or says when to come back.

    Args:
        limits: zero means no limit; a `burst` of zero means what one second refills, at least one request.
        now_s: monotonic seconds.

    Attributes:
        limit: what `remaining` is at most, for `x-ratelimit-limit-requests`; 0 when no rate is limited.
        in_flight: requests let in and not yet released.
        refused_by: the limit that refused last; empty when none has.
    """

    __slots__ = ("_bucket", "_in_flight_max", "_window", "in_flight", "limit", "refused_by")

    def __init__(self, limits: KeyLimits, now_s: float) -> None:
        self._bucket: TokenBucket | None = None
        self._window: SlidingWindow | None = None
        self._in_flight_max = _UNLIMITED
        self.limit = 0
        self.in_flight = 0
        self.refused_by: Limit | Literal[""] = ""
        self.reconfigure(limits, now_s)

    def admit(self, now_s: float) -> float:
        """Let a request in and count it in flight; call `release` when it has ended.

        Returns:
            0.0 when it is let in, else the seconds after which to try again, and `refused_by` says why.
        """
        if self.in_flight >= self._in_flight_max:
            self.refused_by = "concurrency"
            return _CONCURRENCY_RETRY_S
        window = self._window
        if window is not None:
            wait_s = window.wait_s(now_s)
            if wait_s > 0.0:
                self.refused_by = "requests_per_minute"
                return wait_s
        # The bucket comes last, for it asks and takes in one step.
        bucket = self._bucket
        if bucket is not None:
            wait_s = bucket.take(now_s)
            if wait_s > 0.0:
                self.refused_by = "requests_per_second"
                return wait_s
        if window is not None:
            window.count(now_s)
        self.in_flight += 1
        return 0.0

    def release(self) -> None:
        """A request that was let in has ended."""
        assert self.in_flight > 0, "released more often than admitted"
        self.in_flight -= 1

    def lease(self, least: int, most: int, now_s: float) -> tuple[int, int]:
        """Let many requests in at once, which somebody else will count; give the rest back by `end_lease`.

        The rates count them now. Half of what is left of each limit is given at most, so that some is left for others
        with the same key; of the requests in flight at least one.

        Args:
            least, most: how many requests it must and may be; both > 0.
            now_s: monotonic seconds.

        Returns:
            Requests, and how many of them may be in flight at once, 0 for any number. No request when it would be less
            than `least`; nothing is counted then, and `refused_by` says why.
        """
        free = self._in_flight_max - self.in_flight
        if free <= 0:
            self.refused_by = "concurrency"
            return 0, 0
        window, bucket = self._window, self._bucket
        if window is not None:
            most = min(most, window.remaining(now_s) // 2)
            self.refused_by = "requests_per_minute"
        if bucket is not None and bucket.remaining(now_s) // 2 < most:
            most = bucket.remaining(now_s) // 2
            self.refused_by = "requests_per_second"
        if most < least:
            return 0, 0
        if bucket is not None:
            bucket.take(now_s, most)
        if window is not None:
            window.count(now_s, most)
        if self._in_flight_max == _UNLIMITED:
            return most, 0
        places = max(1, free // 2)
        self.in_flight += places
        return most, places

    def end_lease(self, unused: int, places: int, now_s: float) -> None:
        """Take back what `lease` gave: places in flight, and requests that were not made.

        The rate has these again at once, up to its burst; the minute keeps them counted.
        """
        self.in_flight -= places
        assert self.in_flight >= 0, "more was given back than leased"
        if self._bucket is not None and unused:
            self._bucket.give_back(now_s, unused)

    def remaining(self, now_s: float) -> int:
        """Requests that the rates would let in at once, for `x-ratelimit-remaining-requests`; 0 without a rate."""
        if self._window is None:
            return 0 if self._bucket is None else self._bucket.remaining(now_s)
        left = self._window.remaining(now_s)
        return left if self._bucket is None else min(left, self._bucket.remaining(now_s))

    def reconfigure(self, limits: KeyLimits, now_s: float) -> None:
        """Change the limits; what was used of them stays used, and what is in flight stays counted."""
        rate = limits.requests_per_second
        burst = float(_burst(limits))
        if rate == 0.0:
            self._bucket = None
        elif self._bucket is None:
            self._bucket = TokenBucket(rate, burst, now_s)
        else:
            self._bucket.reconfigure(rate, burst, now_s)
        per_minute = limits.requests_per_minute
        if per_minute == 0:
            self._window = None
        elif self._window is None:
            self._window = SlidingWindow(per_minute)
        else:
            self._window.limit = per_minute
        self._in_flight_max = limits.concurrency or _UNLIMITED
        self.limit = requests_at_once(limits)
