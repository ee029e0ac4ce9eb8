"""The work that every system is given, and how it is timed. Needs the standard library alone: it runs in their
environments too.

*barrier*: A 0.1 s, then C 0.5 s; B 0.5 s, then D 0.1 s; then an end that needs C and D. 0.6 s is the least; 1.0 s takes
who lets C wait until B is done.
*chain*: `RUNS` runs in flight, each of `STEPS` steps that do nothing, one after the other; each adds one to a number.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

RUNS: Final = 100
STEPS: Final = 20
WARM_RUNS: Final = 5
SLEEPS_S: Final = {"A": 0.1, "B": 0.5, "C": 0.5, "D": 0.1}
MODES: Final = ("barrier", "memory", "durable")

Chains = Callable[[int], Awaitable[list[int]]]
"""Runs so many chains at once; returns the number that each ended with."""


def arguments() -> tuple[str, Path]:
    """Mode and folder of this process."""
    mode, folder = sys.argv[1:]
    assert mode in MODES, mode
    return mode, Path(folder)


async def time_barrier(run: Callable[[], Awaitable[object]]) -> None:
    """Time one run after another one that warms up; print it."""
    await run()
    began_s = time.perf_counter()
    await run()
    _say({"barrier_s": time.perf_counter() - began_s})


async def time_chains(run: Chains) -> None:
    """Time `RUNS` chains after a few that warm up; print what a step took: wall time and CPU of all threads."""
    await run(WARM_RUNS)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    ends = await run(RUNS)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    assert ends == [STEPS] * RUNS, ends
    steps = RUNS * STEPS
    _say({"step_ms": wall_s / steps * 1000, "step_cpu_ms": cpu_s / steps * 1000})


def say_versions(*packages: str) -> None:
    """Print the versions of what was measured."""
    _say({"versions": {package: version(package) for package in packages}})


def _say(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)
