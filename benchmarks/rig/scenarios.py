"""The scenarios: what is asked of one running target, and which figures come of it.

Each returns a dictionary of figures in base units (seconds, bytes, counts), or raises `WrongAnswer` when the target
dropped or changed an answer; then the target is reported as wrong there, without figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.rig import accounting, probe, wrk
from benchmarks.rig.payload import (
    LONG_REQUEST_BYTES,
    STREAM_WRITES,
    answer_fault,
    request_body,
)
from benchmarks.rig.process import Child
from benchmarks.rig.targets import ROOT

GATEWAY_CORE: Final = 0
LOAD_CORE: Final = 1
CONNECTIONS: Final = 64
Figures = dict[str, float]


class WrongAnswer(Exception):
    """The target dropped, refused or changed answers; the text says how."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how much. Times in seconds."""

    rounds: int = 3
    unary_s: float = 3.0
    single_s: float = 2.0
    long_s: float = 2.0
    stream_s: float = 2.5
    warm_s: float = 1.0
    start_s: float = 60.0
    paced_streams: int = 256
    paced_streams_slow: int = 4
    burst_streams: int = 64
    burst_streams_slow: int = 8
    idle_connections: int = 5000
    idle_connections_slow: int = 500
    # A slow target is asked for this many times as long, because requests cut at the end weigh more when there are few.
    settle_s: float = 0.5
    slow_factor: int = 3


QUICK: Final = Settings(
    rounds=1, unary_s=2, single_s=1, long_s=1, stream_s=1.5, idle_connections=2000, idle_connections_slow=200
)
# After a warm-up a slow target still works on requests whose client has left; that work must not fall into the window.
QUIET_S: Final = 0.1
QUIET_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A running target: its port, its process id (`None` for `direct`), a folder for files, and whether it is slow."""

    port: int
    pid: int | None
    folder: Path
    slow: bool


class Meter:
    """CPU seconds of the subject over a window, and how much of its core was used by anybody else meanwhile."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.cpu_s = 0.0
        self.foreign_ratio = 0.0

    @contextmanager
    def window(self) -> Iterator[None]:
        """Measures what happens inside the `with` block."""
        began_s, core_before, own_before = time.monotonic(), accounting.core_times(GATEWAY_CORE), self._own_s()
        yield
        own_after, core_after, ended_s = self._own_s(), accounting.core_times(GATEWAY_CORE), time.monotonic()
        self.cpu_s = own_after - own_before
        busy_s = (core_after.busy_ticks + core_after.stolen_ticks) - (core_before.busy_ticks + core_before.stolen_ticks)
        foreign_s = busy_s / accounting.TICKS_PER_SECOND - self.cpu_s
        self.foreign_ratio = max(0.0, foreign_s / max(1e-9, ended_s - began_s))

    def _own_s(self) -> float:
        return accounting.cpu_seconds(self.subject.pid) if self.subject.pid is not None else 0.0


def wait_quiet(pid: int) -> None:
    """Waits until the tree under `pid` uses no CPU for `QUIET_S` seconds, or `QUIET_WAIT_S` have gone."""
    deadline_s = time.monotonic() + QUIET_WAIT_S
    before_s = accounting.cpu_seconds(pid)
    while time.monotonic() < deadline_s:
        time.sleep(QUIET_S)
        now_s = accounting.cpu_seconds(pid)
        if now_s - before_s < QUIET_S / 2:
            return
        before_s = now_s


def _unary(subject: Subject, body: bytes, connections: int, duration_s: float, warm_s: float) -> Figures:
    status, answer = probe.ask(subject.port, body)
    if status != 200:
        raise WrongAnswer(f"status {status}: {answer[:120]!r}")
    if fault := answer_fault(answer):
        raise WrongAnswer(fault)
    body_file = subject.folder / f"body-{len(body)}.json"
    body_file.write_bytes(body)
    wrk.run(subject.port, body_file, connections=connections, duration_s=warm_s, core=LOAD_CORE)
    if subject.pid is not None:
        wait_quiet(subject.pid)
    meter = Meter(subject)
    with meter.window():
        load = wrk.run(subject.port, body_file, connections=connections, duration_s=duration_s, core=LOAD_CORE)
    if load.fault:
        raise WrongAnswer(f"{load.fault} among {load.requests} requests")
    figures = {
        "requests": float(load.requests),
        "requests_per_second": load.requests / load.duration_s,
        "p50_s": load.p50_s,
        "p99_s": load.p99_s,
        "foreign_ratio": meter.foreign_ratio,
    }
    if subject.pid is not None:
        figures["cpu_per_request_s"] = meter.cpu_s / load.requests
    return figures


