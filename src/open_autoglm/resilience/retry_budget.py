"""Retry budget of one model group: retries stop when they would multiply an outage.

A bucket of tokens loses one with each retryable failure and gains a little with each success; at half of it or
less nothing is retried (gRFC A6 of gRPC). Beside it, retries in flight are at most a share of the requests in
flight (Envoy's retry budget).
"""

# Few requests in flight must still be able to retry.
_ACTIVE_MIN = 3
_ACTIVE_RATIO = 0.1


class RetryBudget:
    """Says whether one more retry may be sent.

    Args:
        ratio: tokens that a success gives back, 0 to 1; retries per success in the long run.
        tokens_max: size of the bucket, > 0; it starts full.

    Attributes:
        tokens: what is left, 0.0 to `tokens_max`.
        active: retries in flight.
    """

    __slots__ = ("_tokens_max", "active", "ratio", "tokens")

    def __init__(self, ratio: float = 0.1, tokens_max: float = 10.0) -> None:
        self.ratio = ratio
        self._tokens_max = tokens_max
        self.tokens = tokens_max
        self.active = 0

    def success(self) -> None:
        """An attempt succeeded."""
        if self.tokens < self._tokens_max:
            self.tokens = min(self.tokens + self.ratio, self._tokens_max)

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
        if self.tokens <= self._tokens_max / 2.0:
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
