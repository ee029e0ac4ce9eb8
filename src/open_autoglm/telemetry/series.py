"""The counters that the request path holds: plain ints in slots, one method call per event.

Invariant: counting never allocates after the first time and never fails, whatever words it is given: what is not
a status, code or outcome of ours is counted as `other`. One thread only. Cost: 0.1 to 0.2 µs a call.
"""

from bisect import bisect_left

from open_autoglm.errors import CODES
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.telemetry.metric_families import BOUNDS_S

OTHER = "other"
"""The label that everything shares that may not have one of its own."""


class Histogram:
    """Counts of seconds in the buckets of `BOUNDS_S`."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, other: "Histogram") -> None:
        """Add the figures of `other`."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.sum_s += other.sum_s


class RequestSeries:
    """Requests of one route for one model. Keep it, and tell it of every request that ended."""

    __slots__ = ("_buckets", "_histogram", "_others", "_plain", "model", "route")

    def __init__(self, route: str, model: str) -> None:
        self.route = route
        self.model = model
        self._histogram = Histogram()
        self._buckets = self._histogram.buckets
        self._plain = 0
        self._others: dict[tuple[int, str], int] = {}

    def done(self, status: int, code: str, seconds: float) -> None:
        """Count one request.

        Args:
            status: HTTP status sent, 499 when the client left.
            code: a word of `errors.CODES`, empty for success.
            seconds: from the request's head to the answer's end.
        """
        if status == 200 and not code:
            self._plain += 1
        else:
            try:
                self._others[status, code] += 1
            except KeyError:
                self._first(status, code)
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._histogram.sum_s += seconds

    def _first(self, status: int, code: str) -> None:
        key = (status if 100 <= status <= 599 else 0, code if code in CODES or not code else OTHER)
        self._others[key] = self._others.get(key, 0) + 1

    def counts(self) -> dict[tuple[int, str], int]:
        """Return the requests by status and code."""
        return {(200, ""): self._plain, **self._others} if self._plain else dict(self._others)

    @property
    def seconds(self) -> Histogram:
        """How long they took."""
        return self._histogram


class EndpointSeries:
    """Attempts at one endpoint of one model."""

    __slots__ = ("counts", "endpoint", "model")

    def __init__(self, model: str, endpoint: str) -> None:
        self.model = model
        self.endpoint = endpoint
        self.counts: dict[str, int] = {"ok": 0}

    def ended(self, outcome: str) -> None:
        """Count one attempt; `outcome` is a word of `exchange.outcomes`."""
        try:
            self.counts[outcome] += 1
        except KeyError:
            known = outcome if outcome in RULES else OTHER
            self.counts[known] = self.counts.get(known, 0) + 1


class ModelSeries:
    """What one model has done."""

    __slots__ = ("_buckets", "_first_token", "completion_tokens", "model", "prompt_tokens")

    def __init__(self, model: str) -> None:
        self.model = model
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._first_token = Histogram()
        self._buckets = self._first_token.buckets

    def first_token(self, seconds: float) -> None:
        """Count one answer whose first content was sent `seconds` after the request's head."""
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._first_token.sum_s += seconds

    def tokens(self, prompt: int, completion: int) -> None:
        """Add the tokens of one answer; a negative count is one that the upstream did not tell."""
        if prompt > 0:
            self.prompt_tokens += prompt
        if completion > 0:
            self.completion_tokens += completion

    @property
    def first_token_seconds(self) -> Histogram:
        """How long the first content took."""
        return self._first_token
