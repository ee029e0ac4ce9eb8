"""Adaptive concurrency: how many attempts one endpoint can serve at once, found by watching its first tokens.

A sample is the time to a first token over the time expected for a prompt of that length. About each quarter of a
second the middle sample of a window decides:

| state | a window shows | the limit |
|---|---|---|
| steady | more than `tolerance` | shrinks in that proportion, by half at most; a test is begun |
| steady | less | stays; what a shrinking had begun to test is forgotten |
| steady | less than half way from 1 to `tolerance`, half of the limit in use | grows; doubles up to where it was well |
| steady | the limit in use to the full, not trimmed, and a test is due | is halved: a test |
| test | half in flight, and waits much shorter: a queue | goes where the queue is short |
| test | half in flight, and waits as before: no queue | as before the test; the wait is expected from now on |

The gradient is that of Netflix' Gradient2; three of its flaws are mended. There the expected time is an average of
what is measured, so under lasting overload it follows the queue and the limit grows for ever. Here it is learned only
where no queue can be: from windows that are no slower than expected, and from those with no more in flight than was
good before (`level`). That alone would strangle an endpoint that has become slower for good, and believe a first
expectation that was learned in a queue; the test tells a queue from a slow endpoint, because a queue gets shorter
when half as many stand in it.

Where the limit is used to the full, what it has beyond use is taken away by `trim`, and it does not grow meanwhile.

Invariants: `min <= limit <= max`; no growth unless half of the limit is used; a signal to slow down takes a tenth, at
most once in 250 ms; memory is bounded, for prompts are told apart by powers of two only. Source: semantics 7 of the
design; deviations in docs/decisions/0012.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import inf, log, sqrt
from typing import Final, TypeVar

from open_autoglm.resilience.settings import ConcurrencySettings
from open_autoglm.resilience.trim import Trim

_Number = TypeVar("_Number", int, float)

SAMPLE_EVERY_S: Final = 0.005
"""Samples are taken no more often."""
WINDOW_S: Final = 0.250
"""Between two signals to slow down that count."""
_SAMPLES_MIN: Final = 20
_SAMPLES_MAX: Final = 400
"""A window has so many at least and at most; see `_enough`."""
_WINDOW_ERROR: Final = 0.10
_TEST_ERROR: Final = 0.07
"""What a middle sample may be off by, as a share: samples are taken until it is not more."""
_WINDOW_OLD_S: Final = 60.0
"""Samples of a window that took longer do not belong together, and a test is given up."""

_EXPECTED_MIN_S: Final = 0.050
"""Sooner than this nobody can tell a queue from a busy core, and nobody minds."""
_OWN_SHARE_MAX: Final = 0.2
"""From an answer of whose time our own delay may be more than this share nothing is learned."""
_FIRST_SAMPLES: Final = 40
_FIRST_SAMPLES_MAX: Final = 100
"""The median of so many is the first expectation for prompts of one length; before that at most so many are skipped."""
_FULL: Final = 0.65
"""With more than this share of it in flight the limit holds somebody back: the lowest class finds it full at 0.7."""
_SLOW_ONES_TOO: Final = 2.0
"""Medians of time until answers to a change are judged: the first ones are the quick ones."""
_AIM: Final = 0.5
"""How much of what is tolerated is used after a test."""
_LOAD_EVERY_S: Final = 0.1
_LOAD_POINTS: Final = 600
_QUARTILES: Final = 1.349
"""Between the quartiles of a normal distribution, in standard deviations."""
_MEDIAN_COST: Final = 1.253
"""Standard error of a median over that of a mean, for a normal distribution."""
_STEP: Final = 1.005
"""Later each sample moves the expectation by so much."""

_DROP_FACTOR: Final = 0.9
_SHRINK_MOST: Final = 0.5
_RELIEF: Final = 0.75
"""With half in flight, a queue is at most this share of what it was; more is no queue."""
_TEST_FIRST_S: Final = 5.0
_TEST_LAST_S: Final = 600.0
"""Between two tests that bring nothing new; doubled from the first to the last."""
_TEST_AGAIN_S: Final = 1.0
_TEST_REST: Final = 10.0
"""Between tests, so many times as long as a test takes: tests cost at most a twentieth of what can be served."""
_TEST_AGAIN_REST: Final = 3.0
_NEWS: Final = 0.15
"""A test in which the wait differs by more than this share from what is expected is worth another one soon."""


class _Load:
    """How many attempts were in flight at a time in the past."""

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=_LOAD_POINTS)

    def note(self, now_s: float, age_s: float, in_flight: int) -> None:
        """An attempt of that age has ended, one of so many in flight."""
        points = self._points
        if not points:
            points.append((now_s - age_s, 1))
        if now_s - points[-1][0] >= _LOAD_EVERY_S:
            points.append((now_s, in_flight))

    def at(self, then_s: float) -> int:
        """The number then, drawn as a straight line between what was noted."""
        points = self._points
        place = bisect_left(points, (then_s, 0))
        if place == 0:
            return points[0][1]
        if place == len(points):
            return points[-1][1]
        (before_s, before), (after_s, after) = points[place - 1], points[place]
        return round(before + (after - before) * (then_s - before_s) / (after_s - before_s))


class _Sample:
    """One answer: its time, what was expected, how many were in flight when it was asked for.

    Attributes:
        teaches: whether the time is exact enough to learn from.
    """

    __slots__ = ("expected", "in_flight", "measured_s", "stream", "teaches")

    def __init__(self, measured_s: float, expected: _Expected, in_flight: int, stream: bool, teaches: bool) -> None:
        self.measured_s = measured_s
        self.expected = expected
        self.in_flight = in_flight
        self.stream = stream
        self.teaches = teaches


class _High:
    """Where a test started: attempts in flight, middle sample, limit."""

    __slots__ = ("in_flight", "limit", "ratio")

    def __init__(self, in_flight: int, ratio: float, limit: float) -> None:
        self.in_flight = in_flight
        self.ratio = ratio
        self.limit = limit


class _Expected:
    """What is expected of prompts of one length.

    The first answers of all are the quick ones, so they only say how long to wait for the slow ones; the answers after
    that are the first expectation.
    """

    __slots__ = ("_began_s", "_first", "_waited", "value_s")

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._first: list[float] | None = []
        self._waited = False
        self.value_s = 0.0

    def known(self) -> bool:
        return self._first is None

    def learn_first(self, now_s: float, sample_s: float) -> None:
        first = self._first
        assert first is not None, "the first samples are learned first"
        insort(first, sample_s)
        count = len(first)
        self.value_s = first[count // 2]
        if self._waited:
            if count >= _FIRST_SAMPLES:
                self._first = None
        elif count >= _FIRST_SAMPLES_MAX or now_s - self._began_s >= _SLOW_ONES_TOO * self.value_s:
            self._waited = True
            first.clear()

    def learn(self, sample_s: float) -> None:
        if sample_s != self.value_s:
            self.value_s = max(_EXPECTED_MIN_S, self.value_s * (_STEP if sample_s > self.value_s else 1.0 / _STEP))

    def scale(self, factor: float) -> None:
        self.value_s = max(_EXPECTED_MIN_S, self.value_s * factor)


class ConcurrencyLimit:
    """See the module.

    Args:
        settings: bounds and pace.

    Attributes:
        limit: attempts that may run at once. Read only.
        due_s: an answer that comes before it need not be told of; monotonic seconds. Read only.
        own_delay_s: how much of any time measured may be this process' own doing; the owner sets it.
    """

    __slots__ = (
        "_double_to",
        "_drop_s",
        "_exact",
        "_expected",
        "_from_s",
        "_high",
        "_level",
        "_load",
        "_peak",
        "_ratio",
        "_samples",
        "_sent_s",
        "_settings",
        "_test_every_s",
        "_test_s",
        "_tested",
        "_trim",
        "_window_s",
        "due_s",
        "limit",
        "own_delay_s",
    )

    def __init__(self, settings: ConcurrencySettings) -> None:
        self._settings = settings
        start = min(max(settings.start, settings.min), max(settings.max, settings.min))
        # Kept as a fraction, for it grows by less than one at a time.
        self._exact = float(start)
        self.limit = start
        self._trim = Trim(settings.min)
        self.due_s = -inf
        self.own_delay_s = 0.0
        # By kind of answer and length of prompt.
        self._expected: dict[int, _Expected] = {}
        self._level = settings.min
        # Up to there it is believed to be well.
        self._double_to = inf
        self._high: _High | None = None
        self._test_s = -inf
        self._test_every_s = _TEST_FIRST_S
        # The limit at which a test has found no queue.
        self._tested = 0.0
        self._ratio = 1.0
        self._samples: list[_Sample] = []
        self._load = _Load()
        self._peak = 0
        self._window_s = -inf
        # Samples count from then on, when they were sent from then on.
        self._from_s = -inf
        self._sent_s = -inf
        self._drop_s = -inf

    def sample(self, now_s: float, first_token_s: float, stream: bool, prompt_bytes: int, in_flight: int) -> None:
        """Take an answer into account.

        Args:
            now_s: monotonic seconds.
            first_token_s: from the start of the attempt, > 0; of a unary answer the time of all of it.
            stream: whether the answer comes in pieces. Expectations of the two kinds are kept apart.
            prompt_bytes: size of the request.
            in_flight: attempts running, this one among them.
        """
        self.due_s = now_s + SAMPLE_EVERY_S
        self._load.note(now_s, first_token_s, in_flight)
        measured_s = max(first_token_s - self.own_delay_s, _EXPECTED_MIN_S)
        teaches = self.own_delay_s <= _OWN_SHARE_MAX * first_token_s
        key = 2 * prompt_bytes.bit_length() + stream
        expected = self._expected.get(key)
        if expected is None:
            expected = self._expected[key] = _Expected(now_s - first_token_s)
        if not expected.known():
            if not teaches:
                return
            # While there is a queue, so much of the time is known to be the queue's.
            expected.learn_first(now_s, max(measured_s / max(self._ratio, 1.0), _EXPECTED_MIN_S))
            return
        if now_s < self._from_s or now_s - first_token_s < self._sent_s:
            # It tells of an earlier limit.
            return
        samples = self._samples
        if not samples or now_s - self._window_s > _WINDOW_OLD_S:
            self._begin(now_s)
        sent_s = now_s - first_token_s
        samples.append(_Sample(measured_s, expected, self._load.at(sent_s), stream, teaches))
        if self._high is None and self._trim.note(now_s, sent_s, measured_s / expected.value_s, in_flight, self.limit):
            self._set(self._exact)
        if in_flight > self._peak:
            self._peak = in_flight
        count = len(samples)
        # How far they spread is looked at now and then only.
        if count % _SAMPLES_MIN == 0 and _enough(samples, _WINDOW_ERROR if self._high is None else _TEST_ERROR):
            self._decide(now_s)
            samples.clear()

    def drop(self, now_s: float) -> None:
        """The endpoint had too much to do: it refused, could not be reached, or was too late."""
        if now_s >= self._drop_s:
            self._drop_s = now_s + WINDOW_S
            known = 0.0 if self._double_to == inf else self._double_to
            self._double_to = max(known, self._exact / 2.0)
            self._set(self._exact * _DROP_FACTOR)

    def _begin(self, now_s: float) -> None:
        """Start a window."""
        if self._samples and self._high is not None:
            self._set(self._high.limit)
            self._high = None
            self._test_later(now_s)
        self._samples.clear()
        self._window_s = now_s
        self._peak = 0

    def _set(self, limit: float) -> None:
        self._exact = min(max(limit, self._settings.min), max(self._settings.max, self._settings.min))
        self.limit = int(min(self._exact, self._trim.cap))

    def _decide(self, now_s: float) -> None:
        samples, settings = self._samples, self._settings
        ratio = self._ratio = _middle([sample.measured_s / sample.expected.value_s for sample in samples])
        in_flight = _middle([sample.in_flight for sample in samples])
        slack = settings.tolerance - 1.0
        high = self._high
        if high is not None and 2 * in_flight <= high.in_flight + 1:
            self._judge(now_s, high, ratio, in_flight, slack)
            return
        if ratio > 1.0 + slack and in_flight > settings.min:
            share = (1.0 + slack) / ratio
            self._shrink(now_s, in_flight, share if now_s < self._test_s and share > _SHRINK_MOST else _SHRINK_MOST)
            return
        # What is tolerated needs no test, and is trimmed.
        self._high = None
        # What is compared is measured by one expectation.
        if (ratio <= 1.0 or in_flight <= self._level) and not self._trim.compares:
            self._level = max(self._level, in_flight)
            for sample in samples:
                if sample.teaches:
                    sample.expected.learn(sample.measured_s)
        if ratio < 1.0 + slack / 2.0 and 2 * self._peak >= self.limit and self._exact <= self._trim.cap:
            self._grow()
        elif self._may_test(now_s):
            self._shrink(now_s, in_flight, _SHRINK_MOST)

    def _may_test(self, now_s: float) -> bool:
        """Whether it is time to ask what nothing else tells: is the time that is expected a queue's?

        Where the trim has lowered a limit at which a test has found no queue, the answer is taken as given: a test
        costs those who ask for less than their share half of what can be served.
        """
        due = self._peak >= _FULL * self.limit and self.limit >= 2 * self._settings.min and now_s >= self._test_s
        if due and self._trim.cap < self._tested:
            self._test_again_in(now_s, self._test_every_s)
            return False
        return due

    def _grow(self) -> None:
        if self._exact < self._double_to:
            self._set(min(2.0 * self._exact, self._double_to))
        else:
            self._set(self._exact + self._settings.smoothing * sqrt(self._exact))

    def _shrink(self, now_s: float, in_flight: int, share: float) -> None:
        """Lower the limit and wait until answers tell of that."""
        if self._high is None:
            self._high = _High(in_flight, self._ratio, self._exact)
        self._double_to = 0.0
        self._level = max(min(self._level, in_flight // 2), self._settings.min)
        self._set(min(self._exact, in_flight) * share)
        self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        self._sent_s = now_s
        self._from_s = now_s + _SLOW_ONES_TOO * _middle([sample.measured_s for sample in self._samples])

    def _judge(self, now_s: float, high: _High, ratio: float, in_flight: int, slack: float) -> None:
        """Half as many are in flight as were: say whether the wait was a queue."""
        self._high = None
        if self._trim.compares:
            self._trim.forget()
        if ratio >= _RELIEF * high.ratio:
            self._scale(ratio)
            self._level = max(self._level, in_flight)
            self._set(high.limit)
            self._tested = self._exact
            self._test_later(now_s)
        else:
            if ratio < 1.0:
                self._scale(ratio)
                high.ratio /= ratio
            # Well inside of what is tolerated, if the wait is in proportion to those in flight.
            aim = high.in_flight * (1.0 + _AIM * slack) / high.ratio
            queue_left = ratio > 1.0 + slack
            self._set(min(max(aim, in_flight / 2.0 if queue_left else float(in_flight)), high.limit))
            self._level = max(in_flight if ratio <= 1.0 else in_flight // 2, self._settings.min)
            self._tested = 0.0
            if abs(ratio - 1.0) > _NEWS:
                self._test_every_s = _TEST_FIRST_S
                self._test_s = now_s + max(_TEST_AGAIN_S, _TEST_AGAIN_REST * (now_s - self._sent_s))
            else:
                self._test_later(now_s)
        self._wait(now_s)

    def _test_later(self, now_s: float) -> None:
        self._test_again_in(now_s, max(self._test_every_s, _TEST_REST * (now_s - self._sent_s)))

    def _test_again_in(self, now_s: float, rest_s: float) -> None:
        self._test_s = now_s + rest_s
        self._test_every_s = min(2.0 * self._test_every_s, _TEST_LAST_S)

    def _scale(self, factor: float) -> None:
        for expected in self._expected.values():
            if expected.known():
                expected.scale(factor)
        self._ratio = 1.0


def _enough(samples: list[_Sample], error: float) -> bool:
    """Whether the middle of so many samples is off by no more than that share, as a rule.

    The quartiles tell how far they spread; were it a log-normal spread, this would be one standard error.
    """
    count = len(samples)
    if count >= _SAMPLES_MAX:
        return True
    ratios = sorted(sample.measured_s / sample.expected.value_s for sample in samples)
    spread = log(ratios[3 * count // 4] / ratios[count // 4]) / _QUARTILES
    return count * error**2 >= (_MEDIAN_COST * spread) ** 2


def _middle(values: list[_Number]) -> _Number:
    return sorted(values)[len(values) // 2]
