"""Draws a run of cooperation for the terminal: its tasks or its votes, and who did what when.

Invariant: as `trace_picture`: no line is wider than asked for, and nothing in it moves the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from open_autoglm.telemetry.columns import bar, cells, fit, padded, plain, plain_values
from open_autoglm.telemetry.redact import clean
from open_autoglm.telemetry.run_privacy import DIGEST
from open_autoglm.telemetry.run_view import AskView, RunView, TaskView

WIDTH_MIN: Final = 40
ROWS_MAX: Final = 100
"""Of the asks, and of the tasks; what is left out is said."""

REASONS: Final = {
    "all_in": "all answers were in",
    "decided": "nothing outstanding could change it",
    "confident": "it was sure enough",
    "lead": "one answer was far enough ahead",
    "accepted": "an answer was good enough",
    "judged": "the best one was chosen",
    "combined": "one member made one answer out of all",
    "deadline": "time was over",
    "budget_exhausted": "the budget was spent",
    "no_quorum": "too few members answered",
    "nobody_left": "nobody was left to ask",
}
"""Why a run stopped, for people."""


def draw_run(view: RunView, width: int, *, ascii_only: bool = False) -> str:
    """Return the picture of one run, lines without a trailing line feed.

    Args:
        view: from the server, or from a file.
        width: columns of the terminal; below `WIDTH_MIN` that is taken instead.
        ascii_only: whether only letters of ASCII are used; others are written as `\\u6a21`.
    """
    width = max(width, WIDTH_MIN)
    if ascii_only:
        view = msgspec.convert(plain_values(msgspec.to_builtins(view)), RunView)
    lines = [*headline(view), *_tasks(view), *_votes(view), *_timeline(view, width)]
    return "\n".join(plain(fit(line, width)) if ascii_only else fit(line, width) for line in lines)


def headline(view: RunView) -> Iterator[str]:
    """What it was and how it ended, in a few lines for people."""
    members = f"{len(view.members)} member{'s' if len(view.members) != 1 else ''}"
    yield f"{clean(view.model)}  {clean(view.strategy)} of {members}  {view.ms:.1f} ms  cost {view.cost:g}"
    match view.state:
        case "running":
            yield "still running, or cut off before its end was written down"
        case "failed":
            yield f"failed: {clean(view.failure)}"
        case "undecided":
            yield f"no decision: {_why(view)}"
        case "decided":
            by = f" by {clean(view.winner)}" if view.winner else ""
            tie = ", a tie" if view.tie else ""
            yield (
                f"answer {answer_label(view.letter, view.answer)}{by}: "
                f"{view.posterior:.1%} sure, {view.agreement:.0%} of the votes{tie}"
            )
            yield f"stopped because {_why(view)}"
    if view.notes:
        yield f"notes: {clean(', '.join(view.notes))}"
    for label in view.labels:
        yield f"{clean(str(label.get('by')))} said: {label_words(label)}"
    if view.events_lost:
        yield f"{view.events_lost} events more are not kept"


def label_words(label: dict[str, object]) -> str:
    """What somebody said of a run."""
    right, answer = label.get("right"), str(label.get("answer") or "")
    words = {True: "right", False: "wrong"}.get(right) if isinstance(right, bool) else ""
    return ", ".join(part for part in (words, f"the answer is {clean(answer)}" if answer else "") if part)


def answer_label(letter: str, answer: str) -> str:
    """An answer for people: its letter, and itself where it was kept."""
    shown = "" if answer.startswith(DIGEST) else f" {clean(answer)}"
    return f"{letter}{shown}".strip() or "(none)"


def ask_words(ask: AskView) -> str:
    """What became of an ask, in one line."""
    words = [OUTCOMES.get(ask.outcome, clean(ask.outcome))]
    if ask.purpose != "answer":
        words.insert(0, clean(ask.purpose))
    if ask.why:
        words.append(clean(ask.why))
    if ask.letter:
        words.append(f"answer {answer_label(ask.letter, ask.answer)}")
    if ask.weight is not None:
        words.append(f"weight {ask.weight:+.2f}")
    if ask.confidence is not None:
        words.append(f"{ask.confidence:.0%} sure")
    if ask.tokens:
        words.append(f"{ask.tokens} tokens")
    if ask.cost:
        words.append(f"cost {ask.cost:g}")
    if ask.version:
        words.append(f"version {clean(ask.version)}")
    return ", ".join(words)


OUTCOMES: Final = {
    "won": "given to the client",
    "vote": "a vote",
    "no_vote": "no vote",
    "late": "too late",
}
"""What became of an ask, where its word alone does not say it."""


def task_words(task: TaskView) -> str:
    """What became of a task, in one line."""
    words = [clean(task.tool), clean(task.outcome), clean(task.why)]
    if task.tries > 1:
        words.append(f"{task.tries} tries")
    if task.needs:
        words.append(f"after {clean(', '.join(task.needs))}")
    return ", ".join(word for word in words if word)


def _tasks(view: RunView) -> Iterator[str]:
    if not view.tasks:
        return
    yield ""
    yield "tasks"
    for task in view.tasks[:ROWS_MAX]:
        stem = "   " * (task.level - 1) + "└─ " if task.level else ""
        yield f"{stem}{clean(task.id)}: {task_words(task)}"
    if len(view.tasks) > ROWS_MAX:
        yield f"and {len(view.tasks) - ROWS_MAX} more"


def _votes(view: RunView) -> Iterator[str]:
    """The answers, and under each of them who gave it."""
    groups: dict[tuple[str, str], list[AskView]] = {}
    for ask in view.asks:
        if ask.purpose != "judge":
            groups.setdefault((ask.letter, ask.answer) if ask.outcome in ("won", "vote") else ("", ""), []).append(ask)
    if not groups:
        return
    yield ""
    for (letter, answer), asks in sorted(groups.items(), key=lambda each: (not each[0][0], each[0][0] != view.letter)):
        total = sum(ask.weight or 0.0 for ask in asks)
        decided = "  ◀ decided" if letter and letter == view.letter else ""
        yield f"{answer_label(letter, answer)}  {total:+.2f}{decided}" if letter else "no vote"
        for place, ask in enumerate(asks[:ROWS_MAX]):
            stem = "└─" if place == min(len(asks), ROWS_MAX) - 1 else "├─"
            weight = "" if ask.weight is None else f"  {ask.weight:+.2f}"
            yield f"{stem} #{ask.number} {clean(ask.member)}{weight}{'' if letter else '  ' + _unvoted(ask)}"
        if len(asks) > ROWS_MAX:
            yield f"   and {len(asks) - ROWS_MAX} more"


def _unvoted(ask: AskView) -> str:
    return ", ".join(part for part in (ask.outcome.replace("_", " "), clean(ask.why)) if part)


def _timeline(view: RunView, width: int) -> Iterator[str]:
    rows = [(f"#{ask.number} {clean(ask.member)}", ask.at_ms, ask.ms, ask_words(ask)) for ask in view.asks[:ROWS_MAX]]
    tasks = [task for task in view.tasks[:ROWS_MAX] if task.tries]
    rows += [(clean(task.id), task.at_ms, task.ms, task_words(task)) for task in tasks]
    rows += [_tool_row(call) for call in view.tools[:ROWS_MAX]]
    if not rows:
        return
    rows.sort(key=lambda row: row[1])
    total_ms = max(view.ms, 0.001)
    name_cells = min(max(max(cells(row[0]) for row in rows), 5), 24)
    yield ""
    for name, at_ms, ms, words in rows:
        drawn = bar(at_ms / total_ms, ms / total_ms, width - name_cells - 14)
        yield f"{padded(name, name_cells)}{ms:>9.1f} ms {drawn}"
        yield f"    {words}"
    if len(view.asks) > ROWS_MAX:
        yield f"and {len(view.asks) - ROWS_MAX} asks more"


def _tool_row(call: dict[str, object]) -> tuple[str, float, float, str]:
    at_ms, ms = (float(v) if isinstance(v, (int, float)) else 0.0 for v in (call.get("at_ms"), call.get("ms")))
    words = [clean(str(call[name])) for name in ("outcome", "code", "task") if call.get(name)]
    return f"tool {clean(str(call.get('tool', '')))}", max(at_ms - ms, 0.0), ms, ", ".join(words) or "called"


def _why(view: RunView) -> str:
    words = REASONS.get(view.reason) or clean(view.reason) or "nothing says why"
    stopped = view.stopped if view.stopped != view.reason else ""
    return f"{words} ({REASONS.get(stopped, clean(stopped))})" if stopped else words
