"""The counters of what has ended: plain ints in slots.

Invariant: counting never fails, whatever words it is given: what is not a status, code or outcome of ours is counted
as `other`. One thread only.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from open_autoglm.errors import CODES
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.telemetry.metric_families import BOUNDS_S

_BOUNDS_S: Final[list[float]] = list(BOUNDS_S)

OTHER = "other"
"""The label that everything shares that may not have one of its own."""


class Histogram:
    """Counts of seconds in the buckets of `BOUNDS_S`."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count a time."""
        bucket = 0
        for bound_s in _BOUNDS_S:
            if seconds <= bound_s:
                break
            bucket += 1
        self.buckets[bucket] += 1
        self.sum_s += seconds

    def observe_all(self, seconds: list[float]) -> None:
        """Count many times at once, which costs each of them next to nothing."""
        seconds = sorted(seconds)
        begin = 0
        for bucket, bound_s in enumerate(_BOUNDS_S):
            end = bisect_right(seconds, bound_s, begin)
            self.buckets[bucket] += end - begin
            begin = end
        self.buckets[-1] += len(seconds) - begin
        self.sum_s += sum(seconds)

    def add(self, other: "Histogram") -> None:
        """Add the figures of `other`."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.sum_s += other.sum_s


class RequestSeries:
    """Requests of one route for one model. Keep it, and tell it of every request that ended."""

    __slots__ = ("_counts", "_good", "_histogram", "model", "route")

    def __init__(self, route: str, model: str) -> None:
        self.route = route
        self.model = model
        self._histogram = Histogram()
        self._good = 0
        self._counts: dict[tuple[int, str], int] = {}

    def done(self, status: int, code: str, seconds: float) -> None:
        """Count a request.

        Args:
            status: HTTP status sent, 499 when the client left.
            code: a word of `errors.CODES`, empty for success.
            seconds: from the request's head to the answer's end.
        """
        self._histogram.observe(seconds)
        if status == 200 and not code:
            self._good += 1
            return
        key = (status if 100 <= status <= 599 else 0, code if code in CODES or not code else OTHER)
        self._counts[key] = self._counts.get(key, 0) + 1

    def done_well(self, seconds: list[float]) -> None:
        """Count requests that were answered with 200."""
        self._histogram.observe_all(seconds)
        self._good += len(seconds)

    def reported(self, good: int, failed: Mapping[str, int], buckets: Sequence[int], sum_s: float) -> None:
        """Count requests of which somebody else kept the figures.

        Args:
            good: that were answered with 200.
            failed: the others, by a word of `errors.CODES`.
            buckets: how many took how long, in the buckets of `BOUNDS_S`; passed over when they are others.
            sum_s: seconds of all together.
        """
        if len(buckets) == len(self._histogram.buckets):
            told = Histogram()
            told.buckets, told.sum_s = list(buckets), sum_s
            self._histogram.add(told)
        self._good += good
        for code, count in failed.items():
            key = (CODES[code].http_status, code) if code in CODES else (0, OTHER)
            self._counts[key] = self._counts.get(key, 0) + count

    def counts(self) -> dict[tuple[int, str], int]:
        """Return the requests by status and code."""
        return {(200, ""): self._good, **self._counts} if self._good else dict(self._counts)

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
        """Count an attempt; `outcome` is a word of `exchange.outcomes`."""
        if outcome == "ok":
            self.counts["ok"] += 1
            return
        known = outcome if outcome in RULES else OTHER
        self.counts[known] = self.counts.get(known, 0) + 1

    def ended_well(self, count: int) -> None:
        """Count attempts whose outcome is `ok`."""
        self.counts["ok"] += count


class ModelSeries:
    """What one model has done."""

    __slots__ = ("_first_token", "completion_tokens", "model", "prompt_tokens")

    def __init__(self, model: str) -> None:
        self.model = model
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._first_token = Histogram()

    def first_token(self, seconds: float) -> None:
        """Count an answer whose first content was sent so many `seconds` after the request's head."""
        self._first_token.observe(seconds)

    def first_tokens(self, seconds: list[float]) -> None:
        """Count many answers; see `first_token`."""
        self._first_token.observe_all(seconds)

    def tokens(self, prompt: int, completion: int) -> None:
        """Add tokens; a negative count is one that an upstream did not tell."""
        if prompt > 0:
            self.prompt_tokens += prompt
        if completion > 0:
            self.completion_tokens += completion

    @property
    def first_token_seconds(self) -> Histogram:
        """How long the first content took."""
        return self._first_token
