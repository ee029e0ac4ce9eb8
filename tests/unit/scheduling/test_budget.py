import math

import pytest

from open_autoglm.scheduling.budget import BudgetExhausted, Ledger, Snapshot, estimate


class Watch:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_reservation_holds_its_place_until_it_is_settled() -> None:
    ledger = Ledger(tokens=100, money=1.0, calls=3)
    first = ledger.reserve(60, 0.5)
    with pytest.raises(BudgetExhausted, match="40 tokens left, and the next step may take 41"):
        ledger.reserve(41, 0.1)
    ledger.settle(first, 10, 0.25)
    ledger.reserve(90, 0.75)
    assert ledger.snapshot() == Snapshot(10, 0.25, 1, 90, 0.75, 1)


def test_a_released_reservation_costs_nothing_not_even_the_call() -> None:
    ledger = Ledger(calls=1)
    ledger.release(ledger.reserve(5, 0.1))
    assert ledger.snapshot() == Snapshot()
    ledger.reserve()
    with pytest.raises(BudgetExhausted) as refused:
        ledger.reserve()
    assert (refused.value.kind, refused.value.code, refused.value.left) == ("calls", "insufficient_quota", 0)


def test_zero_is_no_limit() -> None:
    ledger = Ledger()
    ledger.settle(ledger.reserve(10**9, 1e6, 1000), 10**9, 1e6)
    assert ledger.left_s() == math.inf


def test_a_call_that_is_billed_more_than_was_reserved_is_told_and_nothing_follows_it() -> None:
    ledger = Ledger(tokens=100, money=1.0)
    ledger.settle(ledger.reserve(100, 0.5), 130, 1.5)
    after = ledger.snapshot()
    assert (after.tokens_overshoot, after.money_overshoot) == (30, 0.5)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(0, 0.0)


def test_nothing_is_let_in_from_the_deadline_on() -> None:
    watch = Watch()
    ledger = Ledger(deadline_s=101.0, clock=watch)
    watch.now_s = 100.5
    assert ledger.left_s() == 0.5
    reservation = ledger.reserve()
    watch.now_s = 101.0
    with pytest.raises(BudgetExhausted) as refused:
        ledger.reserve()
    assert (refused.value.kind, refused.value.code) == ("time", "deadline_exceeded")
    assert ledger.left_s() == 0.0
    ledger.settle(reservation, 1, 0.0)  # what was begun is paid all the same


def test_a_child_spends_what_is_its_parents_and_has_limits_of_its_own() -> None:
    parent = Ledger(tokens=100)
    child = parent.child(tokens=80)
    child.settle(child.reserve(50), 50, 0.0)
    assert parent.snapshot().tokens == 50
    with pytest.raises(BudgetExhausted, match="30 tokens left"):
        child.reserve(31)
    parent.reserve(40)
    with pytest.raises(BudgetExhausted, match="10 tokens left"):
        child.reserve(11)
    assert child.snapshot().tokens_reserved == 0


def test_what_would_fit_can_be_asked_without_taking_it() -> None:
    ledger = Ledger(tokens=100)
    child = ledger.child(money=1.0)
    child.reserve(60)
    child.check(40)
    child.check(40)
    assert child.left_tokens() == 40
    with pytest.raises(BudgetExhausted):
        child.check(41)
    ledger.settle(ledger.reserve(10), 70, 0.0)
    assert (child.left_tokens(), Ledger().left_tokens()) == (0, math.inf)


def test_a_child_keeps_its_parents_deadline() -> None:
    watch = Watch()
    child = Ledger(deadline_s=101.0, clock=watch).child(deadline_s=200.0)
    assert child.left_s() == 1.0
    watch.now_s = 150.0
    with pytest.raises(BudgetExhausted):
        child.reserve()


def test_sums_of_money_are_exact() -> None:
    ledger = Ledger(money=1.0)
    for _ in range(10):
        ledger.settle(ledger.reserve(0, 0.1), 0, 0.1)
    assert ledger.snapshot().money == 1.0
    with pytest.raises(BudgetExhausted):
        ledger.reserve(0, 1e-12)


def test_a_reservation_is_closed_once_and_by_its_own_ledger() -> None:
    ledger = Ledger(tokens=10)
    reservation = ledger.reserve(5)
    with pytest.raises(ValueError, match="another ledger"):
        Ledger().release(reservation)
    ledger.settle(reservation, 5, 0.0)
    for close in (lambda: ledger.settle(reservation, 5, 0.0), lambda: ledger.release(reservation)):
        with pytest.raises(ValueError, match="closed already"):
            close()
    assert ledger.snapshot().tokens == 5


@pytest.mark.parametrize(
    "wrong", [{"tokens": -1}, {"money": -0.1}, {"money": math.nan}, {"money": math.inf}, {"calls": -1}]
)
def test_a_wrong_figure_is_refused_at_once(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="below 0"):
        Ledger(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="below 0"):
        Ledger().reserve(**wrong)  # type: ignore[arg-type]


def test_a_wrong_limit_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="clock"):
        Ledger(deadline_s=1.0)
    with pytest.raises(ValueError, match="before 0"):
        Ledger(deadline_s=-1.0, clock=Watch())
    with pytest.raises(ValueError, match="counted down to"):
        Ledger(money=1e-13)


def test_an_estimate_takes_the_whole_answer_as_its_most() -> None:
    assert estimate(1000, 500, 0.5, 1.5) == (1500, 0.00125)
