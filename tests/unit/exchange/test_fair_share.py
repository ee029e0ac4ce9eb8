"""A quiet key beside a greedy one, in simulated time: line, limit and pacing before an upstream of 16 slots."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

import pytest

from open_autoglm.admission.settings import AdmissionSettings
from open_autoglm.admission.wait_queue import WaitQueue
from open_autoglm.exchange.line import Line, Waiter
from open_autoglm.resilience.concurrency_limit import ConcurrencyLimit
from open_autoglm.resilience.settings import ConcurrencySettings

SLOTS = 16
QUIET_S = 20.0
MEASURE_S = 60.0
NETWORK_S = 0.0005
SWEEP_S = 0.01


class Asking:
    """One request."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        self.key = key
        self.came_s = world.now_s
        self.sent_s = 0.0

    def granted(self, now_s: float) -> bool:
        """See `Waiter`."""
        world = self.world
        if world.in_flight >= world.limit.limit:
            return False
        world.in_flight += 1
        self.sent_s = now_s
        world.later(world.rng.random() * NETWORK_S, lambda: world.arrive(self))
        return True

    def shed(self, now_s: float) -> None:
        """See `Waiter`."""


class World:
    """The server's line and limit, and an upstream that serves first come, first served."""

    def __init__(self, service_s: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.limit = ConcurrencyLimit(ConcurrencySettings())
        queue: WaitQueue[Waiter] = WaitQueue(AdmissionSettings(), 64)
        self.line = Line(queue)
        self.service_s = service_s
        self.now_s = 0.0
        self.in_flight = self.busy = self.count = 0
        self.waiting: deque[Asking] = deque()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.took_s: list[tuple[float, float]] = []
        self.served: list[float] = []

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now_s + delay_s, self.count, what))

    def run(self, until_s: float) -> None:
        while self.events[0][0] < until_s:
            self.now_s, _, what = heapq.heappop(self.events)
            what()

    def ask(self, key: str, rate: float) -> None:
        """A key's request comes, and the next one after it."""
        self.later(self.rng.expovariate(rate), lambda: self.ask(key, rate))
        asking = Asking(self, key)
        if self.line.queue.waiting or not asking.granted(self.now_s):
            self.line.join(asking, key, 2, self.now_s, self.now_s + 60.0)

    def sweep(self) -> None:
        self.later(SWEEP_S, self.sweep)
        self.pump()

    def pump(self) -> None:
        self.line.queue.capacity = 2 * min(self.limit.limit, 64)
        hold_s = self.line.pump(self.now_s) if self.line.queue.waiting else 0.0
        if 0.0 < hold_s < SWEEP_S:
            self.later(max(hold_s, 0.001), self.pump)

    def arrive(self, asking: Asking) -> None:
        self.waiting.append(asking)
        self.serve()

    def serve(self) -> None:
        while self.waiting and self.busy < SLOTS:
            asking = self.waiting.popleft()
            self.busy += 1
            self.later(self.service_s, lambda asking=asking: self.done(asking))  # type: ignore[misc]

    def done(self, asking: Asking) -> None:
        self.busy -= 1
        self.serve()
        self.later(self.rng.random() * NETWORK_S, lambda: self.answered(asking))

    def answered(self, asking: Asking) -> None:
        if self.now_s >= self.limit.due_s:
            self.limit.sample(self.now_s, self.now_s - asking.sent_s, False, 1000, self.in_flight)
        self.in_flight -= 1
        self.served.append(self.now_s)
        if asking.key == "quiet":
            self.took_s.append((asking.came_s, self.now_s - asking.came_s))
        self.pump()

    def slowest_hundredth_s(self, from_s: float) -> float:
        took_s = sorted(took_s for came_s, took_s in self.took_s if came_s >= from_s)
        return took_s[int(0.99 * len(took_s))]


@pytest.mark.parametrize(("service_s", "settles_s"), [(0.05, 60.0), (0.2, 90.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_key_that_sends_twenty_times_as_much_makes_another_wait_little(
    service_s: float, settles_s: float, seed: int
) -> None:
    world = World(service_s, seed)
    quiet_rate = SLOTS / service_s / 4
    world.ask("quiet", quiet_rate)
    world.sweep()
    world.run(QUIET_S)
    alone_s = world.slowest_hundredth_s(0.0)
    world.ask("greedy", 20.0 * quiet_rate)
    from_s = QUIET_S + settles_s
    world.run(from_s + MEASURE_S)
    assert world.slowest_hundredth_s(from_s) <= 1.4 * alone_s
    served = sum(time_s >= from_s for time_s in world.served)
    assert served >= 0.97 * MEASURE_S * SLOTS / service_s
