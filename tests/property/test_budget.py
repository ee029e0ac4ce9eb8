"""A tree of budgets keeps its limits whatever is reserved, settled and released in whatever order."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from open_autoglm.scheduling.budget import BudgetExhausted, Ledger, Reservation

_TOKENS = st.integers(0, 60)
_MONEY = st.floats(0.0, 1.2)
_CALLS = st.integers(0, 4)


class Budgets(RuleBasedStateMachine):
    """The root's limits are known; the model beside it adds up what was billed."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = {0: (100, 2.0, 10)}
        self.ledgers = [Ledger(100, 2.0, 10)]
        self.open: list[tuple[int, Reservation]] = []
        self.parents = {0: 0}
        self.overshot = False
        self.billed_tokens = 0

    @precondition(lambda self: len(self.ledgers) < 5)
    @rule(of=st.integers(0, 4), tokens=st.integers(0, 120), money=st.sampled_from([0.0, 0.7]), calls=st.integers(0, 12))
    def child(self, of: int, tokens: int, money: float, calls: int) -> None:
        at = of % len(self.ledgers)
        self.parents[len(self.ledgers)] = at
        self.limits[len(self.ledgers)] = (tokens, money, calls)
        self.ledgers.append(self.ledgers[at].child(tokens, money, calls))

    @rule(of=st.integers(0, 4), tokens=_TOKENS, money=_MONEY, calls=_CALLS)
    def reserve(self, of: int, tokens: int, money: float, calls: int) -> None:
        at = of % len(self.ledgers)
        before = [ledger.snapshot() for ledger in self.ledgers]
        try:
            self.open.append((at, self.ledgers[at].reserve(tokens, money, calls)))
        except BudgetExhausted:
            assert [ledger.snapshot() for ledger in self.ledgers] == before
        else:
            assert not self.overshot, "something was let in after an overshoot of the root"

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 50), share=st.floats(0.0, 1.0))
    def settle(self, which: int, share: float) -> None:
        at, reservation = self.open.pop(which % len(self.open))
        tokens = int(reservation.tokens * share)
        self.billed_tokens += tokens
        self.ledgers[at].settle(reservation, tokens, reservation.money * share)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 50))
    def release(self, which: int) -> None:
        at, reservation = self.open.pop(which % len(self.open))
        self.ledgers[at].release(reservation)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 50))
    def bill_far_more(self, which: int) -> None:
        at, reservation = self.open.pop(which % len(self.open))
        self.billed_tokens += 500
        self.ledgers[at].settle(reservation, 500, 0.0)
        self.overshot = True

    @invariant()
    def limits_hold(self) -> None:
        root = self.ledgers[0].snapshot()
        assert root.tokens == self.billed_tokens
        assert (root.tokens_overshoot > 0) == self.overshot
        if self.overshot:
            return
        for at, ledger in enumerate(self.ledgers):
            tokens, money, calls = self.limits[at]
            now = ledger.snapshot()
            assert not tokens or now.tokens + now.tokens_reserved <= tokens
            # Two sums, each exact, are rounded when they are shown.
            assert not money or now.money + now.money_reserved <= money + 1e-12
            assert not calls or now.calls + now.calls_reserved <= calls

    @invariant()
    def what_is_open_is_what_is_reserved(self) -> None:
        for at, ledger in enumerate(self.ledgers):
            below = [reservation for where, reservation in self.open if self._is_within(where, at)]
            assert ledger.snapshot().tokens_reserved == sum(reservation.tokens for reservation in below)

    def _is_within(self, where: int, of: int) -> bool:
        while where not in (of, 0):
            where = self.parents[where]
        return where == of


TestBudgets = Budgets.TestCase
