"""The text of `docs/benchmarks.md`, made from a result.

Invariant: a cell is a measured median, or says why there is none; nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.rig.summary import GOALS, Goal, Spread, Summary
from benchmarks.rig.tables import TABLES, Column, Table
from benchmarks.rig.targets import COMPILED, DIRECT, OURS

_NONE: Final = "–"
_REASON_CHARACTERS_MAX: Final = 100


def page(result: dict[str, Any], summary: Summary, *sections: str) -> str:
    """The whole page as Markdown. `sections` are about what was measured apart; empty ones are left out."""
    targets = list(result["targets"])
    parts = [
        "# Benchmarks",
        "<!-- Made by `python benchmarks/report.py`; change that, or measure again, and not this page. -->",
        _introduction(result),
        "![CPU per request and chunk, and added latency, of all gateways](images/benchmarks.svg)",
        "## Our goals",
        goal_table(summary, targets),
        *(table_section(table, summary, targets) for table in TABLES),
        _faults(summary, targets),
        *sections,
        _configurations(result),
        _METHOD,
        _notes(summary, result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(result: dict[str, Any]) -> str:
    machine = result["machine"]
    commit = (
        f"`{result['commit']}`" + (" with uncommitted changes" if result["changed"] else "")
        if result["commit"]
        else "unknown"
    )
    return (
        f"Measured {result['measured_at'][:16].replace('T', ' ')} UTC at commit {commit} on "
        f"{machine['processor']}, {machine['cores']} cores,"
        f" {machine['memory_bytes'] / 1e9:.0f} GB, {machine['system']}, kernel {machine['kernel']}, Python "
        f"{machine['python']}:"
        f" {result['settings']['rounds']} rounds in {result['elapsed_s'] / 60:.0f} minutes, every target in "
        "every round."
        " One gateway process runs alone on core 0; load and upstream share core 1. Figures are medians; "
        "brackets hold the lowest and the highest round."
    )


def goal_table(summary: Summary, targets: list[str]) -> str:
    """Goal, our figure, and the best figure of anybody else."""
    lines = ["| figure | goal | measured | met | best other gateway |", "|---|---|---|---|---|"]
    for goal in GOALS:
        ours = summary.get(goal.scenario, OURS, goal.figure)
        sign = "≥" if goal.at_least else "≤"
        lines.append(
            f"| {goal.title} | {sign} {_number(goal.limit * goal.scale, 2)} {goal.unit} |"
            f" {_measured(ours, goal, summary)} | {_met(ours, goal)} | {_best_other(summary, goal, targets)} |"
        )
    return "\n".join(lines)


def _measured(ours: Spread | None, goal: Goal, summary: Summary) -> str:
    if ours is None:
        return _reason(summary.why_missing(goal.scenario, OURS)) or "not measured"
    return f"{_with_spread(ours, goal.scale, 2)} {goal.unit}"


def _reason(why: str) -> str:
    """A reason short enough for a cell; the whole one stands under "Missing and wrong"."""
    short = why if len(why) <= _REASON_CHARACTERS_MAX else why[:_REASON_CHARACTERS_MAX] + "…"
    return short.replace("|", "/")


def _met(ours: Spread | None, goal: Goal) -> str:
    if ours is None:
        return _NONE
    if goal.met(ours.median):
        return "yes"
    return f"no, {abs(ours.median / goal.limit - 1):.0%} {'below' if goal.at_least else 'above'}"


def _best_other(summary: Summary, goal: Goal, targets: list[str]) -> str:
    others = [
        (summary.get(goal.scenario, name, goal.figure), name)
        for name in targets
        if name not in (OURS, COMPILED, DIRECT)
    ]
    found = [(value.median, name) for value, name in others if value is not None]
    if not found:
        return _NONE
    value, name = max(found) if goal.at_least else min(found)
    return f"{name} {_number(value * goal.scale, 2)} {goal.unit}"


def table_section(table: Table, summary: Summary, targets: list[str]) -> str:
    """Heading, sentence and table; our row in bold, targets without a figure with a dash, the goal in a last row."""
    lines = [f"## {table.title}", "", table.text, ""]
    lines.append("| " + " | ".join(["target", *(column.title for column in table.columns)]) + " |")
    lines.append("|---" * (len(table.columns) + 1) + "|")
    shown = [name for name in targets if name != DIRECT or _any(table, summary, name)]
    for name in sorted(shown, key=_by_first_column(table, summary)):
        cells = [_cell(summary.get(column.scenario, name, column.figure), column) for column in table.columns]
        why = summary.why_missing(table.columns[0].scenario, name)
        if cells[0] == _NONE and why:
            cells[0] = _reason(why)
        row = ["no gateway" if name == DIRECT else name, *cells]
        lines.append("| " + " | ".join(f"**{cell}**" if name == OURS else cell for cell in row) + " |")
    goals = [_goal_of(column) for column in table.columns]
    if any(goals):
        lines.append("| " + " | ".join(["*our goal*", *(f"*{goal}*" if goal else "" for goal in goals)]) + " |")
    return "\n".join(lines)


def _any(table: Table, summary: Summary, name: str) -> bool:
    return any(summary.get(column.scenario, name, column.figure) is not None for column in table.columns)


def _by_first_column(table: Table, summary: Summary) -> Callable[[str], float]:
    first = table.columns[0]

    def key(name: str) -> float:
        value = summary.get(first.scenario, name, first.figure)
        if value is not None:
            return value.median
        return -1.0 if name == DIRECT else float("inf")

    return key


def _goal_of(column: Column) -> str:
    for goal in GOALS:
        if (goal.scenario, goal.figure) == (column.scenario, column.figure):
            return f"{'≥' if goal.at_least else '≤'} {_number(goal.limit * column.scale, column.digits)}"
    return ""


def _cell(value: Spread | None, column: Column) -> str:
    if value is None:
        return _NONE
    if column.spread:
        return _with_spread(value, column.scale, column.digits)
    return _number(value.median * column.scale, column.digits)


def _with_spread(value: Spread, scale: float, digits: int) -> str:
    middle = _number(value.median * scale, digits)
    if value.low == value.high:
        return middle
    return f"{middle} ({_number(value.low * scale, digits)}–{_number(value.high * scale, digits)})"


def _number(value: float, digits: int) -> str:
    text = f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text and digits == 2 else text


def _faults(summary: Summary, targets: list[str]) -> str:
    lines = [
        f"- {target}, {scenario}: {why}"
        for (scenario, target), why in sorted(summary.wrong.items())
        if target in targets
    ]
    if not lines:
        return "## Missing and wrong\n\nNothing: every target started, and every answer of every target was whole."
    return (
        "## Missing and wrong\n\nA target that did not start, or dropped or changed an answer, has no figures "
        "there:\n\n" + "\n".join(lines)
    )


def _configurations(result: dict[str, Any]) -> str:
    lines = [
        "## What is switched on",
        "",
        "| target | version | policies in this run | configuration |",
        "|---|---|---|---|",
    ]
    for name, target in result["targets"].items():
        where = f"[{target['config']}](../benchmarks/targets/{target['config']})" if target["config"] else _NONE
        lines.append(f"| {name} | {target['version'] or _NONE} | {target['features']} | {where} |")
    return "\n".join(lines)


def _notes(summary: Summary, result: dict[str, Any]) -> str:
    loads = ", ".join(f"{load:.1f}" for load in result["machine"]["load_averages"])
    return (
        "## How far to trust it\n\n"
        "- CPU per request is the stable figure (±8 % between days on one machine); requests/s and latencies "
        "move with the machine and with what shares it.\n"
        f"- In this run other processes and the hypervisor took at most {summary.foreign_ratio_max():.0%} of "
        "the gateway's core in any measured window;"
        f" the load averages at the start were {loads}. Above a few percent, latencies and requests/s of that "
        "run are worth little.\n"
        "- wrk asks again as soon as it is answered, so at 64 connections the latencies are those of a full "
        "gateway, and a faster gateway is also asked more.\n"
        "- Load and upstream share a core and can together carry about 65,000 requests/s; a gateway near that "
        "is limited by them, not by itself. Its CPU figure still holds.\n"
        "- nginx and HAProxy do less: no key, limit, breaker, metrics or log. They show what moving the bytes "
        "costs. The routers check no client key.\n"
        "- A gateway that answers about a hundred requests a second gets fewer streams and connections (see "
        "the columns), else it would only be seen overloaded.\n"
        "- The comparison is ours, and so is one of the targets: all configurations are linked above and can "
        "be argued with."
    )


_METHOD: Final = """## How to reproduce

On Debian 12 with Python 3.11 and two cores:

```sh
benchmarks/setup.sh                     # apt: wrk, nginx, HAProxy; the other gateways into .venvs/
python benchmarks/run.py                # all targets, three rounds, about twelve minutes; writes this page
python benchmarks/run.py --quick        # one short round, about three minutes; prints only
python benchmarks/run.py --only nginx,open-autoglm --scenario unary,paced
```

The project's own environment must be active (it has uvloop, httptools and matplotlib). How each part measures, and
what was learnt on the way, is
in [benchmarks/notes.md](../benchmarks/notes.md)."""
