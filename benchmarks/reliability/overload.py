"""Overload: four times what the upstream can do, in two classes of traffic; and one key beside a greedy one.

Usage: `python -m benchmarks.reliability.overload`. The upstream serves 16 requests at a time, 50 ms each: 320 a second.
After ten seconds of half of that comes the flood; its first ten seconds are not counted, for the server finds the
upstream's limit in them. Prints JSON. *Goodput* is right answers a second beside what the upstream can do; *refusals*
are 429 and 503.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.client import Client, Question
from benchmarks.reliability.gateway import KEY, running_gateway
from benchmarks.reliability.load import Load, quantile, summary
from benchmarks.reliability.station import Station, answer_text

SLOTS = 16
SERVICE_S = 0.05
CAPACITY = SLOTS / SERVICE_S
OVERLOAD = 4.0
CRITICAL_SHARE = 0.2
WARM_S, MEASURE_S = 10.0, 40.0
FAIR_SERVICE_S = (0.2, 0.05)
"""Times of an upstream; in the shorter one half of it is hardly more than what a busy machine takes now and then."""
SETTLE_S = 30.0
SETTLE_TIMES = 450
"""Until the limit is what the endpoint can do, at least so long and so many times as long as a request takes; see
docs/health.md. It is found out by whole answers, here the only ones."""
GREEDY = 20.0
WINDOWS = 3
FLOOD_NICE = 10
KEYS = {"key-critical": "critical", "key-sheddable": "sheddable", "key-modest": "critical", "key-greedy": "critical"}


def config(url: str) -> dict[str, Any]:
    """One model behind one endpoint; a key for each class, and two equal keys."""
    keys = [{"name": key, "key": key, "priority": priority} for key, priority in KEYS.items()]
    return {"models": [{"name": "chat", "endpoint": url}], "auth": {"api_keys": [{"name": "main", "key": KEY}, *keys]}}


async def overloaded(port: int) -> dict[str, Any]:
    """Offer four times the capacity, a fifth of it of the critical class."""
    client = Client("127.0.0.1", port, answer_text)

    def make(rng: random.Random, number: int) -> Question:
        key = "key-critical" if rng.random() < CRITICAL_SHARE else "key-sheddable"
        return Question(f"question {number}", key=key)

    await Load(client, CAPACITY / 2, make, 0).run(WARM_S)
    await Load(client, CAPACITY * OVERLOAD, make, 1).run(WARM_S)
    load = Load(client, CAPACITY * OVERLOAD, make, 2)
    await load.run(MEASURE_S)
    client.close()
    critical = [outcome for outcome in load.outcomes if outcome.question.key == "key-critical"]
    right = sum(outcome.verdict == "right" for outcome in load.outcomes)
    refused = [outcome.took_s for outcome in load.outcomes if outcome.verdict == "refused"]
    return {
        "offered_per_s": round(len(load.outcomes) / MEASURE_S, 1),
        "goodput_percent_of_capacity": round(100.0 * right / MEASURE_S / CAPACITY, 1),
        "critical_right_percent": summary(critical)["right_percent"],
        "refusal_p50_ms": round(1000 * quantile(refused, 0.5), 1),
        "refusal_p99_ms": round(1000 * quantile(refused, 0.99), 1),
        "all": summary(load.outcomes),
        "critical": summary(critical),
    }


async def shared(port: int, service_s: float) -> dict[str, Any]:
    """One key at half of its fair share, alone and beside another that sends twenty times as much."""
    client = Client("127.0.0.1", port, answer_text)
    modest_rate = SLOTS / service_s / 4
    settle_s = max(SETTLE_S, SETTLE_TIMES * service_s)
    flood_s = settle_s + WINDOWS * MEASURE_S

    def modest(rng: random.Random, number: int) -> Question:
        return Question(f"modest {number}", key="key-modest")

    alone = await _windows(client, modest_rate, modest, 3, MEASURE_S / 2)
    # A process of its own, so that this one is not late in reading what the modest key gets.
    flood = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.reliability.overload"),
        *("--greedy", str(port), str(modest_rate * GREEDY), str(flood_s)),
        stdout=asyncio.subprocess.PIPE,
    )
    await asyncio.sleep(settle_s)
    beside = await _windows(client, modest_rate, modest, 6, MEASURE_S)
    told, _ = await asyncio.wait_for(flood.communicate(), flood_s)
    client.close()
    own_ms = [window["p99_ms"] for window in alone]
    with_ms = [window["p99_ms"] for window in beside]
    return {
        "alone": alone,
        "beside_greedy": beside,
        "greedy": json.loads(told),
        "p99_ratio": round(statistics.median(with_ms) / statistics.median(own_ms), 2),
        "p99_ratio_worst": round(max(with_ms) / min(own_ms), 2),
    }


async def _windows(
    client: Client, rate: float, make: Callable[[random.Random, int], Question], seed: int, duration_s: float
) -> list[dict[str, Any]]:
    """Summaries of several windows one after another: a machine that stands still for 0.2 s spoils one, not all."""
    summaries = []
    for number in range(WINDOWS):
        load = Load(client, rate, make, seed + number)
        await load.run(duration_s)
        summaries.append(summary(load.outcomes))
    return summaries


async def measure(only: str | None) -> dict[str, Any]:
    """Both parts, or one of them, each on a fresh server."""
    results: dict[str, Any] = {"capacity_per_s": CAPACITY}
    if only in (None, "overload"):
        async with _fresh(SERVICE_S) as port:
            results["overload"] = await overloaded(port)
    if only in (None, "fairness"):
        results["fairness"] = {}
        for service_s in FAIR_SERVICE_S:
            async with _fresh(service_s) as port:
                results["fairness"][f"{1000 * service_s:g} ms"] = await shared(port, service_s)
    return results


@contextlib.asynccontextmanager
async def _fresh(service_s: float) -> AsyncIterator[int]:
    """The port of a server that has just started, before an upstream that takes so long for a request."""
    async with Station(slots=SLOTS, service_s=service_s) as station:
        with tempfile.TemporaryDirectory() as folder, running_gateway(Path(folder), config(station.url)) as gateway:
            yield gateway.port


async def flood_with(port: int, rate: float, duration_s: float) -> dict[str, Any]:
    """What the greedy key sends, from a process of its own that takes no core from whom it is measured beside."""
    os.nice(FLOOD_NICE)
    client = Client("127.0.0.1", port, answer_text)
    load = Load(client, rate, lambda rng, number: Question(f"greedy {number}", key="key-greedy"), 5)
    await load.run(duration_s)
    client.close()
    return summary(load.outcomes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--greedy", nargs=3, metavar=("PORT", "RATE", "SECONDS"), help="only send what the greedy key sends"
    )
    parser.add_argument("--only", choices=("overload", "fairness"), help="one of the two parts")
    chosen = parser.parse_args()
    if chosen.greedy:
        result = uvloop.run(flood_with(int(chosen.greedy[0]), *map(float, chosen.greedy[1:])))
    else:
        result = uvloop.run(measure(chosen.only))
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
