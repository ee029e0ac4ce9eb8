"""Token bucket: so many requests a second in the long run, and a limited number at once.

In any time t at most `burst + rate * t` units are granted. Tokens are counted, not arrival times, so that a
burst of whole requests is exact at any age of the clock.
"""

from math import inf

# What rounding may take from a token; a wait that was promised must suffice.
_ROUNDING = 1e-6


class TokenBucket:
    """A bucket of tokens that refills at a constant rate.

    Args:
        rate: tokens a second, >= 0.
        burst: size of the bucket, tokens > 0; it starts full.
        now_s: monotonic seconds.
    """

    __slots__ = ("_refilled_s", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._refilled_s = now_s

    def take(self, now_s: float, cost: float = 1.0) -> float:
        """Take tokens, all or none.

        Returns:
            0.0 when they were taken, else the seconds until they could be; infinite when they never can.
        """
        tokens = self._tokens + (now_s - self._refilled_s) * self.rate
        burst = self.burst
        if tokens > burst:
            tokens = burst
        self._refilled_s = now_s
        if tokens >= cost - _ROUNDING:
            self._tokens = tokens - cost
            return 0.0
        self._tokens = tokens
        return (cost - tokens) / self.rate if self.rate > 0.0 and cost <= burst else inf

    def remaining(self, now_s: float) -> int:
        """Whole tokens that could be taken at once."""
        tokens = self._tokens + (now_s - self._refilled_s) * self.rate
        return int(tokens + _ROUNDING) if tokens < self.burst else int(self.burst)

    def give_back(self, now_s: float, count: float) -> None:
        """Put tokens back that were taken and not used; the bucket holds no more than its size."""
        tokens = min(self._tokens + (now_s - self._refilled_s) * self.rate, self.burst)
        self._refilled_s = now_s
        self._tokens = min(tokens + count, self.burst)

    def reconfigure(self, rate: float, burst: float, now_s: float) -> None:
        """Change rate and size; the bucket stays as full as it is, as a share of its size."""
        tokens = min(self._tokens + (now_s - self._refilled_s) * self.rate, self.burst)
        self._tokens = tokens * (burst / self.burst)
        self._refilled_s = now_s
        self.rate = rate
        self.burst = burst
