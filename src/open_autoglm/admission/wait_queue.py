"""Where requests wait for room: bounded by number and age, a higher class first, in a class one tenant after another.

| a waiter is | until | then |
|---|---|---|
| waiting | its turn | taken |
| taken | `put_back`, or any other call | waiting where it was, or gone |
| waiting | its age, its deadline, or somebody with a better claim to its place | told by `expire` |

Who has a better claim: a higher class, and in the same class a tenant that has fewer waiters. So one tenant with many
requests fills what is free and gives it back when others come. Inside a tenant the first to come is the first to go,
except while the line is longer than can be served before it ages: then the last one is, for those before it are lost
anyhow and every answer would come late. Invariants: at most `capacity` wait; each one that was let in is taken,
expired or discarded exactly once. All operations take constant or logarithmic time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from open_autoglm.admission.classes import NAMES
from open_autoglm.admission.congestion import Congestion
from open_autoglm.admission.fair_ring import COST_MAX, FairRing, Waiter
from open_autoglm.admission.settings import AdmissionSettings

T = TypeVar("T")

_NEWEST_FIRST_AFTER_S: Final = 0.1
_REMAINING_SHARE: Final = 0.25
"""Of a request's remaining time: what it may wait."""
_STALE_MAX: Final = 64
"""Entries of the heap beyond twice the waiters, before it is made anew."""


class _Line(Generic[T]):
    """The waiters of one class."""

    __slots__ = ("arrivals", "congestion", "ring")

    def __init__(self, settings: AdmissionSettings) -> None:
        self.ring: FairRing[T] = FairRing()
        self.arrivals: OrderedDict[Waiter[T], None] = OrderedDict()
        self.congestion = Congestion(settings)


