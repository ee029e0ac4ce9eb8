"""A long mixed schedule of faults: every answer is judged, character by character.

Usage: `python -m benchmarks.reliability.hour [--minutes 60] [--rate 25] [--seed 1]`. Three endpoints of one model and
a fallback; each fault strikes one or two of the four at a time, never all, for 20 s, then 5 s of quiet, in an order
drawn from the seed; each at least five times in an hour. Half of the requests are streams; a twentieth of the clients
leave early. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.client import Client, Outcome, Question
from benchmarks.reliability.gateway import KEY, running_gateway
from benchmarks.reliability.load import Load, summary
from benchmarks.reliability.station import StationProcess, answer_text

FAULT_S, QUIET_S = 20.0, 5.0
LEAVING_SHARE = 0.05
PROCESS_FAULTS = ("killed", "frozen", "black hole")
WIRE_FAULTS = (
    *("rate-limited", "rate-limited-bare", "error-500", "bad-gateway", "unavailable", "overloaded-529"),
    *("unauthorized", "silent", "slow-first-token", "stall", "reset", "cut", "cut-by-reset", "cut-cleanly"),
    *("no-done", "empty-stream", "wrong-length", "malformed-event", "html-200", "error-200", "error-in-stream"),
    *("wrong-types", "nul", "odd-events", "comment-flood"),
)
MID_STREAM = frozenset(
    {"stall", "cut", "cut-by-reset", "cut-cleanly", "wrong-length", "malformed-event", "error-in-stream"}
)
"""Faults that break a stream after content; they strike a part of the requests, as in life."""
MID_STREAM_SHARE = 0.1


class Schedule:
    """Strikes stations with faults, one after another, and writes down when which was at work."""

    def __init__(self, stations: list[StationProcess], seed: int) -> None:
        self._stations = stations
        self._rng = random.Random(seed)
        self.struck: list[tuple[float, float, str]] = []
        self.counts: Counter[str] = Counter()

    async def run(self, ends_s: float) -> None:
        """Go through all faults in random order, again and again."""
        names: list[str] = []
        while time.monotonic() < ends_s - FAULT_S - QUIET_S:
            if not names:
                names = [*PROCESS_FAULTS, *WIRE_FAULTS]
                self._rng.shuffle(names)
            name = names.pop()
            victims = self._rng.sample(self._stations, self._rng.choice((1, 1, 2)))
            began_s = time.monotonic()
            for station in victims:
                await self._begin(station, name)
            await asyncio.sleep(FAULT_S)
            for station in victims:
                await self._end(station, name)
            self.struck.append((began_s, time.monotonic(), name))
            self.counts[name] += 1
            await asyncio.sleep(QUIET_S)

    async def _begin(self, station: StationProcess, name: str) -> None:
        match name:
            case "killed":
                station.kill()
            case "frozen":
                station.freeze()
            case "black hole":
                station.black_hole()
            case _:
                await station.usual(name, share=MID_STREAM_SHARE if name in MID_STREAM else 1.0)

    async def _end(self, station: StationProcess, name: str) -> None:
        match name:
            case "killed":
                await station.start()
            case "frozen" | "black hole":
                station.heal()
            case _:
                await station.usual()

    def at(self, when_s: float) -> str:
        """The fault that was at work, or that had ended last."""
        return next((name for began_s, _, name in reversed(self.struck) if began_s <= when_s), "none")


async def measure(minutes: float, rate: float, seed: int, failure: str) -> dict[str, Any]:
    """Run the schedule; see the module."""
    async with AsyncExitStack() as stack:
        stations = [await stack.enter_async_context(StationProcess(0.01)) for _ in range(4)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models: list[dict[str, Any]] = [
            {"name": "chat", "endpoint": station.url, "continuation": "prefill"} for station in stations[:3]
        ]
        models.append({"name": "spare", "endpoint": stations[3].url, "continuation": "prefill"})
        config = {"models": models, "routing": {"fallbacks": {"chat": ["spare"]}}, "stream_failure": failure}
        gateway = stack.enter_context(running_gateway(folder, config))
        client = Client("127.0.0.1", gateway.port, answer_text)

        def make(rng: random.Random, number: int) -> Question:
            leave_after_s = rng.uniform(0.01, 0.6) if rng.random() < LEAVING_SHARE else None
            return Question(f"question {number}", key=KEY, stream=rng.random() < 0.5, leave_after_s=leave_after_s)

        load = Load(client, rate, make, seed)
        schedule = Schedule(stations, seed)
        began_s = time.monotonic()
        running = asyncio.create_task(load.run(minutes * 60))
        telling = asyncio.create_task(_tell(load, schedule))
        await schedule.run(began_s + minutes * 60)
        await running
        telling.cancel()
        client.close()
        return {
            "minutes": minutes,
            "rate": rate,
            "seed": seed,
            "stream_failure": failure,
            **summary(load.outcomes),
            "faults": dict(sorted(schedule.counts.items())),
            "not_right": _by_fault(load.outcomes, schedule),
            "rss_bytes": gateway.rss_bytes(),
            "descriptors": gateway.descriptors(),
        }


def _by_fault(outcomes: list[Outcome], schedule: Schedule) -> dict[str, dict[str, int]]:
    """What was not answered rightly, by the fault that was at work when it began."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.verdict not in ("right", "left"):
            kind = f"{outcome.verdict}: {'stream' if outcome.question.stream else 'unary'}, {outcome.detail[:90]}"
            found.setdefault(schedule.at(outcome.asked_s), Counter())[kind] += 1
    return {name: dict(counts.most_common(6)) for name, counts in sorted(found.items())}


async def _tell(load: Load, schedule: Schedule) -> None:
    """A line each minute on standard error."""
    while True:
        await asyncio.sleep(60.0)
        line = {**summary(load.outcomes), "faults": sum(schedule.counts.values())}
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stream-failure", choices=("terminate", "continue"), default="continue")
    chosen = parser.parse_args()
    result = uvloop.run(measure(chosen.minutes, chosen.rate, chosen.seed, chosen.stream_failure))
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
