"""A limit that is used to the full is lowered while as many answers come, and raised where more would."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from open_autoglm.resilience.trim import Trim

SERVICE_S = 0.05


class Full:
    """An endpoint whose limit is always used to the full.

    Args:
        time_s: what an answer takes with so many in flight.
        limit: without the trim's cap.
        noise: each second answer takes so much longer, the others as much less.
    """

    def __init__(self, time_s: Callable[[int], float], limit: int, noise: float = 0.0) -> None:
        self.time_s = time_s
        self.limit = limit
        self.noise = noise
        self.trim = Trim(4)
        self.now_s = 0.0
        self.share_used = 1.0

    def run(self, seconds: float) -> float:
        """Let answers come for so long, one each 5 ms; return the cap."""
        for number in range(int(seconds / 0.005)):
            self.now_s += 0.005
            limit = int(min(self.limit, self.trim.cap))
            in_flight = max(1, int(limit * self.share_used))
            took_s = self.time_s(in_flight) * (1.0 + (self.noise if number % 2 else -self.noise))
            self.trim.note(self.now_s, self.now_s - took_s, took_s / SERVICE_S, in_flight, limit)
        return self.trim.cap


def queue(slots: int) -> Callable[[int], float]:
    return lambda in_flight: SERVICE_S * max(1.0, in_flight / slots)


def test_what_stands_in_the_endpoints_queue_is_taken_away() -> None:
    assert 16 <= Full(queue(16), 24).run(10.0) <= 18


def test_a_large_limit_is_lowered_in_larger_steps() -> None:
    assert 200 <= Full(queue(200), 280).run(20.0) <= 235


def test_where_fewer_in_flight_mean_fewer_answers_nothing_is_taken() -> None:
    """As where answers take longer when more are made at once, but not in proportion."""
    assert Full(lambda in_flight: SERVICE_S * (1.0 + in_flight / 100.0), 24).run(1.0) == inf


def test_where_no_queue_is_seen_nothing_is_tried() -> None:
    full = Full(queue(100), 24)
    for _ in range(20):
        assert full.run(0.5) == inf


def test_where_times_differ_too_much_nothing_is_tried() -> None:
    full = Full(queue(16), 24, noise=0.8)
    for _ in range(20):
        assert full.run(0.5) == inf


def test_a_limit_that_is_not_used_is_left_alone() -> None:
    full = Full(queue(16), 24)
    full.run(10.0)
    full.share_used = 0.5
    assert full.run(5.0) == inf


def test_more_room_is_found_soon() -> None:
    full = Full(queue(16), 24)
    full.run(10.0)
    full.time_s = queue(100)
    full.run(20.0)
    assert min(full.limit, full.trim.cap) == 24


def test_it_never_goes_below_its_floor() -> None:
    assert Full(queue(1), 12).run(30.0) >= 4


def test_a_limit_that_is_lowered_by_others_ends_a_comparison() -> None:
    full = Full(queue(16), 24)
    while not full.trim.compares:
        full.run(0.1)
    full.limit = 8
    assert full.run(0.1) == inf
    assert not full.trim.compares
