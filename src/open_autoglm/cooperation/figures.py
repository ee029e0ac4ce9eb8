"""What virtual models did, counted for metrics."""

from __future__ import annotations

from collections import Counter
from typing import Final

_SERIES_MAX: Final = 1024
"""Of each counter: reloads may bring ever new names."""
_OTHER: Final = "other"


class TeamFigures:
    """Counters of all virtual models of one process.

    Attributes:
        runs: by model and reason of the end.
        asks: by model, member and what became of it: `vote`, `flagged`, `failed`, `cancelled`, `late`.
    """

    __slots__ = ("asks", "runs")

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()
        self.asks: Counter[tuple[str, str, str]] = Counter()

    def run(self, model: str, reason: str) -> None:
        """A run is over."""
        key = (model, reason)
        self.runs[key if key in self.runs or len(self.runs) < _SERIES_MAX else (_OTHER, reason)] += 1

    def ask(self, model: str, member: str, outcome: str) -> None:
        """An ask is over."""
        key = (model, member, outcome)
        self.asks[key if key in self.asks or len(self.asks) < _SERIES_MAX else (_OTHER, _OTHER, outcome)] += 1
