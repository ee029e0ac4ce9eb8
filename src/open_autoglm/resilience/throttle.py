"""Client-side throttling: how many requests to hold back from an endpoint that turns many away.

Of the requests that an endpoint answered in the last two minutes some were turned away (429, 503, 529, no connection).
When fewer than half were accepted, of twenty at least, the next one is held back with the chance

    p = max(0, (requests - 2 * accepted) / (requests + 1))

so that an endpoint in trouble is asked only a little more than it can do ("Handling Overload" in Google's Site
Reliability Engineering). Requests that were held back are not counted, as they would be there: of `r` requests, where
`a` are accepted, `sqrt(2 * a * r)` are sent, and an endpoint that is well again is believed sooner. Ten requests
accepted in a row end it at once.

Invariant: `ratio` is 0.0 to below 1.0, and 0.0 unless something was turned away within the window. Everything happens
in `update`, which the owner calls about each second with running totals; nothing happens on the request path.
"""

from collections import deque

from open_autoglm.resilience.settings import ThrottlingSettings

_BUCKETS = 24
_REQUESTS_MIN = 20
"""Fewer tell nothing about a crowd: the breaker judges those."""
_ACCEPTED_IN_A_ROW = 10
"""A refusal among so many would be as likely as not at an endpoint that turns every fifteenth away."""


class Throttle:
    """See the module.

    Args:
        settings: window and factor.

    Attributes:
        ratio: chance with which a request is to be held back; only `update` and `clear` change it.
    """

    __slots__ = ("_accepted", "_buckets", "_in_a_row", "_sent", "_settings", "_width_s", "ratio")

    def __init__(self, settings: ThrottlingSettings) -> None:
        self._settings = settings
        self._width_s = settings.window_s / _BUCKETS
        # When it began, answered, accepted.
        self._buckets: deque[tuple[float, int, int]] = deque()
        self._sent = 0
        self._accepted = 0
        self._in_a_row = 0
        self.ratio = 0.0

    def update(self, now_s: float, sent: int, accepted: int) -> None:
        """Take the totals since the endpoint exists into account.

        Args:
            now_s: monotonic seconds, never less than before.
            sent: requests that were sent there and ended.
            accepted: those of them that were not turned away.
        """
        more, good = sent - self._sent, accepted - self._accepted
        self._sent, self._accepted = sent, accepted
        self._in_a_row = self._in_a_row + good if good == more else 0
        buckets = self._buckets
        while buckets and buckets[0][0] <= now_s - self._settings.window_s:
            buckets.popleft()
        if more:
            if buckets and now_s - buckets[-1][0] < self._width_s:
                began_s, earlier, earlier_good = buckets[-1]
                buckets[-1] = (began_s, earlier + more, earlier_good + good)
            else:
                buckets.append((now_s, more, good))
        if self.ratio and self._in_a_row >= _ACCEPTED_IN_A_ROW:
            self.clear()
            return
        requests = sum(bucket[1] for bucket in buckets)
        wanted = self._settings.factor * sum(bucket[2] for bucket in buckets)
        self.ratio = max(0.0, (requests - wanted) / (requests + 1)) if requests >= _REQUESTS_MIN else 0.0

    def clear(self) -> None:
        """Forget what was: the endpoint has shown that it is well."""
        self._buckets.clear()
        self._in_a_row = 0
        self.ratio = 0.0