class WaitQueue(Generic[T]):
    """See the module.

    Args:
        settings: ages.
        capacity: items that may wait.

    Attributes:
        capacity: may be changed at any time; those that wait already stay.
        waiting: items that wait now, or that `expire` has still to tell.
    """

    __slots__ = (
        "_dropped",
        "_heap",
        "_lines",
        "_serial",
        "_settings",
        "_taken",
        "_taken_s",
        "_waiters",
        "capacity",
        "waiting",
    )

    def __init__(self, settings: AdmissionSettings, capacity: int = 1024) -> None:
        self._settings = settings
        self._lines: tuple[_Line[T], ...] = tuple(_Line(settings) for _ in NAMES)
        self._waiters: dict[T, Waiter[T]] = {}
        self._heap: list[tuple[float, int, Waiter[T]]] = []
        self._serial = 0
        self._dropped: list[T] = []
        self._taken: Waiter[T] | None = None
        self._taken_s = 0.0
        self.capacity = capacity
        self.waiting = 0

    def offer(self, item: T, tenant: str, priority: int, now_s: float, deadline_s: float, *, cost: int = 1) -> int:
        """Let an item wait, if there is a place for it or somebody with less claim to one.

        Args:
            item: hashable, not waiting yet.
            tenant: whose turn it takes.
            priority: number of its class.
            now_s: monotonic seconds, never going back.
            deadline_s: of the request; it waits for a quarter of what is left at most.
            cost: turns of its tenant that it needs, 1 to `COST_MAX`; others are brought to that.

        Returns:
            Its position, 1 for the next: as things stand it is served no later. 0 when it is refused.
        """
        self._settle()
        assert item not in self._waiters, "it waits already"
        line = self._lines[priority]
        ring, congestion = line.ring, line.congestion
        lane = ring.lane(tenant)
        congested = congestion.congested(now_s)
        crowded = congested and self._crowded(line, len(lane.waiters), now_s)
        if crowded or len(self._waiters) >= self.capacity:
            victim = self._victim(priority, len(lane.waiters), crowded)
            if victim is None:
                if ring.waiting:
                    congestion.refused(now_s)
                return 0
            self._drop(victim, now_s)
            lane = ring.lane(tenant)
        if not ring.waiting:
            congestion.filled(now_s)
        age_s = congestion.age_s(now_s) if congested else self._settings.queue_age_s
        expires_s = now_s + min(age_s, (deadline_s - now_s) * _REMAINING_SHARE)
        waiter = Waiter(item, lane, priority, min(max(cost, 1), COST_MAX), now_s, expires_s)
        ring.add(waiter)
        line.arrivals[waiter] = None
        self._waiters[item] = waiter
        self._serial += 1
        heapq.heappush(self._heap, (expires_s, self._serial, waiter))
        self.waiting += 1
        return self._position(waiter, line, now_s)

    def take(self, now_s: float) -> T | None:
        """Return the next item; it counts as gone, unless `put_back` is the next call. None when nobody waits."""
        self._settle()
        for line in reversed(self._lines):
            while line.ring.waiting:
                waiter = line.ring.choose(self._newest_first(line, now_s))
                if waiter.expires_s > now_s:
                    self._taken, self._taken_s = waiter, now_s
                    self.waiting -= 1
                    return waiter.item
                self._drop(waiter, now_s)
        return None

    def put_back(self, item: T) -> None:
        """Take was premature: the item waits on where it was."""
        taken = self._taken
        assert taken is not None, "only what was just taken can be put back"
        assert taken.item is item, "only what was taken last can be put back"
        self._taken = None
        self.waiting += 1

    def expire(self, now_s: float) -> list[T]:
        """Return those who need not wait any longer: they have aged, or had to make room since the last call."""
        self._settle()
        heap = self._heap
        while heap and (heap[0][0] <= now_s or not self._waits(heap[0][2])):
            waiter = heapq.heappop(heap)[2]
            if self._waits(waiter):
                self._drop(waiter, now_s)
        if len(heap) > 2 * len(self._waiters) + _STALE_MAX:
            self._heap = heap = [entry for entry in heap if self._waits(entry[2])]
            heapq.heapify(heap)
        dropped, self._dropped = self._dropped, []
        self.waiting -= len(dropped)
        return dropped

    def discard(self, item: T) -> None:
        """The item has left; nothing happens when it does not wait."""
        self._settle()
        waiter = self._waiters.get(item)
        if waiter is not None:
            self._remove(waiter)
            self.waiting -= 1
        elif item in self._dropped:
            self._dropped.remove(item)
            self.waiting -= 1

    def reconfigure(self, settings: AdmissionSettings) -> None:
        """Use other ages; those that wait already keep theirs."""
        self._settings = settings
        for line in self._lines:
            line.congestion.settings = settings

    def oldest_wait_s(self, now_s: float) -> float:
        """How long the one has waited that waits longest; 0.0 when nobody does."""
        oldest = [next(iter(line.arrivals)).queued_s for line in self._lines if line.arrivals]
        return max(0.0, now_s - min(oldest)) if oldest else 0.0

    def depths(self) -> tuple[int, ...]:
        """How many wait, by class."""
        return tuple(line.ring.waiting for line in self._lines)

    # Inside.

    def _position(self, waiter: Waiter[T], line: _Line[T], now_s: float) -> int:
        ahead = sum(above.ring.waiting for above in self._lines[waiter.priority + 1 :])
        rounds = waiter.cost if self._newest_first(line, now_s) else waiter.lane.cost
        return ahead + min(line.ring.waiting, line.ring.served_within(waiter.lane, rounds))

    def _newest_first(self, line: _Line[T], now_s: float) -> bool:
        """Whether those who came first are lost: a line served in order would age before its end."""
        if now_s - next(iter(line.arrivals)).queued_s <= _NEWEST_FIRST_AFTER_S:
            return False
        return line.ring.waiting > line.congestion.rate(now_s) * self._settings.queue_age_s

    def _crowded(self, line: _Line[T], own: int, now_s: float) -> bool:
        """Whether one more, of a tenant that has `own` waiters, would not be served in time.

        As many places again are for tenants that have fewer waiters than another: what crowds the line is not theirs.
        """
        ring, room = line.ring, line.congestion.room(now_s)
        if ring.waiting < room:
            return False
        return ring.waiting >= 2 * room or own >= len(ring.longest().waiters)

    def _victim(self, priority: int, own: int, crowded: bool) -> Waiter[T] | None:
        """Who must go for one of this class whose tenant has `own` waiters; of its tenant the one that came last."""
        if not crowded:
            for line in self._lines[:priority]:
                if line.ring.waiting:
                    return next(reversed(line.ring.longest().waiters))
        ring = self._lines[priority].ring
        if ring.waiting:
            waiters = ring.longest().waiters
            if len(waiters) > own + 1:
                return next(reversed(waiters))
        return None

    def _waits(self, waiter: Waiter[T]) -> bool:
        return self._waiters.get(waiter.item) is waiter

    def _drop(self, waiter: Waiter[T], now_s: float) -> None:
        self._lines[waiter.priority].congestion.refused(now_s)
        self._remove(waiter)
        self._dropped.append(waiter.item)

    def _remove(self, waiter: Waiter[T]) -> None:
        line = self._lines[waiter.priority]
        line.ring.remove(waiter)
        del line.arrivals[waiter]
        del self._waiters[waiter.item]

    def _settle(self) -> None:
        """What was taken before has gone."""
        waiter = self._taken
        if waiter is None:
            return
        self._taken = None
        line = self._lines[waiter.priority]
        line.congestion.served(self._taken_s)
        line.ring.serve(waiter)
        del line.arrivals[waiter]
        del self._waiters[waiter.item]
