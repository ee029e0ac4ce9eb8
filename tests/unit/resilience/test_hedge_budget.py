"""When a first attempt is slow, and what hedges may cost."""

from math import inf

import pytest

from open_autoglm.resilience.hedge_budget import HedgeBudget, LatestQuantile


def test_too_few_samples_say_nothing() -> None:
    quantile = LatestQuantile(0.5)
    for _ in range(19):
        quantile.add(1.0)
    assert quantile.value() == inf
    quantile.add(1.0)
    assert quantile.value() == 1.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.95, 96.0), (1.0, 100.0)])
def test_quantile_is_exact(share: float, expected: float) -> None:
    quantile = LatestQuantile(share)
    for sample in range(100, 0, -1):
        quantile.add(float(sample))
    assert quantile.value() == expected


def test_old_samples_are_forgotten() -> None:
    quantile = LatestQuantile(0.95)
    for sample in [9.0] * 300 + [1.0] * 256:
        quantile.add(sample)
    assert quantile.value() == 1.0


def test_streams_and_unary_answers_keep_their_own_times() -> None:
    budget = HedgeBudget(0.95, 0.05, 0.02, 0.0)
    for _ in range(20):
        budget.observe(True, 0.2)
        budget.observe(False, 3.0)
    assert budget.delay_s(True) == 0.2
    assert budget.delay_s(False) == 3.0


def test_no_hedge_before_the_shortest_delay() -> None:
    budget = HedgeBudget(0.95, 0.05, 0.02, 0.0)
    for _ in range(20):
        budget.observe(True, 0.001)
    assert budget.delay_s(True) == 0.05


def test_hedges_are_a_share_of_the_answers() -> None:
    budget = HedgeBudget(0.95, 0.05, 0.25, 0.0)
    sent = 0
    for _ in range(100):
        budget.observe(True, 1.0)
        sent += budget.begin(0.0, 0.0)
    assert sent == 25


def test_a_quiet_time_saves_up_ten_at_most() -> None:
    budget = HedgeBudget(0.95, 0.05, 0.25, 0.0)
    for _ in range(1000):
        budget.observe(True, 1.0)
    assert sum(budget.begin(0.0, 0.0) for _ in range(100)) == 10


def test_no_hour_costs_more_than_the_cap() -> None:
    budget = HedgeBudget(0.95, 0.05, 1.0, 10.0)
    spent: list[float] = []
    for minute in range(300):
        now_s = minute * 60.0 + 7.0
        budget.observe(True, 1.0)
        if budget.begin(now_s, 1.0):
            spent.append(now_s)
        assert sum(1.0 for at_s in spent if at_s > now_s - 3600.0) <= 10.0
    # Ten of every 61 minutes, since a minute counts until all of it is an hour ago.
    assert len(spent) == 50


def test_a_hedge_that_is_too_dear_does_not_use_up_the_share() -> None:
    budget = HedgeBudget(0.95, 0.05, 1.0, 1.0)
    budget.observe(True, 1.0)
    assert not budget.begin(0.0, 2.0)
    assert budget.begin(0.0, 0.5)
