"""Many requests of a key let in at once, for somebody else to count."""

from __future__ import annotations

import pytest

from open_autoglm.resilience.key_limiter import KeyLimiter
from open_autoglm.resilience.settings import KeyLimits


def test_a_lease_takes_half_of_what_is_left() -> None:
    limiter = KeyLimiter(KeyLimits(requests_per_second=10, burst=100, concurrency=9), 0.0)
    assert limiter.lease(10, 1000, 0.0) == (50, 4)
    assert limiter.lease(10, 1000, 0.0) == (25, 2)
    assert (limiter.remaining(0.0), limiter.in_flight) == (25, 6)
    limiter.end_lease(25, 2, 0.0)
    assert (limiter.remaining(0.0), limiter.in_flight) == (50, 4)


def test_what_is_given_back_is_never_more_than_the_burst() -> None:
    limiter = KeyLimiter(KeyLimits(requests_per_second=10, burst=100), 0.0)
    assert limiter.lease(1, 40, 0.0) == (40, 0)
    limiter.end_lease(40, 0, 60.0)
    assert limiter.remaining(60.0) == 100


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (KeyLimits(requests_per_second=5, burst=19), "requests_per_second"),
        (KeyLimits(requests_per_second=0, requests_per_minute=19), "requests_per_minute"),
        (KeyLimits(requests_per_second=0, concurrency=1), "concurrency"),
    ],
)
def test_too_little_for_a_lease_is_refused_and_nothing_is_taken(limits: KeyLimits, reason: str) -> None:
    limiter = KeyLimiter(limits, 0.0)
    if reason == "concurrency":
        assert limiter.admit(0.0) == 0.0
    before = limiter.remaining(0.0), limiter.in_flight
    assert limiter.lease(10, 1000, 0.0) == (0, 0)
    assert limiter.refused_by == reason
    assert (limiter.remaining(0.0), limiter.in_flight) == before


def test_without_limits_a_lease_is_as_large_as_is_asked() -> None:
    limiter = KeyLimiter(KeyLimits(requests_per_second=0), 0.0)
    assert limiter.lease(10, 1000, 0.0) == (1000, 0)
    assert limiter.in_flight == 0
