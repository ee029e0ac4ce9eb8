"""Outlier ejection: which endpoints of a group get no requests for a while because they do worse than the others.

| an endpoint is | until |
|---|---|
| in | a comparison finds a reason, and enough others are left -> ejected |
| ejected | its time is over -> in |

Reasons, looked at every 10 s over what ended since the last look: failures in a row; a success rate far below the
mean of a large enough group; a large share of failures. Each ejection in a row lasts longer by the base time; every
comparison that an endpoint passes takes one off again.

Invariants: never more than `max_ratio` of the group is ejected, rounded down but at least one endpoint; never the
last that is available. Rules and figures are Envoy's outlier detection's, with a smaller group allowed for the share
of failures, because groups of models are small.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from math import inf, sqrt

from msgspec import Struct

from open_autoglm.resilience.settings import OutlierSettings

_POOL_MIN = 2
_JITTER = 0.1


class Tally(Struct, frozen=True, gc=False):
    """What is known of one endpoint.

    Attributes:
        good, failures: attempts that ended so, since the endpoint exists; nothing else counts.
        failures_in_a_row: the latest attempts that failed.
        available: whether it could be used if it were not ejected: its breaker is closed, its credentials are good.
    """

    good: int
    failures: int
    failures_in_a_row: int
    available: bool


class Verdict(Struct, frozen=True, gc=False):
    """A change: an endpoint is ejected, or is back.

    Attributes:
        key: which.
        until_s: when the ejection ends, monotonic seconds; 0.0 when the endpoint is back.
        reason: a few words for people.
    """

    key: Hashable
    until_s: float
    reason: str


class _Known:
    __slots__ = ("back_s", "failures", "good", "times", "until_s")

    def __init__(self, tally: Tally) -> None:
        self.good = tally.good
        self.failures = tally.failures
        self.times = 0
        self.until_s = 0.0
        self.back_s = -inf


def success_rate_threshold(rates: Sequence[float], deviations: float) -> float:
    """The success rate below which an endpoint stands out: so many standard deviations below the mean.

    Args:
        rates: success rates of the endpoints with enough requests, at least one.
        deviations: how many.
    """
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / len(rates)
    return mean - deviations * sqrt(variance)


class OutlierDetector:
    """The ejections of one group.

    Args:
        settings: thresholds and times.
        rng: for the jitter of the times.
    """

    __slots__ = ("_known", "_next_s", "_rng", "_settings")

    def __init__(self, settings: OutlierSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._known: dict[Hashable, _Known] = {}
        self._next_s = -inf

    def sweep(self, now_s: float, pool: Mapping[Hashable, Tally]) -> list[Verdict]:
        """Look at the group; call it about each second. Endpoints that are not in `pool` any more are forgotten.

        Args:
            now_s: monotonic seconds.
            pool: all endpoints of the group.

        Returns:
            What changed, in order.
        """
        verdicts = []
        for key in [key for key in self._known if key not in pool]:
            del self._known[key]
        for key, known in self._known.items():
            if known.until_s or not pool[key].available:
                # What ends now was sent before, and has been judged: by this or by the breaker.
                known.good, known.failures = pool[key].good, pool[key].failures
            if known.until_s and now_s >= known.until_s:
                known.until_s = 0.0
                known.back_s = now_s
                verdicts.append(Verdict(key, 0.0, "its time is over"))
        if now_s >= self._next_s:
            if self._next_s > -inf:
                verdicts += self._compare(now_s, pool)
            self._next_s = now_s + self._settings.interval_s
            self._remember(pool)
        return verdicts

    def _remember(self, pool: Mapping[Hashable, Tally]) -> None:
        for key, tally in pool.items():
            known = self._known.setdefault(key, _Known(tally))
            known.good, known.failures = tally.good, tally.failures

    def _compare(self, now_s: float, pool: Mapping[Hashable, Tally]) -> list[Verdict]:
        reasons = self._reasons(pool)
        for key, known in self._known.items():
            passed = not known.until_s and key not in reasons and now_s - known.back_s >= self._settings.interval_s
            if passed and known.times:
                known.times -= 1
        ejected = sum(known.until_s > 0.0 for known in self._known.values())
        ejected_max = max(1, int(self._settings.max_ratio * len(pool)))
        available = sum(self._is_in(key, tally) for key, tally in pool.items())
        verdicts = []
        for key, reason in reasons.items():
            if ejected >= ejected_max or available <= 1:
                break
            ejected += 1
            available -= 1
            verdicts.append(Verdict(key, self._eject(self._known[key], now_s), reason))
        return verdicts

    def _eject(self, known: _Known, now_s: float) -> float:
        settings = self._settings
        longest_s = max(settings.ejection_s, settings.ejection_max_s)
        # The count stops where the time does, so that a bad day is forgotten as fast as a bad minute.
        if settings.ejection_s * known.times < longest_s:
            known.times += 1
        lasts_s = min(settings.ejection_s * known.times, longest_s)
        known.until_s = now_s + lasts_s * (1.0 + _JITTER * self._rng.random())
        return known.until_s

    def _is_in(self, key: Hashable, tally: Tally) -> bool:
        known = self._known.get(key)
        return tally.available and (known is None or not known.until_s)

    def _reasons(self, pool: Mapping[Hashable, Tally]) -> dict[Hashable, str]:
        """Who is to be ejected and why, the worst first."""
        settings = self._settings
        if len(pool) < _POOL_MIN:
            return {}
        rates: dict[Hashable, float] = {}
        counts: dict[Hashable, int] = {}
        for key, tally in pool.items():
            known = self._known.get(key)
            if known is None or not self._is_in(key, tally):
                continue
            good, failures = tally.good - known.good, tally.failures - known.failures
            counts[key] = good + failures
            rates[key] = good / (good + failures) if good + failures else 1.0
        compared = [rate for key, rate in rates.items() if counts[key] >= settings.success_rate_min_requests]
        threshold = -inf
        if len(compared) >= settings.success_rate_min_endpoints:
            threshold = success_rate_threshold(compared, settings.success_rate_deviations)
        reasons = {}
        for key in sorted(rates, key=rates.__getitem__):
            rate, count, in_a_row = rates[key], counts[key], pool[key].failures_in_a_row
            if count and in_a_row >= settings.failures:
                reasons[key] = f"{in_a_row} failures in a row"
            elif count >= settings.success_rate_min_requests and rate < threshold:
                reasons[key] = f"{rate:.1%} of {count} requests succeeded; the group's threshold is {threshold:.1%}"
            elif count >= settings.failure_min_requests and 1.0 - rate >= settings.failure_ratio:
                reasons[key] = f"{1.0 - rate:.1%} of {count} requests failed"
        return reasons
