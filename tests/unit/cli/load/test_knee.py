"""Where the knee is, and when a ramp may stop."""

import pytest

from open_autoglm.cli.load.knee import has_passed, knee_of, ramp
from open_autoglm.cli.load.step import Step


def step(concurrency: int, rate: float, failed: int = 0) -> Step:
    return Step(concurrency, 1.0, int(rate), {"status 500": failed} if failed else {}, rate)


def steps(*rates: float) -> list[Step]:
    return [step(2**i, rate) for i, rate in enumerate(rates)]


@pytest.mark.parametrize(
    ("rates", "knee"),
    [
        ((100.0,), 1),
        ((100.0, 190.0, 370.0, 400.0, 402.0), 4),
        ((100.0, 200.0, 400.0, 800.0), 8),
        ((400.0, 380.0, 300.0), 1),
        ((100.0, 89.9), 1),
    ],
)
def test_the_knee_is_the_least_load_near_the_highest_rate(rates: tuple[float, ...], knee: int) -> None:
    found = knee_of(steps(*rates))
    assert found is not None
    assert found.concurrency == knee


def test_steps_that_fail_do_not_count() -> None:
    found = knee_of([step(1, 100), step(2, 200), step(4, 1000, failed=500)])
    assert found is not None
    assert found.concurrency == 2
    assert knee_of([step(1, 0, failed=10)]) is None
    assert knee_of([]) is None


def test_one_failure_in_a_thousand_is_no_reason_to_leave_a_step_out() -> None:
    found = knee_of([step(1, 100), step(2, 1000, failed=1)])
    assert found is not None
    assert found.concurrency == 2


def test_a_ramp_stops_two_steps_beyond_the_knee() -> None:
    rates = (100.0, 200.0, 390.0, 400.0, 401.0, 402.0)
    stopped = [n for n in range(1, len(rates) + 1) if has_passed(steps(*rates[:n]))]
    assert stopped[0] == 5


def test_a_ramp_stops_when_nothing_is_served() -> None:
    assert has_passed([step(1, 0, failed=3)])
    assert not has_passed([])


@pytest.mark.parametrize(
    ("most", "steps"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (10, [1, 2, 4, 8, 10])]
)
def test_ramp(most: int, steps: list[int]) -> None:
    assert list(ramp(most)) == steps
