"""Retries stop while most of what is sent fails."""

import pytest

from open_autoglm.resilience.retry_budget import RetryBudget


def test_twenty_failures_end_the_retries() -> None:
    budget = RetryBudget()
    allowed = []
    for _ in range(22):
        budget.failure()
        allowed.append(budget.begin(1000))
    assert allowed == [True] * 19 + [False] * 3


def test_two_endpoints_that_fail_together_cost_no_request_before_their_breakers_open() -> None:
    budget = RetryBudget()
    saved = 0
    for _ in range(2 * 9):
        budget.failure()
        saved += budget.begin(0)
        budget.end()
    assert saved == 18


def test_successes_bring_them_back_slowly() -> None:
    budget = RetryBudget()
    for _ in range(30):
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
    assert budget.tokens == 25.0


@pytest.mark.parametrize(("requests", "retries"), [(0, 10), (1, 10), (20, 10), (22, 11), (1000, 500)])
def test_retries_in_flight_are_half_of_the_requests_or_ten(requests: int, retries: int) -> None:
    budget = busy()
    assert sum(budget.begin(requests) for _ in range(900)) == retries
    budget.end()
    assert budget.begin(requests)
    assert not budget.begin(requests)


def busy(rate: int = 1000, ratio: float = 0.1) -> RetryBudget:
    """A budget after two minutes of successes."""
    budget = RetryBudget(ratio)
    for second in range(120):
        for _ in range(rate):
            budget.success()
        budget.adapt(1000.0 + second, second * rate)
    return budget


def test_the_bucket_holds_five_seconds_of_successes() -> None:
    budget = busy()
    assert budget.tokens_max == pytest.approx(500.0, rel=0.001)
    assert budget.tokens == pytest.approx(budget.tokens_max, rel=0.001)


def test_an_endpoint_that_takes_all_its_requests_with_it_costs_none_of_them() -> None:
    budget = busy(rate=500)
    saved = 0
    for _ in range(100):
        budget.failure()
        saved += budget.begin(200)
    assert saved == 100


def test_a_bucket_that_grows_does_not_end_the_retries() -> None:
    budget = RetryBudget()
    for second in range(3):
        budget.adapt(1000.0 + second, second * 1000)
    assert budget.tokens_max > 50.0
    assert budget.begin(1)


def test_without_successes_it_shrinks_again() -> None:
    budget = busy()
    for second in range(90):
        budget.adapt(1120.0 + second, 119_000)
    assert budget.tokens_max == 25.0
    assert budget.tokens == 25.0


def test_a_reload_that_begins_to_count_anew_is_no_traffic() -> None:
    budget = busy()
    budget.adapt(1120.0, 0)
    assert budget.tokens_max < 500.0


def test_a_hedge_costs_a_token_and_a_refused_one_does_not() -> None:
    budget = RetryBudget()
    assert [budget.begin_hedge(1000) for _ in range(22)] == [True] * 20 + [False] * 2
    assert (budget.tokens, budget.active) == (5.0, 20)


def test_an_end_too_many_is_a_defect() -> None:
    budget = RetryBudget()
    assert budget.begin(1)
    budget.end()
    assert budget.active == 0
    with pytest.raises(AssertionError):
        budget.end()
