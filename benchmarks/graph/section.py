"""The section about task graphs, from the file that `benchmarks/graph/run.py` writes."""

from __future__ import annotations

from statistics import median
from typing import Any, Final

_NONE: Final = "–"
_BUSY: Final = 3.0
"""Load average before the measurement from which on its times are not to be relied on."""
_ROWS: Final = (
    ("barrier, s", "barrier", "barrier_s", 2),
    ("in memory, ms/step", "memory", "step_ms", 3),
    ("CPU, ms/step", "memory", "step_cpu_ms", 3),
    ("durable, ms/step", "durable", "step_ms", 3),
    ("CPU, ms/step", "durable", "step_cpu_ms", 3),
)


def graph_section(result: dict[str, Any]) -> str:
    """Heading, sentences and table; one row per system."""
    runs, steps = result["runs"], result["steps"]
    load = result["machine"]["load_averages"][0]
    busy = ", since other work went on beside it: provisional" if load >= _BUSY else ""
    lines = [
        "## Task graphs",
        "",
        "The same graphs on our executor and on three others, each in a process of its own, measured apart with"
        " `python benchmarks/graph/run.py --publish`, after `benchmarks/setup.sh langgraph agent-framework dbos` (load"
        f" average then {load:.1f}{busy}; medians, in brackets the least and the most).",
        "",
        "- *Barrier*: A 0.1 s, then C 0.5 s, beside B 0.5 s, then D 0.1 s, then an end that needs both. 0.6 s is the"
        " least; 1.0 s takes who runs in rounds, where C waits until B is done.",
        f"- *Per step*: {runs} runs in flight, each a chain of {steps} steps that do nothing; the time for all, divided"
        " by the steps.",
        "- *Durable*: the end of each step is on the disk before the next begins; ours share a commit among all runs"
        " that wait for one.",
        "",
        "What is kept differs: we keep each step's start and end, LangGraph (durability `sync`) a checkpoint of the"
        " whole state, the Agent Framework a checkpoint file for each round, DBOS the result of each step; it has no"
        " runs in memory alone, and is made for PostgreSQL first. We, LangGraph and DBOS wait for the disk at each"
        " commit (SQLite, `synchronous=FULL`; DBOS without a write-ahead log, as it sets SQLite up); the Agent"
        " Framework does not sync its files.",
        "",
        "| system | " + " | ".join(title for title, *_ in _ROWS) + " |",
        "|---" * (len(_ROWS) + 1) + "|",
    ]
    for name, modes in result["measured"].items():
        cells = [_cell([each.get(key) for each in modes[mode]], digits) for _, mode, key, digits in _ROWS]
        lines.append(f"| {_titled(name, modes)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _titled(name: str, modes: dict[str, list[dict[str, Any]]]) -> str:
    versions = next((each["versions"] for mode in modes.values() for each in mode if "versions" in each), {})
    return f"{name} {next(iter(versions.values()), '')}".strip()


def _cell(values: list[float | None], digits: int) -> str:
    there = [value for value in values if value is not None]
    if len(there) < len(values) or not there:
        return _NONE
    return f"{median(there):.{digits}f} ({min(there):.{digits}f}–{max(there):.{digits}f})"
