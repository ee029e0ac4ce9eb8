"""Draws a run of cooperation as a picture of its own, an SVG file (SVG 1.1, no script, nothing loaded from elsewhere).

| part | shows |
|---|---|
| head | what it was, what was decided, why it stopped |
| graph | tasks and what they wait for; else members, their votes, the decision |
| timeline | who did what when, and what became of it |

Invariants: every text is escaped and cut to its place; the drawing is as large as what it shows, up to `ROWS_MAX` of
each kind; the same view gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from open_autoglm.telemetry.columns import fit
from open_autoglm.telemetry.redact import clean
from open_autoglm.telemetry.run_picture import answer_label, ask_words, headline, task_words
from open_autoglm.telemetry.run_view import AskView, RunView, TaskView

ROWS_MAX: Final = 100

_WIDTH: Final = 1000
_MARGIN: Final = 24
_CELL: Final = 7.3
"""Width of a character of 12 px in a font of equal widths, px; a little more than it is, so nothing sticks out."""
_LINE: Final = 18
_BOX_W: Final = 190
_BOX_H: Final = 38
_BOX_GAP: Final = 12
_COLUMN: Final = 250
_ROW: Final = 34
_NAMES: Final = 190

_COLOURS: Final = {
    "won": "#1a7f37",
    "vote": "#0969da",
    "done": "#1a7f37",
    "no_vote": "#9a6700",
    "held": "#9a6700",
    "late": "#6e7781",
    "cancelled": "#6e7781",
    "waiting": "#6e7781",
    "running": "#8250df",
    "failed": "#cf222e",
}
_STYLE: Final = (
    "text{font-family:ui-monospace,'DejaVu Sans Mono','Noto Sans Mono CJK SC',monospace;font-size:12px;fill:#1f2328;"
    "white-space:pre}"
    ".head{font-size:16px;font-weight:bold}.soft{fill:#57606a}.small{font-size:11px}.light{fill:#fff}"
    ".edge{fill:none;stroke:#8c959f}.grid{stroke:#d0d7de}"
)


def draw_svg(view: RunView) -> str:
    """Return the drawing of one run."""
    asks, tasks = view.asks[:ROWS_MAX], view.tasks[:ROWS_MAX]
    head = list(_head(view))
    y = _MARGIN + _LINE * len(head) + 16
    graph, width, height = _task_graph(tasks, y) if tasks else _vote_graph(view, asks, y)
    y += height + 34
    timeline, y = _timeline(view, asks, tasks, (width, y))
    notes = [f"and {len(all_) - ROWS_MAX} {what} more" for all_, what in _kinds(view) if len(all_) > ROWS_MAX]
    for note in notes:
        timeline.append(_text(_MARGIN, y, note, "soft"))
        y += _LINE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + _MARGIN}" '
        f'viewBox="0 0 {width} {y + _MARGIN}" role="img">',
        f"<title>{_escaped(f'{view.model}: {view.run}')}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{y + _MARGIN}" fill="#ffffff"/>',
        *head,
        *graph,
        *timeline,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _kinds(view: RunView) -> Sequence[tuple[Sequence[object], str]]:
    return ((view.asks, "asks"), (view.tasks, "tasks"), (view.tools, "calls of tools"))


def _head(view: RunView) -> Iterator[str]:
    room = int((_WIDTH - 2 * _MARGIN) / _CELL)
    first, *more = headline(view)
    yield _text(_MARGIN, _MARGIN + 6, fit(first, room * 3 // 4), "head")
    lines = [*more, f"{clean(view.run)}  {clean(view.began_at)}"]
    for place, line in enumerate(lines, 1):
        yield _text(_MARGIN, _MARGIN + 8 + _LINE * place, fit(line, room), "soft" if place == len(lines) else "")


def _task_graph(tasks: Sequence[TaskView], top: int) -> tuple[list[str], int, int]:
    """Columns by level, an arrow from each task to those that wait for it."""
    columns: dict[int, list[TaskView]] = {}
    for task in tasks:
        columns.setdefault(task.level, []).append(task)
    places = {
        task.id: (_MARGIN + task.level * _COLUMN, top + place * (_BOX_H + _BOX_GAP))
        for column in columns.values()
        for place, task in enumerate(column)
    }
    lines = []
    for task in tasks:
        x, y = places[task.id]
        for need in task.needs:
            if need in places:
                from_x, from_y = places[need]
                lines.append(_edge((from_x + _BOX_W, from_y + _BOX_H // 2), (x, y + _BOX_H // 2), 1.5))
    for task in tasks:
        colour = _COLOURS.get(task.outcome, "#6e7781")
        second = ", ".join(word for word in (clean(task.tool), clean(task.outcome), clean(task.why)) if word)
        lines += _box(places[task.id], (clean(task.id), second), colour, task_words(task))
    width = max(_WIDTH, 2 * _MARGIN + _COLUMN * max(columns, default=0) + _BOX_W)
    return lines, width, max(map(len, columns.values()), default=0) * (_BOX_H + _BOX_GAP)


def _vote_graph(view: RunView, asks: Sequence[AskView], top: int) -> tuple[list[str], int, int]:
    """Asks at the left, answers in the middle, the decision at the right; a line is as thick as its vote weighs."""
    letters = list(dict.fromkeys(ask.letter for ask in asks if ask.outcome in ("won", "vote") and ask.letter))
    letters.sort(key=lambda letter: letter != view.letter)
    step = _BOX_H + _BOX_GAP
    height = max(len(asks), len(letters), 1) * step
    rows = {ask.number: top + place * step for place, ask in enumerate(asks)}
    gap = height // max(len(letters), 1)
    answers = {letter: top + place * gap + (gap - step) // 2 for place, letter in enumerate(letters)}
    middle, right = _MARGIN + 340, _MARGIN + 680
    heaviest = max([abs(ask.weight or 0.0) for ask in asks] + [1e-9])
    lines = []
    for ask in asks:
        if ask.outcome in ("won", "vote") and ask.letter in answers:
            weight = ask.weight or 0.0
            ends = (_MARGIN + _BOX_W, rows[ask.number] + _BOX_H // 2), (middle, answers[ask.letter] + _BOX_H // 2)
            lines.append(_edge(*ends, 1 + 5 * abs(weight) / heaviest, against=weight < 0))
    if view.letter in answers:
        decided_y = answers[view.letter]
        lines.append(_edge((middle + _BOX_W, decided_y + _BOX_H // 2), (right, decided_y + _BOX_H // 2), 3))
        words = ("decided", f"{view.posterior:.1%} sure")
        lines += _box((right, decided_y), words, _COLOURS["won"], "")
    for ask in asks:
        second = ask.outcome.replace("_", " ") if ask.weight is None else f"{ask.outcome}, weight {ask.weight:+.2f}"
        words = (f"#{ask.number} {clean(ask.member)}", second)
        lines += _box((_MARGIN, rows[ask.number]), words, _COLOURS.get(ask.outcome, "#6e7781"), ask_words(ask))
    for letter, y in answers.items():
        given = [ask for ask in asks if ask.letter == letter and ask.outcome in ("won", "vote")]
        total = sum(ask.weight or 0.0 for ask in given)
        colour = _COLOURS["won" if letter == view.letter else "late"]
        label = answer_label(letter, given[0].answer)
        lines += _box(
            (middle, y), (label, f"{len(given)} vote{'s' if len(given) != 1 else ''}, {total:+.2f}"), colour, label
        )
    return lines, _WIDTH, height


def _timeline(
    view: RunView, asks: Sequence[AskView], tasks: Sequence[TaskView], corner: tuple[int, int]
) -> tuple[list[str], int]:
    rows = [(f"#{a.number} {clean(a.member)}", a.at_ms, a.ms, a.outcome, ask_words(a)) for a in asks]
    rows += [(clean(t.id), t.at_ms, t.ms, t.outcome, task_words(t)) for t in tasks if t.tries]
    rows += [_tool_row(call) for call in view.tools[:ROWS_MAX]]
    rows.sort(key=lambda row: row[1])
    width, y = corner
    if not rows:
        return [], y
    left, span = _MARGIN + _NAMES, width - 2 * _MARGIN - _NAMES
    total_ms = max(view.ms, 0.001)
    lines = []
    for quarter in range(5):
        x = left + span * quarter / 4
        anchor = "end" if quarter == 4 else "middle" if quarter else "start"
        lines.append(_text(x, y - 8, f"{total_ms * quarter / 4:.1f} ms", "soft small", anchor))
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + _ROW * len(rows)}"/>')
    for name, at_ms, ms, outcome, words in rows:
        x = left + span * min(at_ms / total_ms, 1.0)
        wide = min(max(span * ms / total_ms, 2.0), left + span - x + 2.0)
        lines.append(_text(_MARGIN, y + 13, fit(name, int(_NAMES / _CELL) - 1)))
        lines.append(
            f'<rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="11" rx="2" '
            f'fill="{_COLOURS.get(outcome, "#0969da")}"><title>{_escaped(f"{name}: {words}")}</title></rect>'
        )
        lines.append(_text(left + 4, y + 27, fit(f"{ms:.1f} ms, {words}", int(span / (_CELL - 0.5)) - 1), "soft small"))
        y += _ROW
    return lines, y + 10


def _tool_row(call: dict[str, object]) -> tuple[str, float, float, str, str]:
    at_ms, ms = (float(v) if isinstance(v, (int, float)) else 0.0 for v in (call.get("at_ms"), call.get("ms")))
    words = ", ".join(clean(str(call[name])) for name in ("outcome", "code", "task") if call.get(name))
    failed = bool(call.get("code"))
    return f"tool {clean(str(call.get('tool', '')))}", max(at_ms - ms, 0.0), ms, "failed" if failed else "done", words


def _box(place: tuple[int, int], words: tuple[str, str], colour: str, title: str) -> list[str]:
    x, y = place
    room = int((_BOX_W - 16) / _CELL)
    return [
        f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="5" fill="{colour}">'
        f"<title>{_escaped(title)}</title></rect>",
        _text(x + 8, y + 16, fit(words[0], room), "light"),
        _text(x + 8, y + 31, fit(words[1], room + 1), "light small"),
    ]


def _edge(start: tuple[int, int], end: tuple[int, int], width: float, *, against: bool = False) -> str:
    (x1, y1), (x2, y2) = start, end
    bend = (x1 + x2) / 2
    dashed = ' stroke-dasharray="5 4"' if against else ""
    return (
        f'<path class="edge" stroke-width="{width:.1f}"{dashed} '
        f'd="M{x1} {y1}C{bend:.1f} {y1} {bend:.1f} {y2} {x2} {y2}"/>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{anchor}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return escape(clean(text).translate(_NOT_XML), quote=True)


_NOT_XML: Final = dict.fromkeys((0xFFFE, 0xFFFF), "\ufffd")
"""Beside controls, which are escaped already, what XML 1.0 does not allow."""
