"""The scenarios: what is asked of one running target, and which figures come of it.

Each returns a dictionary of figures in base units (seconds, bytes, counts), or raises `WrongAnswer` when the target dropped or changed
an answer; then the target is reported as wrong there, without figures.
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
    ANSWER_BYTES,
    LONG_REQUEST_BYTES,
    STREAM_GAP_S,
    STREAM_WRITES,
    answer_fault,
    request_body,
    stream_fault,
)
from benchmarks.rig.process import Child

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
    unary_s: float = 4.0
    single_s: float = 2.0
    long_s: float = 3.0
    stream_s: float = 3.0
    warm_s: float = 1.0
    start_s: float = 60.0
    paced_streams: int = 256
    paced_streams_slow: int = 4
    burst_streams: int = 64
    burst_streams_slow: int = 8
    idle_connections: int = 5000
    idle_connections_slow: int = 500
    idle_before: int = 500


QUICK: Final = Settings(rounds=1, unary_s=2, single_s=1, long_s=1, stream_s=1.5, idle_connections=2000, idle_connections_slow=200)


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


def _unary(subject: Subject, body: bytes, connections: int, duration_s: float, warm_s: float) -> Figures:
    status, answer = probe.ask(subject.port, body)
    if status != 200:
        raise WrongAnswer(f"status {status}: {answer[:120]!r}")
    if fault := answer_fault(answer):
        raise WrongAnswer(fault)
    body_file = subject.folder / f"body-{len(body)}.json"
    body_file.write_bytes(body)
    wrk.run(subject.port, body_file, connections=connections, duration_s=warm_s, core=LOAD_CORE)
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
    duration_s = settings.unary_s * (2 if subject.slow else 1)
    figures = _unary(subject, request_body(), CONNECTIONS, duration_s, settings.warm_s)
    if subject.pid is not None:
        memory = accounting.memory(subject.pid)
        figures |= {"resident_bytes": float(memory.resident_bytes), "proportional_bytes": float(memory.proportional_bytes)}
    return figures


def single(subject: Subject, settings: Settings) -> Figures:
    """One connection, short requests: what the target adds to an unhurried request."""
    return _unary(subject, request_body(), 1, settings.single_s, settings.warm_s)


def long(subject: Subject, settings: Settings) -> Figures:
    """64 connections, requests of 32 KiB."""
    return _unary(subject, request_body(LONG_REQUEST_BYTES), CONNECTIONS, settings.long_s, settings.warm_s)
