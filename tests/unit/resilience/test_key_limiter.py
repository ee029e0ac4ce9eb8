"""The three limits of a key together: all or none."""

import pytest

from open_autoglm.resilience.key_limiter import KeyLimiter
from open_autoglm.resilience.settings import KeyLimits


def test_the_default_is_a_hundred_a_second() -> None:
    limiter = KeyLimiter(KeyLimits(), 0.0)
    assert sum(limiter.admit(0.0) == 0.0 for _ in range(150)) == 100
    assert limiter.refused_by == "requests_per_second"
    assert limiter.in_flight == 100
    assert (limiter.limit, limiter.remaining(0.0)) == (100, 0)
    assert limiter.remaining(0.25) == 25


def test_without_limits_everything_is_let_in() -> None:
    limiter = KeyLimiter(KeyLimits(0, 0, 0, 0), 0.0)
    assert all(limiter.admit(0.0) == 0.0 for _ in range(10_000))
    assert (limiter.limit, limiter.remaining(0.0), limiter.refused_by) == (0, 0, "")


@pytest.mark.parametrize(("rate", "at_once"), [(0.5, 1), (1.0, 1), (2.5, 3), (40.0, 40)])
def test_without_a_burst_it_is_what_a_second_refills(rate: float, at_once: int) -> None:
    limiter = KeyLimiter(KeyLimits(rate, 0), 0.0)
    assert limiter.limit == at_once
    assert sum(limiter.admit(0.0) == 0.0 for _ in range(100)) == at_once


def test_concurrency_refuses_until_one_has_ended() -> None:
    limiter = KeyLimiter(KeyLimits(0, 0, 0, 2), 0.0)
    assert limiter.admit(0.0) == limiter.admit(0.0) == 0.0
    assert limiter.admit(0.0) == 1.0
    assert limiter.refused_by == "concurrency"
    limiter.release()
    assert limiter.admit(0.0) == 0.0


def test_a_refusal_by_one_limit_costs_nothing_of_the_others() -> None:
    limiter = KeyLimiter(KeyLimits(10.0, 10, 4, 3), 0.0)
    assert [limiter.admit(0.0) for _ in range(3)] == [0.0] * 3
    assert (limiter.limit, limiter.remaining(0.0)) == (4, 1)
    for _ in range(20):
        assert limiter.admit(0.0) > 0.0
    assert limiter.refused_by == "concurrency"
    assert limiter.remaining(0.0) == 1, "neither window nor bucket was touched"
    limiter.release()
    assert limiter.admit(0.0) == 0.0
    limiter.release()
    for _ in range(20):
        assert limiter.admit(0.0) == 61.0
    assert limiter.refused_by == "requests_per_minute"
    limiter.reconfigure(KeyLimits(10.0, 10, 0, 0), 0.0)
    assert limiter.remaining(0.0) == 6, "the bucket gave four and no more"


def test_a_refusal_by_the_bucket_is_not_counted_in_the_window() -> None:
    limiter = KeyLimiter(KeyLimits(1.0, 1, 10), 0.0)
    assert limiter.admit(0.0) == 0.0
    for _ in range(20):
        assert limiter.admit(0.0) == 1.0
    assert limiter.refused_by == "requests_per_second"
    limiter.reconfigure(KeyLimits(0.0, 0, 10), 0.0)
    assert limiter.remaining(0.0) == 9
    assert limiter.in_flight == 1


def test_a_reload_keeps_what_was_used() -> None:
    limiter = KeyLimiter(KeyLimits(10.0, 10, 0, 5), 0.0)
    for _ in range(5):
        assert limiter.admit(0.0) == 0.0
    limiter.reconfigure(KeyLimits(10.0, 20, 0, 5), 0.0)
    assert limiter.remaining(0.0) == 10
    assert limiter.admit(0.0) == 1.0
    assert limiter.refused_by == "concurrency"
    limiter.reconfigure(KeyLimits(10.0, 20, 0, 6), 0.0)
    assert limiter.admit(0.0) == 0.0


def test_a_release_too_many_is_a_defect() -> None:
    limiter = KeyLimiter(KeyLimits(), 0.0)
    with pytest.raises(AssertionError):
        limiter.release()
