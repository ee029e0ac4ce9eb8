"""A load test drawn for the terminal: rate as bars, latency from median to 99th percentile as spans.

Invariant: no line is wider than asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from open_autoglm.cli.load.step import Step

WIDTH_MIN = 50
_LABEL_CELLS = 12
_VALUE_CELLS = 22
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def draw(steps: Sequence[Step], knee: Step | None, width: int) -> list[str]:
    """Return the lines of the picture.

    Args:
        steps: in the order of their concurrency.
        knee: is marked.
        width: columns; below `WIDTH_MIN` that is taken instead.
    """
    cells = max(width, WIDTH_MIN) - _LABEL_CELLS - _VALUE_CELLS
    served = [step for step in steps if step.good]
    if not served:
        return []
    most = max(step.rate for step in served)
    lines = ["connections  answers per second"]
    for step in served:
        mark = "  <- knee" if knee is not None and step is knee else ""
        lines.append(f"{step.concurrency:>{_LABEL_CELLS - 1}} {_bar(step.rate / most, cells)} {step.rate:.1f}{mark}")
    low, high = min(step.p50_ms for step in served), max(step.p99_ms for step in served)
    lines += ["", "connections  ms from p50 to p99, logarithmic"]
    for step in served:
        span = _span(step.p50_ms, step.p99_ms, (low, high), cells)
        lines.append(f"{step.concurrency:>{_LABEL_CELLS - 1}} {span} {step.p50_ms:.1f} – {step.p99_ms:.1f}")
    return lines


def _bar(share: float, cells: int) -> str:
    eighths = max(round(share * cells * 8), 1)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _span(start: float, end: float, bounds: tuple[float, float], cells: int) -> str:
    """Draw from `start` to `end` on a logarithmic axis."""
    low, high = (max(each, 1e-6) for each in bounds)
    scale = (cells - 1) / max(math.log(high / low), 1e-9)
    begin, stop = (min(round(math.log(max(each, 1e-6) / low) * scale), cells - 1) for each in (start, end))
    return " " * begin + "├" + "─" * max(stop - begin - 1, 0) + ("┤" if stop > begin else "")
