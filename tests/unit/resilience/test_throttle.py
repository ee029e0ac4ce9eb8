"""Client-side throttling: when requests are held back, how many, and when that ends."""

import random
from math import sqrt

import pytest

from open_autoglm.resilience.settings import ThrottlingSettings
from open_autoglm.resilience.throttle import Throttle


def test_nothing_is_held_back_while_half_is_accepted() -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, 1000, 500)
    assert tested.ratio == 0.0


@pytest.mark.parametrize(("sent", "accepted", "ratio"), [(20, 0, 20 / 21), (100, 25, 50 / 101), (99, 33, 33 / 100)])
def test_the_ratio_is_the_published_formula(sent: int, accepted: int, ratio: float) -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, sent, accepted)
    assert tested.ratio == pytest.approx(ratio)


def test_fewer_than_twenty_tell_nothing() -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, 19, 0)
    assert tested.ratio == 0.0


def test_what_is_older_than_the_window_counts_no_more() -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, 20, 0)
    tested.update(119.0, 20, 0)
    assert tested.ratio > 0.9
    tested.update(120.0, 20, 0)
    assert tested.ratio == 0.0


def test_ten_accepted_in_a_row_end_it() -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, 1000, 0)
    tested.update(1.0, 1009, 9)
    assert tested.ratio > 0.9
    tested.update(2.0, 1010, 9)
    tested.update(3.0, 1019, 18)
    assert tested.ratio > 0.9, "one turned away starts the row anew"
    tested.update(4.0, 1020, 19)
    assert tested.ratio == 0.0


def test_clear_forgets() -> None:
    tested = Throttle(ThrottlingSettings())
    tested.update(0.0, 50, 0)
    tested.clear()
    assert tested.ratio == 0.0
    tested.update(1.0, 51, 1)
    assert tested.ratio == 0.0


def test_an_endpoint_that_can_do_a_fifth_is_not_asked_for_all() -> None:
    """In the steady state of the formula, `sqrt(2 * accepted * wanted)` requests are sent."""
    rng = random.Random(1)
    tested = Throttle(ThrottlingSettings())
    sent = accepted = late_sent = late_accepted = 0
    for second in range(600):
        room = 20
        for _ in range(100):
            if rng.random() < tested.ratio:
                continue
            sent += 1
            late_sent += second >= 300
            if room:
                room -= 1
                accepted += 1
                late_accepted += second >= 300
        tested.update(float(second), sent, accepted)
    assert late_accepted == 300 * 20
    assert late_sent / 300 == pytest.approx(sqrt(2 * 20 * 100), rel=0.05)
