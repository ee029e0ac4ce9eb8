"""Bursts, refill, waits, and reloads of a token bucket."""

from math import inf

import pytest

from open_autoglm.resilience.token_bucket import TokenBucket


@pytest.mark.parametrize("start_s", [0.0, 1.5, 1e6 + 0.1, 1e9 + 0.3])
@pytest.mark.parametrize("burst", [1, 7, 100, 3000])
def test_a_burst_is_exact_at_any_age_of_the_clock(start_s: float, burst: int) -> None:
    bucket = TokenBucket(100.0, burst, start_s)
    assert sum(bucket.take(start_s) == 0.0 for _ in range(burst + 5)) == burst


def test_it_refills_at_its_rate_up_to_its_size() -> None:
    bucket = TokenBucket(10.0, 20.0, 0.0)
    for _ in range(20):
        assert bucket.take(0.0) == 0.0
    assert bucket.remaining(0.0) == 0
    assert bucket.remaining(0.55) == 5
    assert bucket.remaining(100.0) == 20


def test_the_wait_it_names_suffices_and_a_shorter_one_does_not() -> None:
    bucket = TokenBucket(4.0, 1.0, 0.0)
    assert bucket.take(0.0) == 0.0
    wait_s = bucket.take(0.1)
    assert wait_s == pytest.approx(0.15)
    assert bucket.take(0.1 + wait_s * 0.9) > 0.0
    assert bucket.take(0.1 + wait_s) == 0.0


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 10.0, 0.0)
    assert bucket.take(0.0, 8.0) == 0.0
    assert bucket.take(0.0, 5.0) == pytest.approx(3.0)
    assert bucket.remaining(0.0) == 2


def test_what_can_never_be_has_an_infinite_wait() -> None:
    assert TokenBucket(1.0, 10.0, 0.0).take(0.0, 11.0) == inf
    dry = TokenBucket(0.0, 1.0, 0.0)
    assert dry.take(0.0) == 0.0
    assert dry.take(1e9) == inf


def test_a_reload_keeps_the_level() -> None:
    bucket = TokenBucket(10.0, 100.0, 0.0)
    bucket.take(0.0, 75.0)
    bucket.reconfigure(20.0, 40.0, 0.5)
    assert bucket.remaining(0.5) == 12
    assert bucket.remaining(1.0) == 22
    bucket.reconfigure(20.0, 40.0, 1.0)
    assert bucket.remaining(1.0) == 22
