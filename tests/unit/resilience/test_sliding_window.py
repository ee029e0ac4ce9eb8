"""At most so many requests in any 60 seconds."""

import pytest

from open_autoglm.resilience.sliding_window import SlidingWindow


def test_it_lets_the_limit_through_and_no_more() -> None:
    window = SlidingWindow(3)
    assert [window.take(0.5) == 0.0 for _ in range(5)] == [True, True, True, False, False]
    assert window.remaining(0.5) == 0


@pytest.mark.parametrize("start_s", [0.0, 0.4, 59.9, 60.0, 61.0, 1e6 + 0.7])
def test_a_request_leaves_the_window_after_sixty_to_sixty_one_seconds(start_s: float) -> None:
    window = SlidingWindow(1)
    assert window.take(start_s) == 0.0
    assert window.take(start_s + 59.999) > 0.0
    wait_s = window.take(start_s + 1.0)
    assert 59.0 < wait_s <= 60.0
    assert window.take(start_s + 61.0) == 0.0


def test_the_wait_it_names_suffices() -> None:
    window = SlidingWindow(2)
    assert window.take(10.25) == 0.0
    assert window.take(20.25) == 0.0
    assert window.take(30.5) == 71.0 - 30.5
    assert window.take(70.9) > 0.0
    assert window.take(71.0) == 0.0
    assert window.take(71.0) == 81.0 - 71.0


def test_a_lower_limit_waits_for_as_many_as_are_over_it() -> None:
    window = SlidingWindow(4)
    for now_s in (1.0, 2.0, 3.0, 4.0):
        assert window.take(now_s) == 0.0
    window.limit = 2
    assert window.remaining(5.0) == 0
    # Three have to leave before another one fits.
    assert window.take(5.0) == 64.0 - 5.0


def test_after_a_long_silence_it_is_empty() -> None:
    window = SlidingWindow(5)
    for _ in range(5):
        window.take(3.0)
    assert window.remaining(1e7) == 5


def test_asking_counts_nothing() -> None:
    window = SlidingWindow(1)
    for _ in range(10):
        assert window.wait_s(0.0) == 0.0
    assert window.take(0.0) == 0.0
