"""The account of one run of a task graph: what its steps may spend, set aside before each try and settled after it.

| a try is | and counts as |
|---|---|
| not begun | nothing |
| begun | what was set aside for it, which is all that it may spend |
| ended | what it says that it spent; all that was set aside where nobody can tell |

Invariants: what is spent and set aside is within the budget, as long as nothing is billed more than was set aside for
it; an account that is made again from a journal has spent no less than the one that wrote it.
"""

from __future__ import annotations

from math import inf
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Count, Delay
from open_autoglm.scheduling.budget import BudgetExhausted, Kind, Ledger, Reservation
from open_autoglm.scheduling.run_event import Held, RunEvent, TaskDone, TaskFailed, TaskStarted

_MONEY_MIN: Final = 1e-12
Money = Annotated[float, Meta(ge=0, le=1e9)]


class RunBudget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one run may spend over all its steps and restarts. Zero means no limit.

    Attributes:
        tokens: of prompts and answers.
        money: for models and tools, in the currency of the prices.
        time_s: from its submission on, waiting for people and restarts included.
    """

    tokens: Count = 0
    money: Money = 0.0
    time_s: Delay = field(default=0.0, name="time")


class Quote(NamedTuple):
    """What one try may spend.

    Attributes:
        tokens, money: at most; infinite where only the budget bounds it.
        elastic: whether it can do with less, if there is no more.
    """

    tokens: float = 0
    money: float = 0.0
    elastic: bool = False


class Spent(NamedTuple):
    """Tokens and money."""

    tokens: int
    money: float


class RunAccount:
    """See the module. Take what the journal holds, then `resume`; then `begin` and `end` tries.

    Args:
        budget: of the run.

    Attributes:
        budget: the same.
    """

    def __init__(self, budget: RunBudget) -> None:
        self.budget = budget
        self._ledger = Ledger(budget.tokens, budget.money)
        self._before: dict[str, Spent] = {}  # of tries that a journal says have begun
        self._open: dict[str, tuple[Reservation, Ledger]] = {}

    def take(self, event: RunEvent) -> None:
        """Count what a journal holds."""
        match event:
            case TaskStarted(task=task, tokens=tokens, money=money):
                self._lose(task)
                self._before[task] = Spent(tokens, money)
            case TaskDone(task=task, tokens=tokens, money=money) | TaskFailed(task=task, tokens=tokens, money=money):
                self._before.pop(task, None)
                self._ledger.spend(tokens, money)
            case Held(task=task, tokens=tokens, money=money):
                self._before.pop(task, None)
                self._ledger.spend(tokens, money)
            case _:
                pass

    def resume(self) -> None:
        """Tries whose end was not kept have spent what was set aside for them."""
        for task in list(self._before):
            self._lose(task)

    def begin(self, task: str, quote: Quote) -> Spent | None:
        """Set aside what a try may spend; return that, or None while it has to wait for tries under way to end.

        Raises:
            BudgetExhausted: it does not fit, and no end of a try will change that.
        """
        try:
            tokens, money = self._fitted(quote)
            reservation = self._ledger.reserve(tokens, money)
        except BudgetExhausted:
            if self._holds:
                return None
            raise
        own = Ledger(tokens if self.budget.tokens else 0, money if self.budget.money and money >= _MONEY_MIN else 0.0)
        self._open[task] = reservation, own
        return Spent(tokens, money)

    def ledger(self, task: str) -> Ledger:
        """What pays for the try of a task that was begun: it has what was set aside, and no more."""
        return self._open[task][1]

    def end(self, task: str) -> Spent:
        """Settle a try by what its ledger has spent; calls of it that are still open there count in full."""
        if task not in self._open:
            return Spent(0, 0.0)
        reservation, own = self._open.pop(task)
        state = own.snapshot()
        spent = Spent(state.tokens + state.tokens_reserved, state.money + state.money_reserved)
        self._ledger.settle(reservation, *spent)
        return spent

    def forfeit(self, task: str) -> None:
        """Settle a try that was broken off: it counts as all that was set aside for it, or as more if it spent more."""
        if task in self._open:
            reservation, own = self._open.pop(task)
            state = own.snapshot()
            self._ledger.settle(reservation, max(reservation.tokens, state.tokens), max(reservation.money, state.money))

    def close(self) -> None:
        """The run is over here: tries that are still open are broken off."""
        for task in list(self._open):
            self.forfeit(task)

    @property
    def spent(self) -> Spent:
        """By tries that have ended."""
        state = self._ledger.snapshot()
        return Spent(state.tokens, state.money)

    @property
    def reserved(self) -> Spent:
        """By tries under way."""
        state = self._ledger.snapshot()
        return Spent(state.tokens_reserved, state.money_reserved)

    @property
    def _holds(self) -> bool:
        return any(self.reserved)

    def _lose(self, task: str) -> None:
        lost = self._before.pop(task, None)
        if lost is not None:
            self._ledger.spend(*lost)

    def _fitted(self, quote: Quote) -> Spent:
        """What is set aside for a quote, in an account without a limit what is finite of it."""
        lefts: list[tuple[Kind, float, float]] = [
            ("tokens", quote.tokens, self._ledger.left_tokens()),
            ("money", quote.money, self._ledger.left_money()),
        ]
        amounts = []
        for kind, asked, left in lefts:
            if asked > left and (not quote.elastic or self._holds or not left):
                raise BudgetExhausted(kind, asked, left)
            amounts.append(min(asked, left))
        tokens, money = (0 if amount == inf else amount for amount in amounts)
        return Spent(int(tokens), money)
