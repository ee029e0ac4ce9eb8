"""The account of a run: who waits, who gets less, and what a journal makes of it."""

from __future__ import annotations

from math import inf

import pytest

from open_autoglm.scheduling.budget import BudgetExhausted
from open_autoglm.scheduling.run_account import Quote, RunAccount, RunBudget, Spent
from open_autoglm.scheduling.run_event import Held, TaskDone, TaskFailed, TaskStarted


def test_what_does_not_fit_beside_others_waits_for_them_and_fits_when_they_were_cheaper() -> None:
    account = RunAccount(RunBudget(tokens=100))
    assert account.begin("a", Quote(60)) == (60, 0.0)
    assert account.begin("b", Quote(60)) is None
    ledger = account.ledger("a")
    ledger.settle(ledger.reserve(60), 10, 0.0)
    assert account.end("a") == (10, 0.0)
    assert account.begin("b", Quote(60)) == (60, 0.0)
    assert (account.spent, account.reserved) == ((10, 0.0), (60, 0.0))


def test_what_does_not_fit_alone_exhausts_the_budget() -> None:
    account = RunAccount(RunBudget(money=0.5))
    account.begin("free", Quote())
    with pytest.raises(BudgetExhausted, match="money"):
        account.begin("a", Quote(10**6, 0.6))


def test_a_team_takes_what_is_left_and_can_spend_no_more() -> None:
    account = RunAccount(RunBudget(tokens=100, money=1.0))
    account.begin("a", Quote(30, 0.25))
    assert account.begin("team", Quote(inf, 0.8, elastic=True)) is None
    account.forfeit("a")
    assert account.begin("team", Quote(inf, 0.8, elastic=True)) == (70, 0.75)
    with pytest.raises(BudgetExhausted):
        account.ledger("team").reserve(71)
    account.ledger("team").reserve(50, 0.5)
    assert account.end("team") == (50, 0.5), "a call that is open counts in full"
    account.begin("b", Quote(20, 0.25))
    account.close()
    assert (account.spent, account.reserved) == ((100, 1.0), (0, 0.0))
    with pytest.raises(BudgetExhausted):
        account.begin("team", Quote(inf, inf, elastic=True))


def test_without_a_budget_it_only_counts() -> None:
    account = RunAccount(RunBudget())
    assert account.begin("a", Quote(inf, inf, elastic=True)) == (0, 0.0)
    ledger = account.ledger("a")
    assert not ledger.is_limited
    ledger.settle(ledger.reserve(10**9, 1e6), 7, 0.5)
    assert account.end("a") == account.spent == (7, 0.5)


def test_a_journal_gives_what_was_spent_and_all_that_was_set_aside_for_tries_without_an_end() -> None:
    account = RunAccount(RunBudget(tokens=1000, money=100.0))
    for event in (
        TaskStarted("a", tokens=100, money=1.0),
        TaskDone("a", tokens=30, money=0.5),
        TaskStarted("b", tokens=100, money=1.0),  # ended with the process
        TaskStarted("b", 2, tokens=100, money=1.0),
        TaskFailed("b", "overloaded", tokens=5),
        TaskStarted("c", tokens=7, money=1.0),
        Held("c", "x"),
        TaskStarted("d", tokens=200, money=2.0),  # with the process, too
    ):
        account.take(event)
    account.resume()
    assert account.spent == Spent(30 + 100 + 5 + 200, 0.5 + 1.0 + 2.0)


def test_of_a_large_sum_all_that_is_left_can_be_taken() -> None:
    for money in (1e9, 123_456_789.123, 9_007.2):
        account = RunAccount(RunBudget(money=money))
        assert account.begin("team", Quote(0, inf, elastic=True)) is not None
        assert account.reserved.money == pytest.approx(money)
