"""Measures the embedded models on this machine: load, first token, tokens per second, memory.

    python -m training.speed --out benchmarks/results/embedded.json

Needs numpy only, and a quiet machine: figures of a busy one are worthless. Two rates are given for each number
of slots: `decode` is the bare forward pass over a full batch, `engine` is whole requests through the engine,
prompts, sampling and events included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from open_autoglm.engines.embedded import catalog  # before numpy, because it asks for one BLAS thread
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, Usage

# isort: split
import numpy as np

from open_autoglm.engines.embedded.model import GlmModel, KvCache
from open_autoglm.engines.embedded.prompt import build
from open_autoglm.engines.engine import Engine

SLOTS = (1, 4, 16)
DECODE_LENGTH = 48  # tokens in the cache while decoding, as in the middle of a sum
WAIT_S = 120.0


class Finished:
    """Counts down requests and remembers when the first token of each came."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = threading.Event()
        self.first_s: list[float] = []

    def callback(self) -> Any:
        """Delivery of one request; all are called in the engine's thread."""
        started_s, seen = time.perf_counter(), False

        def deliver(events: list[GenerateEvent]) -> None:
            nonlocal seen
            if not seen:
                seen = True
                self.first_s.append(time.perf_counter() - started_s)
            if isinstance(events[-1], Usage | Failed):
                self.left -= 1
                if not self.left:
                    self.done.set()

        return deliver


def memory_mb() -> float:
    """Resident memory of this process, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError("no VmRSS in /proc/self/status")


def load_ms(name: str) -> float:
    """Median milliseconds to read, check and pack a model."""
    taken = []
    for _ in range(9):
        started_s = time.perf_counter()
        catalog.open_model(name)
        taken.append(time.perf_counter() - started_s)
    return round(statistics.median(taken) * 1000, 2)


def decode_rate(model: GlmModel, slots: int, seconds: float) -> float:
    """Tokens per second of bare forward passes over `slots` rows."""
    cache = KvCache(model.config, slots)
    model.prefill(cache, 0, [build("What is 1234 + 567?")] * slots)
    tokens, lengths = np.full(slots, 20), np.full(slots, DECODE_LENGTH)
    passes, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        for _ in range(20):
            model.decode(cache, tokens, lengths)
        passes += 20
    return round(passes * slots / (time.perf_counter() - started_s))


def engine_rate(model: GlmModel, slots: int, seconds: float) -> dict[str, float]:
    """Requests and tokens per second of sums through the engine, and CPU per token."""
    engine = Engine(model, slots=slots, queue_max=65_536)
    engine.start()
    try:
        ask(engine, 4 * slots)
        requests = max(8 * slots, int(16 * slots * seconds))
        before, cpu_s, started_s = engine.load().tokens_total, time.process_time(), time.perf_counter()
        ask(engine, requests)
        taken_s = time.perf_counter() - started_s
        cpu_s = time.process_time() - cpu_s
        tokens = engine.load().tokens_total - before
        first = [ask(engine, 1).first_s[0] for _ in range(50)]
    finally:
        engine.close()
    return {
        "requests": requests,
        "requests_per_s": round(requests / taken_s, 1),
        "tokens_per_s": round(tokens / taken_s),
        "cpu_us_per_token": round(cpu_s / tokens * 1e6, 1),
        "first_token_ms": round(statistics.median(first) * 1000, 3),
    }


def ask(engine: Engine, count: int) -> Finished:
    """Sends `count` sums at once and waits for all answers."""
    finished = Finished(count)
    for index in range(count):
        low = 10 ** (engine.model.abilities.digits_max - 1)
        text = f"What is {low + index * 37 % (9 * low)} + {low + index * 91 % (9 * low)}?"
        engine.submit(GenerateRequest([{"role": "user", "content": text}]), finished.callback())
    if not finished.done.wait(WAIT_S):
        raise RuntimeError(f"{count} sums were not answered within {WAIT_S} s")
    return finished


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="glm-nano,glm-calc-s,glm-calc-m")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long each rate is measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "empty_mb": memory_mb(), "models": {}}
    for name in options.models.split(","):
        model = catalog.open_model(name)
        figures: dict[str, Any] = {"load_ms": load_ms(name), "loaded_mb": memory_mb(), "slots": {}}
        for slots in SLOTS:
            rate = {"decode_tokens_per_s": decode_rate(model, slots, options.seconds)}
            figures["slots"][str(slots)] = {**rate, "engine": engine_rate(model, slots, options.seconds)}
        figures["after_mb"] = memory_mb()
        result["models"][name] = figures
        print(name, json.dumps(figures))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
