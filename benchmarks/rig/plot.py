"""The plot of the comparison: four panels, one dot per target on a logarithmic axis, our goal as a dashed line.

Dots and not bars, because a logarithmic axis has no zero for a bar to stand on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.rig.summary import Spread, Summary
from benchmarks.rig.targets import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS_COLOUR: Final = "#c2410c"
_OTHER_COLOUR: Final = "#475569"
_FAINT: Final = "#cbd5e1"


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of all targets; values are multiplied by `scale`."""

    title: str
    scenario: str
    figure: str
    scale: float
    unit: str
    goal: float


PANELS: Final = (
    Panel("CPU per request, 64 connections", "unary", "cpu_per_request_s", 1e6, "µs", 30),
    Panel("Added latency (p50), one connection", "single", "added_p50_s", 1e3, "ms", 0.15),
    Panel("CPU per chunk, paced streams", "paced", "cpu_per_chunk_s", 1e6, "µs", 12),
    Panel("CPU per chunk, streams in one burst", "burst", "cpu_per_chunk_s", 1e6, "µs", 1.2),
)


def draw(summary: Summary, targets: list[str], stem: Path) -> list[Path]:
    """Draws all panels into `stem`.svg and `stem`.png and returns the two paths."""
    # A fixed salt and no date keep the SVG the same for the same figures.
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9, "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    for panel, where in zip(PANELS, axes.flat, strict=True):
        _draw_panel(where, panel, summary, targets)
    figure.suptitle(
        "Price of a gateway: less is better; lines from lowest to highest round; logarithmic axes", fontsize=11
    )
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=110)
    return paths


def _draw_panel(where: Axes, panel: Panel, summary: Summary, targets: list[str]) -> None:
    found = [(name, summary.get(panel.scenario, name, panel.figure)) for name in targets]
    rows = [(name, value) for name, value in found if value is not None and value.median > 0]
    rows.sort(key=lambda row: row[1].median, reverse=True)
    for height, (name, value) in enumerate(rows):
        _draw_row(where, height, panel, name, value)
    where.set_xscale("log")
    where.xaxis.set_major_formatter(FuncFormatter(_plain))
    where.xaxis.set_minor_formatter(NullFormatter())
    where.set_yticks(range(len(rows)), [name for name, _ in rows])
    where.set_ylim(-0.6, len(rows) - 0.1)
    where.set_title(panel.title, fontsize=10)
    where.set_xlabel(panel.unit)
    if rows:
        values = [value.median * panel.scale for _, value in rows]
        # Room for the numbers at the right of the dots.
        where.set_xlim(min([*values, panel.goal]) / 1.6, max([*values, panel.goal]) * 4)
    where.axvline(panel.goal, color=_OURS_COLOUR, linestyle="--", linewidth=1, alpha=0.7)
    where.annotate(
        f"goal {panel.goal:g}",
        (panel.goal, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -9),
        textcoords="offset points",
        fontsize=7,
        color=_OURS_COLOUR,
    )
    where.grid(axis="x", color=_FAINT, linewidth=0.5)
    where.spines[["top", "right"]].set_visible(False)


def _plain(value: float, _position: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _draw_row(where: Axes, height: int, panel: Panel, name: str, value: Spread) -> None:
    colour = _OURS_COLOUR if name == OURS else _OTHER_COLOUR
    middle = value.median * panel.scale
    where.plot(
        [value.low * panel.scale, value.high * panel.scale], [height, height], color=colour, linewidth=2, alpha=0.5
    )
    where.plot([middle], [height], "o", color=colour, markersize=6)
    text = f"{middle:,.3g}" if middle < 1000 else f"{middle:,.0f}"
    right = (value.high * panel.scale, height)
    # A white ground keeps the number readable where the line of the goal crosses it.
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    where.annotate(text, right, xytext=(7, -3), textcoords="offset points", fontsize=8, color=colour, bbox=ground)
