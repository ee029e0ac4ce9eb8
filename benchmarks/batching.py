"""What continuous batching gives: tokens per second and the first token's time by requests in flight, and swaps.

    python -m benchmarks.batching --out benchmarks/results/batching.json
    python -m benchmarks.batching --onnx FOLDER …      the rows of an ONNX graph too: `autoglm export onnx` writes one

Needs what the package needs, and a quiet machine. For each model: so many requests are kept in flight for some
seconds, each new one as soon as another has ended; `speedup` is against one at a time, `cpu_speedup` the same by the
CPU that a token takes, which a busy machine changes less. The engine has as many slots as there are requests, and once
four slots with sixteen requests, which is what a node has by default. `swaps` are versions that are published while 32
streams run: the time between two forward passes with a swap between them, beside the same time without. `prefix` is
what it costs or saves to keep the keys and values of finished prompts. `long_prompt` counts how many tokens of long
prompts are read between two tokens of a stream that runs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from open_autoglm.engines.embedded import catalog  # before numpy, because it asks for one BLAS thread
from open_autoglm.engines.embedded.model import GlmModel
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, Usage
from open_autoglm.engines.onnx_model import open_onnx
from open_autoglm.engines.step_model import StepModel
from open_autoglm.errors import RequestError

IN_FLIGHT = (1, 4, 16)
SWITCH_INTERVAL_S = 0.001  # as a node sets it
SWAP_STREAMS = 32
SWAP_EVERY_S = 0.03


class Load:
    """Keeps requests in flight for a time, and remembers what came of them.

    Args:
        engine: started.
        requests: what is asked, one after the other.
        seconds: how long new ones are sent.
    """

    def __init__(self, engine: Engine, requests: Iterator[GenerateRequest], seconds: float) -> None:
        self._engine = engine
        self._requests = requests
        self._until_s = time.perf_counter() + seconds
        self._left = 0
        self._over = threading.Event()
        self.first_s: list[float] = []
        self.tokens = 0
        self.answers = 0
        self.failed = 0

    def run(self, in_flight: int) -> float:
        """Ask, wait for the last answer, and return the seconds that it took."""
        started_s = time.perf_counter()
        self._left = in_flight
        for _ in range(in_flight):
            self._ask()
        if not self._over.wait(600):
            raise RuntimeError("the requests were not answered within 600 s")
        return time.perf_counter() - started_s

    def _ask(self) -> None:
        asked_s, told = time.perf_counter(), False

        def deliver(events: list[GenerateEvent]) -> None:
            nonlocal told
            if not told:
                told = True
                self.first_s.append(time.perf_counter() - asked_s)
            last = events[-1]
            if isinstance(last, Usage):
                self.tokens += last.completion_tokens
                self.answers += 1
                self._next()
            elif isinstance(last, Failed):
                self.failed += 1
                self._next()

        self._engine.submit(next(self._requests), deliver)

    def _next(self) -> None:
        if time.perf_counter() < self._until_s:
            self._ask()
            return
        self._left -= 1
        if not self._left:
            self._over.set()


def sums(digits: int) -> Iterator[GenerateRequest]:
    """Sums of numbers with so many digits, without end."""
    low = 10 ** (digits - 1)
    number = 0
    while True:
        number += 1
        text = f"What is {low + number * 37 % (9 * low)} + {low + number * 91 % (9 * low)}?"
        yield GenerateRequest([{"role": "user", "content": text}])


def measure(model: StepModel, digits: int, slots: int, in_flight: int, seconds: float) -> dict[str, float]:
    """One row: so many requests in flight on so many slots."""
    engine = Engine(model, slots=slots, queue_max=max(in_flight, 1))
    engine.start()
    try:
        Load(engine, sums(digits), seconds / 10).run(in_flight)
        load = Load(engine, sums(digits), seconds)
        cpu_s = time.process_time()
        taken_s = load.run(in_flight)
        cpu_s = time.process_time() - cpu_s
    finally:
        engine.close()
    if load.failed:
        raise RuntimeError(f"{load.failed} requests failed")
    first_s = sorted(load.first_s)
    return {
        "slots": slots,
        "in_flight": in_flight,
        "answers_per_s": round(load.answers / taken_s, 1),
        "tokens_per_s": round(load.tokens / taken_s),
        "cpu_us_per_token": round(cpu_s / load.tokens * 1e6, 1),
        "first_token_ms_p50": round(statistics.median(first_s) * 1000, 2),
        "first_token_ms_p99": round(first_s[int(0.99 * (len(first_s) - 1))] * 1000, 2),
    }


def batching(model: StepModel, digits: int, seconds: float) -> list[dict[str, float]]:
    """All rows of a model."""
    rows = [measure(model, digits, count, count, seconds) for count in IN_FLIGHT]
    rows.append(measure(model, digits, 4, 16, seconds))
    for row in rows:
        row["speedup"] = round(row["tokens_per_s"] / rows[0]["tokens_per_s"], 2)
        row["cpu_speedup"] = round(rows[0]["cpu_us_per_token"] / row["cpu_us_per_token"], 2)
        print(row)
    return rows


class WatchedModel:
    """A model whose passes are timed: the seconds between the end of one and the start of the next, on any version.

    Args:
        model: the version.
        ended_s: of the last pass, shared by the versions.
        gaps_s: takes the seconds.
    """

    def __init__(self, model: GlmModel, ended_s: list[float], gaps_s: list[float]) -> None:
        self._model = model
        self._ended_s = ended_s
        self._gaps_s = gaps_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prefill(self, *arguments: Any) -> Any:
        """See `StepModel`."""
        return self._timed(self._model.prefill, *arguments)

    def decode(self, *arguments: Any) -> Any:
        """See `StepModel`."""
        return self._timed(self._model.decode, *arguments)

    def _timed(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        self._gaps_s.append(time.perf_counter() - self._ended_s[0])
        logits = compute(*arguments)
        self._ended_s[0] = time.perf_counter()
        return logits


def swaps(name: str, seconds: float) -> dict[str, Any]:
    """Publish two versions in turn while 32 streams run."""
    ended_s, gaps_s = [time.perf_counter()], list[float]()
    models = [WatchedModel(catalog.open_model(name, number), ended_s, gaps_s) for number in (None, "1")]
    engine = Engine(models[0], slots=SWAP_STREAMS)
    engine.start()
    over = threading.Event()
    refused = 0

    def publish() -> None:
        nonlocal refused
        turn = 0
        while not over.wait(SWAP_EVERY_S):
            try:
                engine.publish(models[(turn + 1) % 2])
                turn += 1
            except RequestError:
                refused += 1  # the version before still drains

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        load = Load(engine, sums(3), seconds)
        load.run(SWAP_STREAMS)
    finally:
        over.set()
        publisher.join()
        figures = engine.swap_figures()
        engine.close()
    passes = sorted(gaps_s)
    row = {
        "streams": SWAP_STREAMS,
        "answers": load.answers,
        "broken": load.failed,
        "swaps": figures.swaps_total,
        "measured_under_load": figures.measured,
        "pause_ms_p99": round(figures.pause_p99_s * 1000, 3),
        "pause_ms_max": round(figures.pause_max_s * 1000, 3),
        "between_passes_ms_p50": round(statistics.median(passes) * 1000, 3),
        "between_passes_ms_p99": round(passes[int(0.99 * (len(passes) - 1))] * 1000, 3),
        "between_passes_ms_max": round(passes[-1] * 1000, 3),
        "publish_refused_while_two_lived": refused,
    }
    print(row)
    return row


def prefix(model: GlmModel, seconds: float) -> dict[str, Any]:
    """The same short and long prompts with and without the store, all with the same beginning."""
    result: dict[str, Any] = {}
    for words, text in (("short", "What is 1234 + {}?"), ("long", "hello " * 60 + "What is 12 + {}?")):
        for kept in (0, 8 << 20):
            engine = Engine(model, slots=4, prefix_bytes_max=kept)
            engine.start()
            number = iter(range(10**9))
            asked = (
                GenerateRequest([{"role": "user", "content": text.format(1000 + next(number) % 9000)}], salt="bench")
                for _ in iter(int, 1)
            )
            load = Load(engine, asked, seconds)
            taken_s = load.run(4)
            hits = engine.load().prefix_hits_total
            engine.close()
            result[f"{words}, {'kept' if kept else 'not kept'}"] = {
                "prompt_tokens": len(model.prepare(next(asked)).tokens),
                "answers_per_s": round(load.answers / taken_s, 1),
                "first_token_ms_p50": round(statistics.median(load.first_s) * 1000, 2),
                "hits": hits,
            }
    print(result)
    return result


class CountedModel:
    """A model that counts the tokens of prompts it reads, in pieces of a size; 0 reads them whole."""

    def __init__(self, model: StepModel, piece_tokens: int) -> None:
        self._model = model
        self.piece_tokens = piece_tokens
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prefill(self, cache: Any, first_row: int, prompts: Sequence[list[int]], start: int) -> Any:
        """See `StepModel`."""
        self.read += len(prompts) * (max(map(len, prompts)) - start)
        return self._model.prefill(cache, first_row, prompts, start)


def long_prompt(model: StepModel) -> dict[str, Any]:
    """A stream runs, and three long prompts come: how many of their tokens are read between two of its own.

    No time is taken: the engine's turns are called one after the other, so the counts are the same everywhere.
    """
    result: dict[str, Any] = {}
    asked = "hello " * 60 + "What is 12 + 34?"
    for piece_tokens in (0, model.piece_tokens):
        counted = CountedModel(model, piece_tokens)
        engine = Engine(counted, slots=4)
        engine.submit(GenerateRequest([{"role": "user", "content": "What is 123456 + 654321?"}]), lambda _: None)
        engine.turn()
        first: dict[int, int] = {}
        turns, most = 0, 0

        def deliver(events: list[GenerateEvent], *, number: int) -> None:
            first.setdefault(number, turns)  # noqa: B023 - of this round

        for number in range(3):
            engine.submit(
                GenerateRequest([{"role": "user", "content": asked}]), functools.partial(deliver, number=number)
            )
        while len(first) < 3:
            before = counted.read
            turns += 1
            engine.turn()
            most = max(most, counted.read - before)
        engine.close()
        result["read whole" if not piece_tokens else f"pieces of {piece_tokens}"] = {
            "prompt_tokens": len(model.prepare(GenerateRequest([{"role": "user", "content": asked}])).tokens),
            "tokens_between_two_of_the_stream_max": most,
            "passes_to_the_first_token": sorted(first.values()),
        }
    print(result)
    return result


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine()),
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--onnx", type=Path, metavar="FOLDER", help="an export of glm-nano")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    nano = catalog.open_model("glm-nano")
    models = {"glm-nano, numpy": batching(nano, 4, arguments.seconds)}
    if arguments.onnx is not None:
        exported = open_onnx(arguments.onnx, "glm-nano", threads=1)
        models["glm-nano, ONNX Runtime"] = batching(exported, 4, arguments.seconds)
    result = {
        "machine": machine(),
        "models": models,
        "swaps": swaps("glm-calc-s", arguments.seconds),
        "prefix": prefix(nano, arguments.seconds / 2),
        "long_prompt": long_prompt(nano),
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
