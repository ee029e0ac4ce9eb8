"""Where the time between two forward passes goes, with a swap of versions between them and without.

The engine's thread is asked, so that each figure is its own: what it computed, how long it was ready and had no core,
how long Python's collector held everybody up, and what is left, which is waiting for a lock, Python's own among them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass
class Gap:
    """Milliseconds between two passes."""

    swap: bool
    wall: float
    computing: float
    no_core: float
    collecting: float

    @property
    def waiting(self) -> float:
        return max(0.0, self.wall - self.computing - self.no_core - self.collecting)


@dataclass
class Pauses:
    """Told of each pass of an engine, by its thread.

    Attributes:
        swaps: how many there were.
        gaps: between two passes.
    """

    swaps: Callable[[], int]
    gaps: list[Gap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._swaps = self.swaps()
        self._begun = False
        self._ended = self._read()
        self._collecting_ns = self._collected_ns = 0
        gc.callbacks.append(self._collect)

    def close(self) -> None:
        gc.callbacks.remove(self._collect)

    def begin(self) -> None:
        """A pass begins."""
        now, swaps = self._read(), self.swaps()
        if self._begun:
            wall, computing, no_core, collecting = (
                (after - before) / 1e6 for after, before in zip(now, self._ended, strict=True)
            )
            self.gaps.append(Gap(swaps != self._swaps, wall, computing, no_core, collecting))
        self._swaps, self._begun = swaps, True

    def end(self) -> None:
        self._ended = self._read()

    def _read(self) -> tuple[int, int, int, int]:
        waited = int(SCHEDSTAT.read_text().split()[1]) if SCHEDSTAT.exists() else 0
        return time.perf_counter_ns(), time.thread_time_ns(), waited, getattr(self, "_collected_ns", 0)

    def _collect(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_ns = time.perf_counter_ns()
        else:
            self._collected_ns += time.perf_counter_ns() - self._collecting_ns

    def causes(self) -> dict[str, Any]:
        """Of gaps with a swap and of those without: p50, p99 and the largest, and what the ten largest consist of."""
        told: dict[str, Any] = {}
        for name, gaps in (
            ("swap", [gap for gap in self.gaps if gap.swap]),
            ("none", [gap for gap in self.gaps if not gap.swap]),
        ):
            parts = ("wall", "computing", "no_core", "collecting", "waiting")
            told[name] = {"measured": len(gaps)} | {
                part: [_quantile([getattr(gap, part) for gap in gaps], share) for share in (0.5, 0.99, 1.0)]
                for part in parts
            }
            largest = sorted(gaps, key=lambda gap: -gap.wall)[:10]
            told[name]["largest"] = [[round(getattr(gap, part), 3) for part in parts] for gap in largest]
        return told


def _quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None
