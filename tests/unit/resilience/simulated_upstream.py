"""An upstream with a number of slots and a queue before them, in simulated time, behind one concurrency limit."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from open_autoglm.resilience.concurrency_limit import ConcurrencyLimit


@dataclass
class Load:
    """What is offered, and to whom. Rates and times are functions of the second.

    Attributes:
        slots: requests that are served at once.
        service_s: median time of one.
        spread: standard deviation of the logarithm of that time.
        rate: requests a second, at random times.
        stream: whether answers are streams, whose first token ends the service.
        prompt_bytes: sizes to draw from; a prompt twice as long takes twice as long.
        turn_away_s: until then every request is turned away at once.
    """

    slots: int
    service_s: Callable[[float], float]
    rate: Callable[[float], float]
    spread: float = 0.3
    stream: bool = True
    prompt_bytes: tuple[int, ...] = (1000,)
    turn_away_s: float = 0.0


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        limits: the limit at each half second.
        refused: requests that found no room, by second.
        served: answers, by second.
    """

    limits: list[int] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)

    def share_of(self, low: float, high: float, from_s: float) -> float:
        """The share of the time from a second on in which the limit was between two numbers."""
        seen = self.limits[int(2 * from_s) :]
        return sum(low <= limit <= high for limit in seen) / len(seen)

    def refusals(self, from_s: float = 0.0) -> int:
        """Requests refused from a second on."""
        return sum(count for second, count in self.refused.items() if second >= from_s)


def simulate(limit: ConcurrencyLimit, load: Load, lasts_s: float, seed: int = 1) -> Outcome:
    """Run it."""
    rng = random.Random(seed)
    outcome = Outcome()
    # Time, a number that makes it unique, what; for an end its beginning and size.
    events: list[tuple[float, int, str, float, int]] = [(0.0, 0, "arrival", 0.0, 0), (0.0, 1, "look", 0.0, 0)]
    waiting: deque[tuple[float, int]] = deque()
    count, busy, in_flight, now_s = 2, 0, 0, 0.0

    def push(at_s: float, what: str, began_s: float = 0.0, size: int = 0) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (at_s, count, what, began_s, size))

    while now_s <= lasts_s:
        now_s, _, what, began_s, size = heapq.heappop(events)
        if what == "look":
            outcome.limits.append(limit.limit)
            push(now_s + 0.5, "look")
        elif what == "arrival":
            push(now_s + rng.expovariate(load.rate(now_s)), "arrival")
            if now_s < load.turn_away_s:
                limit.drop(now_s)
            elif in_flight < limit.limit:
                in_flight += 1
                waiting.append((now_s, rng.choice(load.prompt_bytes)))
            else:
                outcome.refused[int(now_s)] = outcome.refused.get(int(now_s), 0) + 1
        else:
            busy -= 1
            if now_s >= limit.due_s:
                limit.sample(now_s, now_s - began_s, load.stream, size, in_flight)
            in_flight -= 1
            outcome.served[int(now_s)] = outcome.served.get(int(now_s), 0) + 1
        while waiting and busy < load.slots:
            began_s, size = waiting.popleft()
            busy += 1
            factor = rng.lognormvariate(0.0, load.spread) * size / load.prompt_bytes[0]
            push(now_s + load.service_s(now_s) * factor, "end", began_s, size)
    return outcome
