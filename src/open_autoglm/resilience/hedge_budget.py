"""When a first attempt is slow beside its peers, and whether a second one beside it may be paid for.

The delay is a quantile of the latest first tokens, so hedges follow the upstream's own pace. Two limits keep them
from becoming a load of their own: hedges are at most a share of the requests that were answered, and their estimated
cost in any hour stays under a cap. Source: Dean and Barroso, "The Tail at Scale", 2013.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import inf
from typing import Final

_SAMPLES_MAX: Final = 256
_SAMPLES_MIN: Final = 20
"""With fewer a quantile is hearsay."""
_CREDIT_MAX: Final = 10.0
"""Hedges at once after a long time without any."""
_HOUR_MINUTES: Final = 60


class LatestQuantile:
    """A quantile of the latest 256 samples, exactly.

    Args:
        quantile: 0 to 1.
    """

    __slots__ = ("_order", "_quantile", "_sorted")

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, sample: float) -> None:
        """Take a sample into account, and forget the oldest where there are too many."""
        if len(self._order) == _SAMPLES_MAX:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(sample)
        insort(self._sorted, sample)

    def value(self) -> float:
        """The quantile; infinite while there are too few samples."""
        count = len(self._sorted)
        if count < _SAMPLES_MIN:
            return inf
        return self._sorted[min(int(self._quantile * count), count - 1)]


class HedgeBudget:
    """See the module. One for each model group; unary answers and streams keep their own times.

    Args:
        quantile: an attempt is slow when it takes longer than this share of its peers, 0 to 1.
        delay_min_s: no hedge before that.
        max_ratio: hedges per answered request, 0 to 1.
        spend_per_hour: of the hedges' estimated cost, in the currency of the prices; 0 for no cap.
    """

    __slots__ = ("_credit", "_delay_min_s", "_max_ratio", "_spend_per_hour", "_spent", "_streams", "_unary")

    def __init__(self, quantile: float, delay_min_s: float, max_ratio: float, spend_per_hour: float) -> None:
        self._streams = LatestQuantile(quantile)
        self._unary = LatestQuantile(quantile)
        self._delay_min_s = delay_min_s
        self._max_ratio = max_ratio
        self._spend_per_hour = spend_per_hour
        self._credit = 0.0
        self._spent: deque[tuple[int, float]] = deque()

    def observe(self, stream: bool, first_token_s: float) -> None:
        """A request was answered, its first token after so long; that of a unary answer is the answer."""
        (self._streams if stream else self._unary).add(first_token_s)
        self._credit = min(self._credit + self._max_ratio, _CREDIT_MAX)

    def delay_s(self, stream: bool) -> float:
        """How long to wait for a first token before a hedge; infinite while not enough is known."""
        return max(self._delay_min_s, (self._streams if stream else self._unary).value())

    def begin(self, now_s: float, cost: float) -> bool:
        """Ask to send a hedge.

        Args:
            now_s: monotonic seconds.
            cost: what it will cost, as estimated.

        Returns:
            Whether it may be sent; then it is counted and paid for.
        """
        if self._credit < 1.0:
            return False
        if self._spend_per_hour and not self._spend(int(now_s // 60.0), cost):
            return False
        self._credit -= 1.0
        return True

    def _spend(self, minute: int, cost: float) -> bool:
        """Pay by the minute. A minute counts until its last instant is an hour old, so no hour exceeds the cap."""
        spent = self._spent
        while spent and spent[0][0] < minute - _HOUR_MINUTES:
            spent.popleft()
        if sum(amount for _, amount in spent) + cost > self._spend_per_hour:
            return False
        if spent and spent[-1][0] == minute:
            cost += spent.pop()[1]
        spent.append((minute, cost))
        return True
