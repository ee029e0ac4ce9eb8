"""The adaptive limit against simulated upstreams: cold starts, overload, slow ones, noise; and its small rules."""

from __future__ import annotations

import pytest
from tests.unit.resilience.simulated_upstream import Load, simulate

from open_autoglm.resilience.concurrency_limit import SAMPLE_EVERY_S, WINDOW_S, ConcurrencyLimit
from open_autoglm.resilience.settings import ConcurrencySettings


def load(slots: int, service_s: float, rate: float, **more: object) -> Load:
    return Load(slots, lambda now_s: service_s, lambda now_s: rate, **more)  # type: ignore[arg-type]


def fresh(**changed: object) -> ConcurrencyLimit:
    return ConcurrencyLimit(ConcurrencySettings(**changed))  # type: ignore[arg-type]


def test_a_cold_start_refuses_nobody() -> None:
    assert fresh().limit >= 1000


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_upstream_refuses_next_to_nobody(spread: float, seed: int) -> None:
    """450 in flight at an upstream that has room for all; its answers vary by a factor of several."""
    outcome = simulate(fresh(), load(10_000, 0.3, 1500, spread=spread), 60.0, seed)
    assert outcome.refusals() <= 0.03 * 60 * 1500
    assert outcome.share_of(900, 1000, 45.0) > 0.9


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", [1, 2])
def test_overload_from_the_first_second_settles_at_the_slots_and_stays(spread: float, seed: int) -> None:
    """32 slots of 50 ms, four times what they can do: within a minute and for five more, 1.0 to 1.5 of them."""
    tested = fresh()
    outcome = simulate(tested, load(32, 0.05, 2560, spread=spread), 360.0, seed)
    assert outcome.share_of(32, 50, 60.0) > 0.85, "tests of half the limit take the rest"
    assert outcome.share_of(16, 60, 60.0) > 0.99
    served = sum(count for second, count in outcome.served.items() if second >= 60) / 300
    mean_s = 0.05 * 2.718281828 ** (spread**2 / 2)
    assert served > 0.93 * 32 / mean_s, "and the slots are busy"


@pytest.mark.parametrize("seed", [2, 3])
def test_what_a_test_has_found_and_the_trim_has_lowered_is_not_tested_again(seed: int) -> None:
    """A quiet time, then for five minutes four times what 16 slots can do: nobody with few requests is held up."""
    wave = Load(16, lambda now_s: 0.05, lambda now_s: 80 if now_s < 20 else 1280, spread=0.05)
    assert simulate(fresh(), wave, 320.0, seed).share_of(14, 30, 60.0) == 1.0


def test_a_slow_upstream_with_few_slots_is_found_out_too() -> None:
    outcome = simulate(fresh(), load(8, 1.0, 32), 900.0)
    assert outcome.share_of(8, 16, 400.0) > 0.7


def test_overload_that_comes_slowly_does_not_drag_the_expectation_along() -> None:
    tested = fresh()
    ramp = Load(32, lambda now_s: 0.05, lambda now_s: 200 + 10 * now_s)
    outcome = simulate(tested, ramp, 240.0)
    assert outcome.share_of(32, 50, 70.0) > 0.9
    assert outcome.refusals() - outcome.refusals(35.0) == 0, "640 requests a second fit"


def test_after_overload_there_is_room_again() -> None:
    wave = Load(32, lambda now_s: 0.05, lambda now_s: 2560 if now_s < 60 else 500)
    outcome = simulate(fresh(), wave, 120.0)
    assert outcome.refusals(62.0) == 0


@pytest.mark.parametrize("factor", [1.4, 3.0, 10.0])
def test_an_upstream_that_has_become_slower_for_good_is_accepted(factor: float) -> None:
    slower = Load(10_000, lambda now_s: 0.1 if now_s < 30 else 0.1 * factor, lambda now_s: 500)
    outcome = simulate(fresh(), slower, 120.0)
    assert outcome.refusals(60.0) == 0
    assert outcome.refusals() < 6 * 500, "a test takes twice the wait, and a few samples"


def test_unary_answers_count_half() -> None:
    tested = fresh()
    outcome = simulate(tested, load(32, 0.05, 2560, stream=False), 360.0)
    assert outcome.share_of(32, 100, 150.0) > 0.85


def test_prompts_of_different_lengths_are_not_compared() -> None:
    """Long prompts take sixteen times as long; that is no queue."""
    mixed = load(10_000, 0.1, 300, prompt_bytes=(1000, 16_000))
    assert simulate(fresh(), mixed, 60.0).refusals() == 0


def test_a_start_below_the_maximum_doubles_until_there_is_a_queue() -> None:
    outcome = simulate(fresh(start=20), load(10_000, 0.3, 1500), 30.0)
    assert outcome.limits[0] == 20
    assert outcome.limits[-1] == 1000


def test_signals_to_slow_down_take_a_tenth_once_in_a_window() -> None:
    tested = fresh()
    tested.drop(1.0)
    tested.drop(1.0 + WINDOW_S / 2)
    assert tested.limit == 900
    tested.drop(1.0 + WINDOW_S)
    assert tested.limit == 810
    for window in range(200):
        tested.drop(2.0 + window)
    assert tested.limit == 4, "never less than the minimum"


def test_it_grows_back_after_signals_when_it_is_needed() -> None:
    outcome = simulate(fresh(), load(10_000, 0.3, 500, turn_away_s=20.0), 120.0)
    assert outcome.limits[40] <= 10
    assert outcome.refusals(30.0) == 0


def test_it_does_not_grow_while_it_is_not_needed() -> None:
    tested = fresh(start=100)
    simulate(tested, load(10_000, 0.1, 100), 60.0)
    assert tested.limit == 100


def test_answers_below_50_ms_are_never_a_queue() -> None:
    tested = fresh()
    for step in range(4000):
        tested.sample(step * 0.005, 0.001 if step < 2000 else 0.049, True, 100, 200)
    assert tested.limit == 1000


def test_its_own_delay_is_not_the_endpoints() -> None:
    tested = fresh()
    for step in range(4000):
        tested.own_delay_s = 0.0 if step < 2000 else 0.2
        tested.sample(step * 0.005, 0.1 if step < 2000 else 0.3, True, 100, 200)
    assert tested.limit == 1000


def test_samples_are_due_no_more_often_than_told() -> None:
    tested = fresh()
    tested.sample(1.0, 0.2, True, 100, 1)
    assert tested.due_s == 1.0 + SAMPLE_EVERY_S


def test_bounds_that_cross_are_the_minimum() -> None:
    assert fresh(start=1, min=10, max=5).limit == 10
