"""What the transcripts do not show: permits, bounds, and the jitter's distribution."""

import random

import pytest

from open_autoglm.resilience.breaker import BreakerState, CircuitBreaker, Transition
from open_autoglm.resilience.settings import BreakerSettings


def breaker(seed: int = 1, **settings: object) -> CircuitBreaker:
    return CircuitBreaker(BreakerSettings(**settings), random.Random(seed), slow_s=1.0)  # type: ignore[arg-type]


def state_of(tested: CircuitBreaker) -> BreakerState:
    return tested.state


def opened(now_s: float = 0.0) -> CircuitBreaker:
    tested = breaker()
    for _ in range(5):
        tested.failure(tested.acquire(now_s), now_s)
    assert tested.state == "open"
    return tested


def test_a_permit_is_never_zero_and_changes_with_the_generation() -> None:
    tested = breaker()
    first = tested.acquire(0.0)
    assert first > 0
    assert tested.acquire(0.0) == first
    tested.force_open(0.0)
    assert tested.acquire(0.0) == 0
    tested.reset(0.0)
    assert tested.acquire(0.0) > first


def test_zero_is_no_permit_for_any_verdict() -> None:
    for tested in (breaker(), opened()):
        before = tested.snapshot()
        tested.success(0, 1.0, 0.1)
        tested.failure(0, 1.0)
        tested.release(0, 1.0)
        assert tested.snapshot() == before


def test_more_verdicts_than_trials_do_not_count() -> None:
    tested = opened()
    permit = tested.acquire(6.0)
    tested.success(permit, 6.0, 0.1)
    tested.success(permit, 6.0, 0.1)
    tested.success(permit, 6.0, 0.1)
    tested.release(permit, 6.0)
    seen = tested.snapshot()
    assert (seen.state, seen.trials_good, seen.trials_out) == ("half_open", 1, 0)


def test_trials_that_nobody_ended_are_decided_as_of_when_they_were_due() -> None:
    tested = opened()
    tested.failure(tested.acquire(6.0), 6.0)
    assert tested.permits(200.0), "the rest after a bad trial began at 36, and was over long ago"
    permit = tested.acquire(200.0)
    assert (permit > 0, tested.state) == (True, "half_open")
    tested = opened()
    for at_s in (6.0, 30.0):
        tested.success(tested.acquire(at_s), at_s, 0.1)
    assert tested.weight(37.0) == 1.0, "two of three were good, but only a call lets time pass"
    assert tested.permits(200.0)
    assert (tested.state, tested.weight(200.0)) == ("closed", 1.0)


def test_rests_differ_between_breakers_by_a_fifth_at_most() -> None:
    rests = []
    for seed in range(200):
        tested = breaker(seed)
        for _ in range(5):
            tested.failure(tested.acquire(0.0), 0.0)
        rests.append(tested.retry_at_s(0.0))
    assert min(rests) >= 4.0
    assert max(rests) <= 6.0
    assert max(rests) - min(rests) > 1.8
    assert abs(sum(rests) / len(rests) - 5.0) < 0.2


def test_a_new_and_a_disabled_breaker_are_healthy() -> None:
    tested = breaker()
    assert tested.healthy
    tested.force_open(0.0)
    assert not tested.healthy
    tested.disable(0.0)
    assert tested.healthy
    tested.reset(0.0)
    assert tested.healthy


def test_by_default_a_first_token_within_five_seconds_is_never_slow() -> None:
    tested = CircuitBreaker(BreakerSettings(), random.Random(1))
    for _ in range(25):
        tested.success(tested.acquire(0.0), 0.0, 0.1)
    assert tested.snapshot().slow_limit_s == 5.0


def test_a_failure_is_slow_only_when_it_is_said_to_be() -> None:
    tested = breaker(failures=1000)
    tested.failure(tested.acquire(0.0), 0.0)
    assert tested.snapshot().slow == 0
    tested.failure(tested.acquire(0.0), 0.0, slow=True)
    assert tested.snapshot().slow == 1


def test_at_thousands_of_calls_a_second_the_median_looks_at_ten() -> None:
    tested = breaker()
    now_s = 0.0
    for _ in range(25):
        tested.success(tested.acquire(now_s), now_s, 0.1)
    for _ in range(5000):
        now_s += 0.001
        tested.success(tested.acquire(now_s), now_s, 0.2)
    # Of five seconds fifty samples at most were taken; each moves the median by a five hundredth.
    assert 0.1 * 1.002**40 < tested.first_token_p50_s < 0.1 * 1.002**52