def unary(subject: Subject, settings: Settings) -> Figures:
    """64 connections, short requests; then the memory of the loaded process."""
    duration_s = settings.unary_s * (settings.slow_factor if subject.slow else 1)
    figures = _unary(subject, request_body(), CONNECTIONS, duration_s, settings.warm_s)
    if subject.pid is not None:
        memory = accounting.memory(subject.pid)
        figures |= {
            "resident_bytes": float(memory.resident_bytes),
            "proportional_bytes": float(memory.proportional_bytes),
        }
    return figures


def single(subject: Subject, settings: Settings) -> Figures:
    """One connection, short requests: what the target adds to an unhurried request."""
    return _unary(subject, request_body(), 1, settings.single_s, settings.warm_s)


def long(subject: Subject, settings: Settings) -> Figures:
    """64 connections, requests of 32 KiB."""
    duration_s = settings.long_s * (settings.slow_factor if subject.slow else 1)
    return _unary(subject, request_body(LONG_REQUEST_BYTES), CONNECTIONS, duration_s, settings.warm_s)


def _streams(subject: Subject, settings: Settings, kind: str, connections: int) -> Figures:
    argv = [
        sys.executable,
        "-m",
        "benchmarks.rig.stream_load",
        str(subject.port),
        str(connections),
        str(settings.stream_s),
        kind,
    ]
    meter = Meter(subject)
    with Child(argv, LOAD_CORE, subject.folder / "stream-load.log", piped=True, folder=ROOT) as load:
        if load.answer() != "ready":
            raise WrongAnswer("the stream load could not begin: no connection, or no first stream")
        with meter.window():
            load.ask("go")
            text = load.answer()
    if not text:
        raise WrongAnswer("the stream load ended without a summary")
    seen: dict[str, Any] = json.loads(text)
    if seen["faults"] or not seen["streams"]:
        raise WrongAnswer("; ".join(seen["faults"]) or "no stream came")
    chunks = seen["streams"] * STREAM_WRITES
    figures = {
        "streams": float(seen["streams"]),
        "concurrent": float(connections),
        "chunks_per_second": chunks / seen["elapsed_s"],
        "exact_ratio": seen["exact"] / seen["streams"],
        "first_p50_s": seen["first_p50_s"],
        "first_p99_s": seen["first_p99_s"],
        "whole_p50_s": seen["whole_p50_s"],
        "whole_p99_s": seen["whole_p99_s"],
        "foreign_ratio": meter.foreign_ratio,
    }
    if subject.pid is not None:
        figures["cpu_per_chunk_s"] = meter.cpu_s / chunks
    return figures


def paced(subject: Subject, settings: Settings) -> Figures:
    """Many concurrent streams, their events 10 ms apart."""
    return _streams(subject, settings, "paced", settings.paced_streams_slow if subject.slow else settings.paced_streams)


def burst(subject: Subject, settings: Settings) -> Figures:
    """Streams whose events all come at once."""
    return _streams(subject, settings, "burst", settings.burst_streams_slow if subject.slow else settings.burst_streams)


def _idle(subject: Subject, settings: Settings, request: bytes | None) -> Figures:
    if subject.pid is None:
        return {}
    count = settings.idle_connections_slow if subject.slow else settings.idle_connections
    before = count // 10
    # Pools, tables and rings of recent requests fill up first: they are not the connections'. So do the tables that
    # the first connections pay for; only the later ones are measured.
    if request is not None:
        _unary(subject, request_body(), CONNECTIONS, settings.warm_s, settings.warm_s)
    held = probe.hold(subject.port, before, request)
    try:
        time.sleep(settings.settle_s)
        empty = accounting.memory(subject.pid)
        held += probe.hold(subject.port, count, request)
        time.sleep(settings.settle_s)
        full = accounting.memory(subject.pid)
        open_now = probe.still_open(held)
    finally:
        probe.release(held)
    if open_now < len(held):
        raise WrongAnswer(f"the target closed {len(held) - open_now} of {len(held)} idle connections")
    return {"connections": float(count), "bytes_per_connection": (full.anonymous_bytes - empty.anonymous_bytes) / count}


def idle_unused(subject: Subject, settings: Settings) -> Figures:
    """Connections that were opened and asked nothing yet: user memory of each."""
    return _idle(subject, settings, None)


def idle_used(subject: Subject, settings: Settings) -> Figures:
    """Keep-alive connections that had one answer and wait: user memory of each."""
    return _idle(subject, settings, probe.post_bytes(request_body(), subject.port))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario: its name, what it runs, its upstream; `once` means the first round only, and a process of its own."""

    name: str
    run: Callable[[Subject, Settings], Figures]
    upstream: str = "unary"
    once: bool = False


SCENARIOS: Final = (
    Scenario("unary", unary),
    Scenario("single", single),
    Scenario("long", long),
    Scenario("paced", paced, "stream"),
    Scenario("burst", burst, "stream"),
    Scenario("idle-unused", idle_unused, once=True),
    Scenario("idle-used", idle_used, once=True),
)
