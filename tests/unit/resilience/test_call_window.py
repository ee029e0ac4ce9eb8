"""The ring of calls: what counts, at every place where it may wrap."""

from math import inf

import pytest

from open_autoglm.resilience.call_window import FAILED, FAILED_SLOW, GOOD, SLOW, CallWindow


def test_an_empty_window_counts_nothing_at_any_time() -> None:
    window = CallWindow(4, 30.0)
    assert window.count(0.0) == (0, 0, 0)
    assert window.count(-inf) == (0, 0, 0)
    assert window.latest_s() == -inf


@pytest.mark.parametrize("calls", range(1, 12))
def test_only_the_latest_calls_count(calls: int) -> None:
    window = CallWindow(4, 30.0)
    marks = [(GOOD, FAILED, SLOW, FAILED_SLOW)[number % 4] for number in range(calls)]
    for number, mark in enumerate(marks):
        window.record(float(number), mark)
    latest = marks[-4:]
    failed = sum(mark in (FAILED, FAILED_SLOW) for mark in latest)
    slow = sum(mark in (SLOW, FAILED_SLOW) for mark in latest)
    assert window.count(float(calls)) == (len(latest), failed, slow)
    assert window.latest_s() == calls - 1


@pytest.mark.parametrize("calls", range(1, 12))
def test_old_calls_do_not_count(calls: int) -> None:
    window = CallWindow(8, 3.0)
    for number in range(calls):
        window.record(float(number), FAILED)
    # At the last call, those of the last 3 s count, its own second and the one 3 s old included.
    expected = min(calls, 4)
    assert window.count(calls - 1.0) == (expected, expected, 0)
    assert window.count(calls + 2.5) == (0, 0, 0)


def test_clear_forgets() -> None:
    window = CallWindow(4, 30.0)
    window.record(0.0, FAILED)
    window.clear()
    assert window.count(0.0) == (0, 0, 0)
