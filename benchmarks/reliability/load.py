"""Open-loop load: questions begin when their time has come, whether or not earlier ones were answered."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.reliability.client import Client, Outcome, Question

RUNNING_MAX = 5000
"""Questions at once; a gateway that lets more pile up has failed the measurement."""


class Load:
    """Sends questions at a mean rate, at random times (Poisson), and keeps their outcomes.

    Args:
        client: who asks.
        rate: questions a second.
        make: the next question, from the generator and a number.
        seed: of times and questions.
    """

    def __init__(self, client: Client, rate: float, make: Callable[[random.Random, int], Question], seed: int) -> None:
        self.client = client
        self.rate = rate
        self.outcomes: list[Outcome] = []
        self.not_sent = 0
        self._make = make
        self._rng = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def run(self, duration_s: float) -> None:
        """Ask for so long, then wait for the answers that are still to come."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        ends_s = next_s + duration_s
        number = 0
        while next_s < ends_s and not self._stopped.is_set():
            pause_s = next_s - loop.time()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            question = self._make(self._rng, number)
            number += 1
            if len(self._running) < RUNNING_MAX:
                task = loop.create_task(self._ask(question))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            else:
                self.not_sent += 1
            next_s += self._rng.expovariate(self.rate)
        if self._running:
            await asyncio.wait(self._running, timeout=self.client.patience_s + 5.0)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    async def _ask(self, question: Question) -> None:
        self.outcomes.append(await self.client.ask(question))


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie; 0.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts of verdicts, and latencies of right answers in milliseconds."""
    right = [outcome.took_s for outcome in outcomes if outcome.verdict == "right"]
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    asked = len(outcomes) - verdicts["left"]
    return {
        "requests": len(outcomes),
        **{verdict: verdicts[verdict] for verdict in ("right", "told", "refused", "lost", "wrong", "left")},
        "right_percent": round(100.0 * verdicts["right"] / asked, 3) if asked else 0.0,
        "p50_ms": round(1000 * quantile(right, 0.5), 1),
        "p99_ms": round(1000 * quantile(right, 0.99), 1),
        "examples": [o.detail for o in outcomes if o.verdict in ("told", "lost", "wrong")][:5],
    }
