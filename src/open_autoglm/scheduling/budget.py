"""What a run may spend: tokens, money, calls and time, reserved before each call and settled after it.

| a reservation is | until |
|---|---|
| open | `settle` (the call was made) or `release` (it was not) |
| closed | for ever; closing it again is an error of the caller |

Invariants: spent + reserved <= limit, whatever the order of calls, as long as no call is billed more than was
reserved for it. One that is billed more is counted in full, told as `overshoot`, and nothing further is let in. A
child spends its parents' budget too, and is refused what any of them lacks.

Money is counted in whole millionths of a millionth, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nextafter
from typing import Final, Literal

from msgspec import Struct

from open_autoglm.errors import AutoGLMError

Kind = Literal["tokens", "money", "calls", "time"]

_MONEY_PARTS: Final = 10**12
_KINDS: Final[tuple[Kind, ...]] = ("tokens", "money", "calls")


class BudgetExhausted(AutoGLMError):
    """What was asked for does not fit into what is left; nothing was reserved.

    Args:
        kind: what there is too little of; of several the first of tokens, money, calls, time.
        asked: how much was asked for; 0 for time.
        left: how much is left, not below 0.
    """

    def __init__(self, kind: Kind, asked: float, left: float) -> None:
        message = (
            "the time for this answer is over"
            if kind == "time"
            else f"the budget for this answer has {left:g} {kind} left, and the next step may take {asked:g}"
        )
        super().__init__("deadline_exceeded" if kind == "time" else "insufficient_quota", message)
        self.kind: Kind = kind
        self.asked = asked
        self.left = left


class Reservation:
    """What one call may spend at most; made by `Ledger.reserve`, closed once.

    Attributes:
        tokens, money, calls: what was reserved.
    """

    __slots__ = ("_ledger", "_parts", "calls", "money", "tokens")

    def __init__(self, ledger: Ledger, parts: tuple[int, int, int], money: float) -> None:
        self._ledger: Ledger | None = ledger
        self._parts = parts
        self.tokens = parts[0]
        self.money = money
        self.calls = parts[2]


class Snapshot(Struct, frozen=True, omit_defaults=True):
    """A ledger at one moment.

    Attributes:
        tokens, money, calls: spent, as billed.
        tokens_reserved, money_reserved, calls_reserved: by calls that are under way.
        tokens_overshoot, money_overshoot: spent beyond the limit, since calls were billed more than was reserved.
    """

    tokens: int = 0
    money: float = 0.0
    calls: int = 0
    tokens_reserved: int = 0
    money_reserved: float = 0.0
    calls_reserved: int = 0
    tokens_overshoot: int = 0
    money_overshoot: float = 0.0


class Ledger:
    """See the module.

    Args:
        tokens: limit, >= 0; 0 for none, as with all limits here.
        money: limit, >= 0, in the currency of the prices.
        calls: limit, >= 0.
        deadline_s: moment, on `clock`, from which on nothing is let in.
        clock: gives the time, seconds; needed with a deadline only.

    Raises:
        ValueError: a limit is below 0 or too small to be counted, or there is a deadline without a clock.
    """

    __slots__ = ("_clock", "_deadline_s", "_limits", "_parent", "_reserved", "_spent")

    def __init__(
        self,
        tokens: int = 0,
        money: float = 0.0,
        calls: int = 0,
        deadline_s: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not deadline_s >= 0.0:
            raise ValueError(f"a moment before 0: {deadline_s=}")
        if deadline_s and clock is None:
            raise ValueError("a deadline needs a clock")
        self._limits = _amounts(tokens, money, calls)
        if money and not self._limits[1]:
            raise ValueError(f"money is counted down to {1 / _MONEY_PARTS}: {money=}")
        self._deadline_s = deadline_s
        self._clock = clock
        self._parent: Ledger | None = None
        self._spent = [0, 0, 0]
        self._reserved = [0, 0, 0]

    def child(self, tokens: int = 0, money: float = 0.0, calls: int = 0, deadline_s: float = 0.0) -> Ledger:
        """Make a budget within this one: limits of its own, and what it spends is spent here too.

        Raises:
            ValueError: as the constructor does.
        """
        made = Ledger(tokens, money, calls, deadline_s, self._clock)
        made._parent = self
        return made

    def reserve(self, tokens: int = 0, money: float = 0.0, calls: int = 1) -> Reservation:
        """Set aside what one call may spend at most.

        Raises:
            BudgetExhausted: it does not fit, here or in a parent; nothing is reserved then.
            ValueError: a figure is below 0.
        """
        self.check(tokens, money, calls)
        asked = _amounts(tokens, money, calls)
        for ledger in self._line():
            ledger._add(ledger._reserved, asked, 1)
        return Reservation(self, asked, money)

    def settle(self, reservation: Reservation, tokens: int, money: float) -> None:
        """Close a reservation whose call was made, with what it is billed; what was not needed is free again.

        Raises:
            ValueError: the reservation is closed or another ledger's, or a figure is below 0.
        """
        billed = _amounts(tokens, money, reservation.calls)
        self._close(reservation)
        for ledger in self._line():
            ledger._add(ledger._spent, billed, 1)

    def release(self, reservation: Reservation) -> None:
        """Close a reservation whose call was not made.

        Raises:
            ValueError: the reservation is closed or another ledger's.
        """
        self._close(reservation)

    def spend(self, tokens: int, money: float) -> None:
        """Count what is spent already, whether it fits or not: a budget that begins with what it was spent before.

        Raises:
            ValueError: a figure is below 0.
        """
        spent = _amounts(tokens, money, 0)
        for ledger in self._line():
            ledger._add(ledger._spent, spent, 1)

    def check(self, tokens: int = 0, money: float = 0.0, calls: int = 1) -> None:
        """See whether `reserve` would succeed now.

        Raises:
            BudgetExhausted, ValueError: as `reserve` does.
        """
        asked = _amounts(tokens, money, calls)
        for ledger in self._line():
            ledger._check(asked)

    @property
    def is_limited(self) -> bool:
        """Whether tokens or money have a limit, here or in a parent."""
        return any(ledger._limits[0] or ledger._limits[1] for ledger in self._line())

    def left_tokens(self) -> float:
        """Tokens that could be reserved now, here and in all parents; infinite without a limit."""
        return min(ledger._left_tokens() for ledger in self._line())

    def left_money(self) -> float:
        """Money that could be reserved now, here and in all parents; infinite without a limit."""
        return min(ledger._left_money() for ledger in self._line())

    def left_s(self) -> float:
        """Seconds until the nearest deadline, here or of a parent, not below 0; infinite without one."""
        return max(0.0, min(ledger._left_s() for ledger in self._line()))

    def snapshot(self) -> Snapshot:
        """What is spent and reserved now, children included."""
        spent, reserved, limits = self._spent, self._reserved, self._limits
        return Snapshot(
            tokens=spent[0],
            money=spent[1] / _MONEY_PARTS,
            calls=spent[2],
            tokens_reserved=reserved[0],
            money_reserved=reserved[1] / _MONEY_PARTS,
            calls_reserved=reserved[2],
            tokens_overshoot=max(0, spent[0] - limits[0]) if limits[0] else 0,
            money_overshoot=max(0, spent[1] - limits[1]) / _MONEY_PARTS if limits[1] else 0.0,
        )

    def _line(self) -> list[Ledger]:
        """This ledger and all above it, nearest first."""
        line = [self]
        while line[-1]._parent is not None:
            line.append(line[-1]._parent)
        return line

    def _check(self, asked: tuple[int, int, int]) -> None:
        for at, kind in enumerate(_KINDS):
            limit = self._limits[at]
            left = limit - self._spent[at] - self._reserved[at]
            if limit and asked[at] > left:
                unit = _MONEY_PARTS if kind == "money" else 1
                raise BudgetExhausted(kind, asked[at] / unit, max(0, left) / unit)
        if self._left_s() <= 0.0:
            raise BudgetExhausted("time", 0.0, 0.0)

    def _left_tokens(self) -> float:
        return max(0, self._limits[0] - self._spent[0] - self._reserved[0]) if self._limits[0] else inf

    def _left_money(self) -> float:
        if not self._limits[1]:
            return inf
        parts = max(0, self._limits[1] - self._spent[1] - self._reserved[1])
        money = parts / _MONEY_PARTS
        while round(money * _MONEY_PARTS) > parts:  # of large sums: what is told to be left must fit
            money = nextafter(money, 0.0)
        return money

    def _left_s(self) -> float:
        if not self._deadline_s or self._clock is None:
            return inf
        return self._deadline_s - self._clock()

    def _close(self, reservation: Reservation) -> None:
        if reservation._ledger is not self:
            raise ValueError("this reservation is closed already, or another ledger's")
        reservation._ledger = None
        for ledger in self._line():
            ledger._add(ledger._reserved, reservation._parts, -1)

    @staticmethod
    def _add(sums: list[int], parts: tuple[int, int, int], sign: int) -> None:
        for at in range(3):
            sums[at] += sign * parts[at]


def price(prompt_tokens: int, completion_tokens: int, input_per_million: float, output_per_million: float) -> float:
    """What a call costs, in the currency of the prices, which are for a million tokens each."""
    return (prompt_tokens * input_per_million + completion_tokens * output_per_million) / 1e6


def estimate(
    prompt_tokens: int, max_tokens: int, input_per_million: float, output_per_million: float
) -> tuple[int, float]:
    """What a call takes at most: tokens and money, for `Ledger.reserve`.

    Args:
        prompt_tokens: about how many the prompt has.
        max_tokens: that the answer may have.
        input_per_million, output_per_million: prices of a million tokens.
    """
    return prompt_tokens + max_tokens, price(prompt_tokens, max_tokens, input_per_million, output_per_million)


def _amounts(tokens: int, money: float, calls: int) -> tuple[int, int, int]:
    if not (tokens >= 0 and 0.0 <= money < inf and calls >= 0):
        raise ValueError(f"a figure is below 0, or no number: {tokens=} {money=} {calls=}")
    return tokens, round(money * _MONEY_PARTS), calls
