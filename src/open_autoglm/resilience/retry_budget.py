"""Retry budget of one model group: retries stop when they would multiply an outage.

A bucket of tokens loses one with each retryable failure and gains a little with each success; with five or less
nothing is retried (gRFC A6 of gRPC). Beside it, retries in flight are at most a share of the requests in flight
(Envoy's retry budget). The bucket holds what five seconds of successes put in, and never less than two endpoints need
that fail at once, before their breakers open: then all that was asked of them can be saved elsewhere.
"""

from __future__ import annotations

from math import exp
from typing import Final

_TOKENS_MIN: Final = 25.0
"""Size of the bucket while there is little traffic. A breaker opens after five failures in a row; answers that were on
their way well begin the count again, so twice as many come about, and two endpoints may fail together."""
_TOKENS_KEPT: Final = 5.0
"""With no more than these nothing is retried."""
_FILL_S: Final = 5.0
"""The bucket holds what the successes of so many seconds put in."""
_TRAFFIC_S: Final = 10.0
"""Over which the rate of successes is averaged."""
_ACTIVE_MIN: Final = 10
"""Few requests in flight must still be able to retry."""
_ACTIVE_RATIO: Final = 0.5
"""An endpoint of two takes half of the requests with it."""


class RetryBudget:
    """Says whether one more retry may be sent.

    Args:
        ratio: tokens that a success gives back, 0 to 1; retries per success in the long run.

    Attributes:
        tokens: what is left, 0.0 to `tokens_max`.
        tokens_max: size of the bucket; it starts full.
        active: retries in flight.
    """

    __slots__ = ("_good", "_looked_s", "_rate", "active", "ratio", "tokens", "tokens_max")

    def __init__(self, ratio: float = 0.1) -> None:
        self.ratio = ratio
        self.tokens_max = _TOKENS_MIN
        self.tokens = _TOKENS_MIN
        self.active = 0
        self._good = 0
        self._looked_s = 0.0
        self._rate = 0.0

    def success(self) -> None:
        """An attempt succeeded."""
        if self.tokens < self.tokens_max:
            self.tokens = min(self.tokens + self.ratio, self.tokens_max)

    def succeeded(self, count: int) -> None:
        """So many attempts succeeded, as was heard later."""
        self.tokens = min(self.tokens + self.ratio * count, self.tokens_max)

    def failure(self) -> None:
        """An attempt failed in a way that may be retried. To be told before `begin`."""
        self.tokens = max(self.tokens - 1.0, 0.0)

    def begin(self, active_requests: int) -> bool:
        """Ask to send a retry; it is in flight until `end`.

        Args:
            active_requests: requests of the group in flight, the one to be retried among them.

        Returns:
            Whether it may be sent. When not, the first error goes to the client at once.
        """
        if self.tokens <= _TOKENS_KEPT:
            return False
        if self.active + 1 > max(_ACTIVE_MIN, _ACTIVE_RATIO * active_requests):
            return False
        self.active += 1
        return True

    def begin_hedge(self, active_requests: int) -> bool:
        """Ask to send a second attempt beside a slow first one; it costs a token, as a failure does."""
        if not self.begin(active_requests):
            return False
        self.tokens -= 1.0
        return True

    def end(self) -> None:
        """A retry or hedge that was begun has ended."""
        assert self.active > 0, "ended more retries than begun"
        self.active -= 1

    def adapt(self, now_s: float, good: int) -> None:
        """Let the bucket's size follow the traffic. Called each second.

        Args:
            now_s: monotonic seconds.
            good: attempts of the group that succeeded; a count that only grows, but for a reload.
        """
        passed_s = now_s - self._looked_s
        if self._looked_s and passed_s > 0.0:
            share = 1.0 - exp(-passed_s / _TRAFFIC_S)
            self._rate += (max(good - self._good, 0) / passed_s - self._rate) * share
            self.tokens_max = max(_TOKENS_MIN, self._rate * self.ratio * _FILL_S)
            self.tokens = min(self.tokens, self.tokens_max)
        self._good = good
        self._looked_s = now_s