def test_healthy_means_nothing_to_ask() -> None:
    tested = opened()
    assert not tested.healthy
    for _ in range(3):
        tested.success(tested.acquire(6.0), 6.0, 0.1)
    assert tested.state == "closed"
    assert not tested.healthy, "slow start is something to ask about"
    assert tested.weight(35.9) < 1.0
    assert not tested.healthy
    assert tested.permits(36.0)
    assert tested.healthy
    assert tested.weight(36.0) == 1.0


def test_weight_alone_notices_the_end_of_the_slow_start() -> None:
    tested = opened()
    for _ in range(3):
        tested.success(tested.acquire(6.0), 6.0, 0.1)
    assert tested.weight(36.0) == 1.0
    assert tested.healthy


def test_a_snapshot_says_until_when_only_while_open() -> None:
    tested = opened(100.0)
    assert 104.0 <= tested.snapshot().open_until_s <= 106.0
    tested.acquire(106.0)
    assert tested.state == "half_open"
    assert tested.snapshot().open_until_s == 0.0


def test_a_trial_at_the_limits_of_slowness_is_good() -> None:
    tested = breaker(probes=1, failures=1)
    for _ in range(25):
        tested.success(tested.acquire(0.0), 0.0, 0.5)
    tested.failure(tested.acquire(0.0), 0.0)
    tested.success(tested.acquire(6.0), 6.0, 1.5, gap_s=5.0)
    assert tested.state == "closed"


def test_transitions_are_taken_once() -> None:
    tested = opened(3.0)
    assert tested.take_transitions() == [Transition(3.0, "closed", "open", "5 failures in a row")]
    assert tested.take_transitions() == []


def test_transitions_nobody_takes_are_bounded() -> None:
    tested = breaker()
    for turn in range(100):
        tested.force_open(float(turn))
        tested.reset(float(turn))
    taken = tested.take_transitions()
    assert len(taken) == 64
    assert taken[-1] == Transition(99.0, "forced_open", "closed", "by an operator")


def test_failures_so_slow_that_the_window_passes_still_open_in_a_row() -> None:
    tested = breaker()
    for now_s in (0.0, 100.0, 200.0, 300.0):
        tested.failure(tested.acquire(now_s), now_s)
    assert state_of(tested) == "closed"
    tested.failure(tested.acquire(400.0), 400.0)
    assert state_of(tested) == "open"


@pytest.mark.parametrize("probes", [1, 2, 3, 4, 5, 10])
def test_a_majority_of_good_trials_closes(probes: int) -> None:
    needed = probes // 2 + 1
    for good in range(probes + 1):
        tested = breaker(failures=1, probes=probes)
        tested.failure(tested.acquire(0.0), 0.0)
        permits = [tested.acquire(10.0) for _ in range(probes)]
        assert all(permits)
        assert tested.acquire(10.0) == 0
        for number, permit in enumerate(permits):
            if number < good:
                tested.success(permit, 10.0, 0.1)
            else:
                tested.failure(permit, 10.0)
        assert tested.state == ("closed" if good >= needed else "open")


def test_settings_replace_what_the_profile_says() -> None:
    tested = breaker(
        failures=1000, window_calls=10, window_s=2.0, min_calls=4, failure_ratio=0.25, slow_ratio=0.5, open_s=1.0
    )
    for _ in range(3):
        tested.success(tested.acquire(0.0), 0.0, 0.1)
    tested.failure(tested.acquire(0.0), 0.0)
    assert tested.state == "open"
    assert tested.retry_at_s(0.0) <= 1.2


def test_an_unknown_first_token_time_is_neither_slow_nor_remembered() -> None:
    tested = breaker()
    for _ in range(100):
        tested.success(tested.acquire(0.0), 0.0, 0.0)
    assert tested.first_token_p50_s == 0.0
    assert tested.snapshot().slow == 0


def test_a_burst_of_slow_calls_does_not_drag_its_own_yardstick_along() -> None:
    tested = breaker(slow_ratio=1.0, failures=1000)
    now_s = 0.0
    for _ in range(1000):
        now_s += 0.01
        tested.success(tested.acquire(now_s), now_s, 0.5)
    assert tested.first_token_p50_s == pytest.approx(0.5)
    for _ in range(99):
        now_s += 0.01
        tested.success(tested.acquire(now_s), now_s, 5.0)
    assert tested.first_token_p50_s < 0.52
    assert tested.snapshot().slow == 99
