"""A picture of an evaluation as SVG: accuracy with its interval, and what it costs in time.

Invariant: names that others chose are escaped; the same report gives the same bytes.
"""

from __future__ import annotations

from html import escape

from open_autoglm.cli.evaluate.summary import Report
from open_autoglm.telemetry.redact import clean

_ROW, _LEFT, _WIDTH, _TOP = 34, 210, 420, 56
_SINGLE, _TEAM, _LINE = "#7a8aa0", "#1f6f4a", "#b34700"


def draw(report: Report) -> str:
    """The picture: a row for each model, the axis begins below the least interval."""
    least = min((row.low for row in report.rows), default=0.0)
    start = max(0.0, int(least * 20) / 20 - 0.05)
    height = _TOP + _ROW * len(report.rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 150} {height}" '
        'font-family="sans-serif" font-size="13">',
        "<title>Accuracy with 95 % intervals, and median latency</title>",
        f'<rect width="100%" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">share of tasks that are right, 95 % interval; median latency</text>',
    ]
    for step in range(6):
        share = start + (1 - start) * step / 5
        x = _place(share, start)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 34}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 16}" text-anchor="middle">{share * 100:.0f} %</text>')
    for number, row in enumerate(report.rows):
        y = _TOP + _ROW * number + 8
        x = _place(row.accuracy, start)
        colour = _TEAM if row.team else _SINGLE
        parts += [
            f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(clean(row.model)[:28])}</text>',
            f'<line x1="{_place(row.low, start):.1f}" y1="{y}" x2="{_place(row.high, start):.1f}" y2="{y}" '
            f'stroke="{colour}" stroke-width="3"/>',
            f'<circle cx="{x:.1f}" cy="{y}" r="6" fill="{colour}"/>',
            f'<text x="{_LEFT + _WIDTH + 12}" y="{y + 4}">{row.accuracy * 100:.1f} %, {row.p50_ms:.0f} ms</text>',
        ]
    together = report.together
    if together is not None:
        x = _place(together.ceiling, start)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 14}" x2="{x:.1f}" y2="{height - 34}" stroke="{_LINE}" '
            'stroke-dasharray="5 4"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{_TOP - 18}" text-anchor="middle" fill="{_LINE}">someone is right</text>')
    return "\n".join([*parts, "</svg>", ""])


def _place(share: float, start: float) -> float:
    return _LEFT + _WIDTH * (share - start) / (1 - start)
