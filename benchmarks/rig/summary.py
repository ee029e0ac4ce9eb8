"""From single runs to the figures of the tables: medians over the rounds, their spread, and our goals.

Invariant: a target that was wrong in any round of a scenario has no figures there, only the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.rig.targets import DIRECT


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds, in the unit of the single figures."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What we want of a figure: at most (or `at_least`) `limit`, shown times `scale` in `unit`."""

    title: str
    scenario: str
    figure: str
    limit: float
    scale: float
    unit: str
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a measured value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


GOALS: Final = (
    Goal("CPU per unary request, 64 connections", "unary", "cpu_per_request_s", 30e-6, 1e6, "µs"),
    Goal("unary requests on one core", "unary", "requests_per_second", 33_000, 1, "/s", at_least=True),
    Goal("p50 added at one connection", "single", "added_p50_s", 0.15e-3, 1e3, "ms"),
    Goal("CPU per request of 32 KiB", "long", "cpu_per_request_s", 45e-6, 1e6, "µs"),
    Goal("CPU per paced chunk", "paced", "cpu_per_chunk_s", 12e-6, 1e6, "µs"),
    Goal("CPU per chunk in a burst", "burst", "cpu_per_chunk_s", 1.2e-6, 1e6, "µs"),
    Goal("memory of an idle connection, unused", "idle-unused", "bytes_per_connection", 1500, 1e-3, "KB"),
    Goal("memory of an idle connection, used", "idle-used", "bytes_per_connection", 1500, 1e-3, "KB"),
    Goal("start to first answer", "start", "first_answer_s", 0.5, 1, "s"),
    Goal("resident memory after the load", "unary", "resident_bytes", 60e6, 1e-6, "MB"),
)


class Summary:
    """Figures by scenario, target and name, made from the `runs` of a result file."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.figures: dict[tuple[str, str], dict[str, Spread]] = {}
        self.wrong: dict[tuple[str, str], str] = {}
        grouped: dict[tuple[str, str], list[dict[str, float]]] = {}
        for run in with_added_latency(runs):
            key = (run["scenario"], run["target"])
            if run["wrong"]:
                self.wrong.setdefault(key, run["wrong"])
            else:
                grouped.setdefault(key, []).append(run["figures"])
        for key, several in grouped.items():
            if key not in self.wrong:
                names = set.intersection(*(set(figures) for figures in several))
                self.figures[key] = {name: spread([figures[name] for figures in several]) for name in sorted(names)}

    def get(self, scenario: str, target: str, name: str) -> Spread | None:
        """The figure, or `None` when it was not measured or the target was wrong."""
        return self.figures.get((scenario, target), {}).get(name)

    def why_missing(self, scenario: str, target: str) -> str:
        """Why a target has no figures: what was wrong, or why it did not start, or an empty string."""
        return self.wrong.get((scenario, target)) or self.wrong.get(("start", target), "")

    def foreign_ratio_max(self) -> float:
        """The largest share of the gateway's core that anybody else used while a CPU figure was taken."""
        ratios = [
            figures["foreign_ratio"].high
            for figures in self.figures.values()
            if "foreign_ratio" in figures and _timed(figures)
        ]
        return max(ratios, default=0.0)


def _timed(figures: dict[str, Spread]) -> bool:
    return "cpu_per_request_s" in figures or "cpu_per_chunk_s" in figures


def spread(values: list[float]) -> Spread:
    """Median, lowest and highest of at least one value."""
    return Spread(median(values), min(values), max(values))


def with_added_latency(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs; those of one connection also get `added_p50_s`: their p50 minus that without gateway in that round."""
    direct = {
        run["round"]: run["figures"]["p50_s"]
        for run in runs
        if run["scenario"] == "single" and run["target"] == DIRECT and not run["wrong"]
    }
    completed = []
    for run in runs:
        if run["scenario"] == "single" and run["target"] != DIRECT and not run["wrong"] and run["round"] in direct:
            added = run["figures"]["p50_s"] - direct[run["round"]]
            run = {**run, "figures": {**run["figures"], "added_p50_s": added}}
        completed.append(run)
    return completed
