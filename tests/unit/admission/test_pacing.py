"""Grants one by one while a line stands: bunches are pulled apart, and nobody else pays for it."""

from __future__ import annotations

import heapq
import random
from itertools import pairwise

import pytest

from open_autoglm.admission.pacing import HOLD_MAX_S, Pacing

TICK_S = 0.001


def grants(pacing: Pacing, slots: int, service_s: float, spread: float, seconds: float) -> list[float]:
    """When a line that never empties is let into an upstream with so many slots, all of them free at first."""
    rng = random.Random(1)
    running: list[float] = []
    times = []
    now_s = 0.0
    while now_s < seconds:
        while running and running[0] <= now_s:
            heapq.heappop(running)
        while len(running) < slots and not pacing.hold_s(now_s):
            pacing.granted(now_s)
            times.append(now_s)
            heapq.heappush(running, now_s + service_s * rng.lognormvariate(0.0, spread))
        now_s += TICK_S
    return times


def longest_gap_s(times: list[float], from_s: float) -> float:
    late = [time_s for time_s in times if time_s >= from_s]
    return max(later - earlier for earlier, later in pairwise(late))


def test_requests_that_began_together_do_not_end_together_for_ever() -> None:
    """Without pacing all sixteen are let in each 50 ms."""
    times = grants(Pacing(), 16, 0.05, 0.0, 10.0)
    assert longest_gap_s(times, 5.0) <= 0.02
    assert len(times) >= 0.97 * 16 / 0.05 * 10.0


@pytest.mark.parametrize("spread", [0.2, 0.6])
def test_where_room_comes_free_at_random_little_of_it_stays_unused(spread: float) -> None:
    times = grants(Pacing(), 16, 0.05, spread, 20.0)
    mean_s = 0.05 * 2.718281828 ** (spread**2 / 2)
    assert len(times) >= 0.9 * 16 / mean_s * 20.0


def test_a_short_line_is_not_held_back() -> None:
    pacing = Pacing()
    for _ in range(100):
        assert pacing.hold_s(1.0) == 0.0
        pacing.granted(1.0)


def standing(rate: float, seconds: float) -> Pacing:
    pacing = Pacing()
    for number in range(int(rate * seconds)):
        pacing.granted(number / rate)
    return pacing


def test_it_lets_in_a_tenth_more_than_there_was_room_for() -> None:
    pacing = standing(100.0, 2.0)
    pacing.granted(2.0)
    assert pacing.hold_s(2.0) == 0.0, "it came late by more than a turn, which is made good"
    pacing.granted(2.0)
    assert pacing.hold_s(2.0) == pytest.approx(1.0 / 110.0, rel=0.05)
    assert pacing.hold_s(2.01) == 0.0


def test_nobody_is_held_back_for_longer_than_told() -> None:
    pacing = standing(2.0, 5.0)
    pacing.granted(5.0)
    pacing.granted(5.0)
    assert pacing.hold_s(5.0) == pytest.approx(HOLD_MAX_S)


def test_an_empty_line_is_forgotten() -> None:
    pacing = standing(100.0, 2.0)
    pacing.granted(2.0)
    pacing.emptied()
    pacing.granted(2.0)
    assert pacing.hold_s(2.0) == 0.0


def test_an_outage_is_no_pace() -> None:
    """So what comes back is not paced by how little it could do meanwhile."""
    pacing = standing(100.0, 2.0)
    pacing.granted(10.0)
    pacing.granted(10.0)
    assert pacing.hold_s(10.0) == 0.0


def test_where_there_is_more_room_the_pace_follows() -> None:
    times = grants(standing(100.0, 2.0), 10_000, 1.0, 0.0, 6.0)
    assert len([time_s for time_s in times if time_s >= 5.0]) >= 400
