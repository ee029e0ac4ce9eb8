"""The lag of the event loop: the worst of the last window or two is what a scrape sees."""

import asyncio

from open_autoglm.telemetry.loop_lag import LoopLag


def lag_of(samples: list[tuple[float, float]], window_s: float = 10.0) -> LoopLag:
    lag = LoopLag(window_s=window_s)
    for due_s, late_s in samples:
        lag.sample(due_s + late_s, due_s)
    return lag


def test_the_worst_is_kept_and_the_current_is_known() -> None:
    lag = lag_of([(1.0, 0.0), (1.5, 0.3), (2.0, 0.001)])
    assert round(lag.current_s, 6) == 0.001
    assert round(lag.max_s(), 6) == 0.3


def test_a_stall_is_shown_for_a_window_and_forgotten_after_two() -> None:
    lag = lag_of([(0.0, 0.0), (5.0, 0.5)])
    for due_s in range(6, 11):
        lag.sample(due_s, due_s)
    assert lag.max_s() == 0.5
    lag.sample(15.0, 15.0)
    assert lag.max_s() == 0.5, "a scrape every window misses nothing"
    lag.sample(22.0, 22.0)
    lag.sample(33.0, 33.0)
    assert lag.max_s() == 0.0


def test_a_call_that_comes_early_is_no_lag() -> None:
    assert lag_of([(1.0, -0.001)]).max_s() == 0.0


async def test_it_samples_while_it_runs() -> None:
    lag = LoopLag(interval_s=0.0)
    loop = asyncio.get_running_loop()
    lag.start(loop)
    lag.start(loop)
    for _ in range(10):
        await asyncio.sleep(0)
    lag.close()
    seen = lag.max_s()
    assert seen > 0.0
    await asyncio.sleep(0)
    assert lag.max_s() == seen


def test_the_usual_lag_passes_over_single_stalls_and_follows_lasting_ones() -> None:
    assert LoopLag().usual_s() == 0.0
    lag = lag_of([(number / 4, 0.3 if number % 8 == 0 else 0.002) for number in range(100)])
    assert round(lag.usual_s(), 6) == 0.002
    for number in range(100, 116):
        lag.sample(number / 4 + 0.05, number / 4)
    assert round(lag.usual_s(), 6) == 0.05
