"""The waiters of one class, taken in turn by tenant: deficit round robin (Shreedhar, Varghese 1995).

A tenant's turn gives it a quantum of 1; it is served when what it has saved covers its next request's cost, and that is
then taken from its savings. Requests cost 1 to `COST_MAX`, so of equal requests each round takes one from every tenant,
however many wait behind it. Invariant: a tenant is in the ring exactly while it has waiters; every operation takes
constant time, amortised over the turns that a cost above 1 needs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")

COST_MAX: Final = 8


class Waiter(Generic[T]):
    """One that waits.

    Attributes:
        item: what waits.
        lane: its tenant's.
        priority: its class.
        cost: turns that it needs.
        queued_s, expires_s: monotonic seconds of its coming, and when it gives up.
    """

    __slots__ = ("cost", "expires_s", "item", "lane", "priority", "queued_s")

    def __init__(self, item: T, lane: Lane[T], priority: int, cost: int, queued_s: float, expires_s: float) -> None:
        self.item = item
        self.lane = lane
        self.priority = priority
        self.cost = cost
        self.queued_s = queued_s
        self.expires_s = expires_s


class Lane(Generic[T]):
    """The waiters of one tenant, in the order of their coming.

    Attributes:
        cost: of all of them.
        deficit: what the tenant has saved.
    """

    __slots__ = ("cost", "deficit", "tenant", "waiters")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.waiters: OrderedDict[Waiter[T], None] = OrderedDict()
        self.cost = 0
        self.deficit = 0


class FairRing(Generic[T]):
    """See the module.

    Attributes:
        waiting: how many.
    """

    __slots__ = ("_at_least", "_by_length", "_lanes", "_longest", "waiting")

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, Lane[T]] = OrderedDict()
        self._by_length: list[OrderedDict[Lane[T], None]] = [OrderedDict()]
        self._at_least = [0]
        self._longest = 0
        self.waiting = 0

    def lane(self, tenant: str) -> Lane[T]:
        """Return a tenant's lane; it is in the ring once it has a waiter."""
        return self._lanes.get(tenant) or Lane(tenant)

    def add(self, waiter: Waiter[T]) -> None:
        """Put a waiter behind the others of its lane."""
        lane = waiter.lane
        length = len(lane.waiters)
        if length:
            del self._by_length[length][lane]
        else:
            self._lanes[lane.tenant] = lane
        lane.waiters[waiter] = None
        lane.cost += waiter.cost
        length += 1
        if length == len(self._by_length):
            self._by_length.append(OrderedDict())
            self._at_least.append(0)
        self._by_length[length][lane] = None
        self._at_least[length] += 1
        if length > self._longest:
            self._longest = length
        self.waiting += 1

    def remove(self, waiter: Waiter[T]) -> None:
        """Take a waiter out, wherever it stands. A tenant without waiters loses what it has saved."""
        lane = waiter.lane
        length = len(lane.waiters)
        del lane.waiters[waiter]
        lane.cost -= waiter.cost
        del self._by_length[length][lane]
        self._at_least[length] -= 1
        if length == 1:
            del self._lanes[lane.tenant]
        else:
            self._by_length[length - 1][lane] = None
        if not self._by_length[self._longest]:
            self._longest -= 1
        self.waiting -= 1

    def choose(self, newest: bool) -> Waiter[T]:
        """Return the next one, which stays where it is until `serve` or `remove`; there must be one.

        Args:
            newest: of its tenant's waiters the one that came last, else the one that came first.
        """
        lanes = self._lanes
        while True:
            lane = next(iter(lanes.values()))
            waiter: Waiter[T] = next(reversed(lane.waiters)) if newest else next(iter(lane.waiters))
            if lane.deficit < waiter.cost:
                lane.deficit += 1
                if lane.deficit < waiter.cost:
                    lanes.move_to_end(lane.tenant)
                    continue
            return waiter

    def serve(self, waiter: Waiter[T]) -> None:
        """The chosen one has gone: its tenant has had its turn."""
        lane = waiter.lane
        lane.deficit -= waiter.cost
        self._lanes.move_to_end(lane.tenant)
        self.remove(waiter)

    def longest(self) -> Lane[T]:
        """Return the lane with the most waiters; there must be one."""
        return next(iter(self._by_length[self._longest]))

    def served_within(self, rounds: int) -> int:
        """How many are served in so many rounds, at most."""
        return sum(self._at_least[1 : rounds + 1])
