"""One endpoint of two in trouble, and all of them: errors, latency, tries, and how soon all is as before.

Usage: `python -m benchmarks.reliability.outages [--long]`. Every case has a server and upstreams of its own; all run
side by side. `--long` adds the outage of 600 s. Prints JSON, a row for each case:

- `right_percent`, `p50_ms`, `p99_ms` of the requests begun during the trouble;
- `tries`: requests that reached (or were refused at) upstreams beside requests of clients, from the trouble's
  beginning to the end of the run;
- `normal_after_s`: from the end of the trouble to the first second from which on every request was answered rightly
  and every endpoint served at least half of its share, over windows of five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.client import Client, Outcome, Question
from benchmarks.reliability.gateway import KEY, Gateway, running_gateway
from benchmarks.reliability.load import Load, summary
from benchmarks.reliability.station import StationProcess, answer_text

RATE = 20.0
BEFORE_S, AFTER_S = 20.0, 75.0
WINDOW_S = 5
PACE_S = 0.02

Turn = Callable[[StationProcess], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A kind of trouble.

    Attributes:
        name: of the row.
        begin, end: what is done to a station.
        lasts_s: between them.
        stations: in the group.
        struck: of them.
    """

    name: str
    begin: Turn
    end: Turn
    lasts_s: float = 60.0
    stations: int = 2
    struck: int = 1


async def _kill(station: StationProcess) -> None:
    station.kill()


async def _start(station: StationProcess) -> None:
    await station.start()


async def _freeze(station: StationProcess) -> None:
    station.freeze()


async def _black_hole(station: StationProcess) -> None:
    station.black_hole()


async def _heal(station: StationProcess) -> None:
    station.heal()


async def _slow(station: StationProcess) -> None:
    await station.usual(pace_s=PACE_S * 10)


async def _well(station: StationProcess) -> None:
    await station.usual()


async def _errors(station: StationProcess) -> None:
    await station.usual("error-500", share=0.05)


CASES = (
    Case("killed", _kill, _start),
    Case("frozen", _freeze, _heal),
    Case("black hole", _black_hole, _heal),
    Case("ten times slower", _slow, _well),
    Case("5 % errors", _errors, _well),
    Case("all killed, 5 s", _kill, _start, lasts_s=5.0, struck=2),
    Case("all killed, 60 s", _kill, _start, lasts_s=60.0, struck=2),
    Case("all frozen, 60 s", _freeze, _heal, lasts_s=60.0, struck=2),
)
LONG = Case("all killed, 600 s", _kill, _start, lasts_s=600.0, struck=2)


async def run(case: Case) -> dict[str, Any]:
    """Run one case from a quiet beginning to a quiet end."""
    async with AsyncExitStack() as stack:
        stations = [await stack.enter_async_context(StationProcess(PACE_S)) for _ in range(case.stations)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = [{"name": "chat", "endpoint": station.url} for station in stations]
        gateway = stack.enter_context(running_gateway(folder, {"models": models}))
        client = Client("127.0.0.1", gateway.port, answer_text, timeout_s=620.0)

        def make(rng: random.Random, number: int) -> Question:
            return Question(f"question {number}", key=KEY, stream=rng.random() < 0.5)

        load = Load(client, RATE, make, 1)
        running = asyncio.create_task(load.run(BEFORE_S + case.lasts_s + AFTER_S))
        await asyncio.sleep(BEFORE_S)
        tries = [tries_of(gateway)]
        began_s = time.monotonic()
        for station in stations[: case.struck]:
            await case.begin(station)
        await asyncio.sleep(case.lasts_s)
        for station in stations[: case.struck]:
            await case.end(station)
        ended_s = time.monotonic()
        shares = asyncio.create_task(watch_shares(stations, AFTER_S))
        await running
        tries.append(tries_of(gateway))
        client.close()
        asked = sum(outcome.asked_s >= began_s for outcome in load.outcomes)
        during = [outcome for outcome in load.outcomes if began_s <= outcome.asked_s < ended_s]
        return {
            "case": case.name,
            **summary(during),
            "tries": round((tries[1] - tries[0]) / max(asked, 1), 3),
            "normal_after_s": normal_after_s(load.outcomes, ended_s, await shares),
        }


def tries_of(gateway: Gateway) -> float:
    """Attempts so far, of every outcome, those that could not connect among them."""
    return sum(value for name, value in gateway.metrics().items() if name.startswith("mcp_attempts_total"))


async def watch_shares(stations: list[StationProcess], lasts_s: float) -> list[list[int]]:
    """Requests at each station, second by second."""
    counts: list[list[int]] = []
    for _ in range(int(lasts_s) - 1):
        await asyncio.sleep(1.0)
        counts.append([await station.asked() for station in stations])
    return counts


def normal_after_s(outcomes: list[Outcome], ended_s: float, counts: list[list[int]]) -> float | None:
    """Seconds after which all was as before; None when that did not happen."""
    bad = [o.asked_s for o in outcomes if o.asked_s >= ended_s and o.verdict != "right"]
    answered_s = max((when - ended_s for when in bad), default=0.0)
    for second in range(WINDOW_S, len(counts)):
        new = [now - then for now, then in zip(counts[second], counts[second - WINDOW_S], strict=True)]
        if min(new) >= sum(new) / len(new) / 2:
            return round(max(answered_s, float(second - WINDOW_S)), 1)
    return None


async def measure(long: bool) -> list[dict[str, Any]]:
    """All cases side by side."""
    cases = [*CASES, LONG] if long else list(CASES)
    return list(await asyncio.gather(*(run(case) for case in cases)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    print(json.dumps(uvloop.run(measure(parser.parse_args().long)), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
