"""Retries stop while most of what is sent fails."""

import pytest

from open_autoglm.resilience.retry_budget import RetryBudget


def test_five_failures_end_the_retries() -> None:
    budget = RetryBudget()
    allowed = []
    for _ in range(6):
        budget.failure()
        allowed.append(budget.begin(1000))
    assert allowed == [True, True, True, True, False, False]


def test_successes_bring_them_back_slowly() -> None:
    budget = RetryBudget()
    for _ in range(20):
        budget.failure()
    assert budget.tokens == 0.0
    for _ in range(50):
        budget.success()
    assert not budget.begin(1000)
    budget.success()
    assert budget.begin(1000)


def test_the_bucket_does_not_overflow() -> None:
    budget = RetryBudget(ratio=1.0)
    for _ in range(20):
        budget.success()
    assert budget.tokens == 10.0


@pytest.mark.parametrize(("requests", "retries"), [(0, 3), (1, 3), (30, 3), (39, 3), (40, 4), (1000, 100)])
def test_retries_in_flight_are_a_tenth_of_the_requests_or_three(requests: int, retries: int) -> None:
    budget = RetryBudget()
    assert sum(budget.begin(requests) for _ in range(200)) == retries
    budget.end()
    assert budget.begin(requests)
    assert not budget.begin(requests)


def test_a_hedge_costs_a_token_and_a_refused_one_does_not() -> None:
    budget = RetryBudget()
    assert [budget.begin_hedge(1000) for _ in range(7)] == [True] * 5 + [False] * 2
    assert (budget.tokens, budget.active) == (5.0, 5)


def test_an_end_too_many_is_a_defect() -> None:
    budget = RetryBudget()
    assert budget.begin(1)
    budget.end()
    assert budget.active == 0
    with pytest.raises(AssertionError):
        budget.end()
