"""The waiters of one class, taken in turn by tenant: deficit round robin (Shreedhar, Varghese 1995) with savings.

| a tenant is | until | then |
|---|---|---|
| away | it has a waiter | ahead with the turns that it left unused, `SAVED_MAX` at most; in the ring without any |
| ahead | its savings do not cover its next request | at the end of the ring |
| in the ring | its last waiter has gone | away |

A turn in the ring gives a tenant a quantum of 1; it is served when its deficit covers its next request's cost. Requests
cost 1 to `COST_MAX`, so of equal requests each round takes one from every tenant, however many wait behind it. Who is
ahead is served before the ring, in turn as well, and pays with what it has saved. So a tenant that asks for less than
its share is served next, even when two of its requests come together, and over any time nobody is given more than its
share and `SAVED_MAX` turns. Without that its own requests wait for each other, for a round each.

Invariants: a tenant is ahead or in the ring exactly while it has waiters; of those that are away `AWAY_MAX` are known,
and a tenant that is not known has saved nothing; every operation takes constant time, amortised over the turns that a
cost above 1 needs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")

COST_MAX: Final = 8
SAVED_MAX: Final = 8
"""Turns. Of requests that come at random at half of the tenant's share, hardly one in a thousand finds more of its
own; with 4 one in a hundred did, which is what its slowest hundredth is made of."""
AWAY_MAX: Final = 1024


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
        deficit: what its turns in the ring have given and its requests have not cost yet.
        saved: turns that it left unused; above 0 exactly while it is ahead.
    """

    __slots__ = ("cost", "deficit", "saved", "tenant", "waiters")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.waiters: OrderedDict[Waiter[T], None] = OrderedDict()
        self.cost = 0
        self.deficit = 0
        self.saved = 0


class FairRing(Generic[T]):
    """See the module.

    Attributes:
        waiting: how many.
    """

    __slots__ = ("_ahead", "_at_least", "_away", "_by_length", "_extra", "_longest", "_ring", "_turns", "waiting")

    def __init__(self) -> None:
        self._ring: OrderedDict[str, Lane[T]] = OrderedDict()
        self._ahead: OrderedDict[str, Lane[T]] = OrderedDict()
        # Turns that one tenant of the ring has had so far, and where that stood when a tenant had saved nothing.
        self._turns = 0.0
        self._away: OrderedDict[str, float] = OrderedDict()
        # Waiters that savings can serve.
        self._extra = 0
        self._by_length: list[OrderedDict[Lane[T], None]] = [OrderedDict()]
        self._at_least = [0]
        self._longest = 0
        self.waiting = 0

    def lane(self, tenant: str) -> Lane[T]:
        """Return a tenant's lane; it takes turns once it has a waiter."""
        return self._ring.get(tenant) or self._ahead.get(tenant) or Lane(tenant)

    def add(self, waiter: Waiter[T]) -> None:
        """Put a waiter behind the others of its lane."""
        lane = waiter.lane
        length = len(lane.waiters)
        if length:
            del self._by_length[length][lane]
        else:
            self._enter(lane)
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
        if length <= lane.saved:
            self._extra += 1
        self.waiting += 1

    def remove(self, waiter: Waiter[T]) -> None:
        """Take a waiter out, wherever it stands. A tenant without waiters keeps what it has saved, and no deficit."""
        lane = waiter.lane
        length = len(lane.waiters)
        del lane.waiters[waiter]
        lane.cost -= waiter.cost
        del self._by_length[length][lane]
        self._at_least[length] -= 1
        if length <= lane.saved:
            self._extra -= 1
        if length == 1:
            self._leave(lane)
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
        ring, ahead = self._ring, self._ahead
        while True:
            lane = next(iter(ahead.values() if ahead else ring.values()))
            waiter: Waiter[T] = next(reversed(lane.waiters)) if newest else next(iter(lane.waiters))
            if ahead:
                if lane.saved < waiter.cost:
                    self._step_back(lane)
                    continue
            elif lane.deficit < waiter.cost:
                lane.deficit += 1
                if lane.deficit < waiter.cost:
                    ring.move_to_end(lane.tenant)
                    continue
            return waiter

    def serve(self, waiter: Waiter[T]) -> None:
        """The chosen one has gone: its tenant has had its turn."""
        lane = waiter.lane
        self._turns += waiter.cost / (len(self._ring) + len(self._ahead))
        if lane.saved:
            self._set_saved(lane, lane.saved - waiter.cost)
            if lane.saved:
                self._ahead.move_to_end(lane.tenant)
            else:
                self._step_back(lane)
        else:
            lane.deficit -= waiter.cost
            self._ring.move_to_end(lane.tenant)
        self.remove(waiter)

    def longest(self) -> Lane[T]:
        """Return the lane with the most waiters; there must be one."""
        return next(iter(self._by_length[self._longest]))

    def served_within(self, lane: Lane[T], rounds: int) -> int:
        """How many are served, at most, before a lane has had turns for a cost of `rounds`, those turns included."""
        if rounds <= lane.saved:
            return min(self._extra, rounds * len(self._ahead))
        return sum(self._at_least[1 : rounds + 1]) + self._extra

    # Savings.

    def _enter(self, lane: Lane[T]) -> None:
        left = self._away.pop(lane.tenant, self._turns)
        lane.saved = min(SAVED_MAX, int(self._turns - left))
        (self._ahead if lane.saved else self._ring)[lane.tenant] = lane

    def _leave(self, lane: Lane[T]) -> None:
        del (self._ahead if lane.saved else self._ring)[lane.tenant]
        self._away[lane.tenant] = self._turns - lane.saved
        if len(self._away) > AWAY_MAX:
            self._away.popitem(last=False)

    def _step_back(self, lane: Lane[T]) -> None:
        """From ahead to the end of the ring."""
        self._set_saved(lane, 0)
        del self._ahead[lane.tenant]
        self._ring[lane.tenant] = lane

    def _set_saved(self, lane: Lane[T], saved: int) -> None:
        length = len(lane.waiters)
        self._extra += min(length, saved) - min(length, lane.saved)
        lane.saved = saved
