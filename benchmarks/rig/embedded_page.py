"""The section about the embedded models, from the file that `training/speed.py` writes.

A figure that the file does not hold is a dash, so that an older file still makes a page.
"""

from __future__ import annotations

from typing import Any, Final

_SLOTS: Final = ("1", "4", "16")
_NONE: Final = "–"


def embedded_section(measured: dict[str, Any]) -> str:
    """Heading, sentences and table; one row per model."""
    machine = measured.get("machine", {})
    slots = ", ".join(_SLOTS[:-1]) + " and " + _SLOTS[-1]
    lines = [
        "## The embedded models",
        "",
        f"The shipped models, run with numpy {machine.get('numpy', '')} in one process without HTTP, measured apart"
        " with `python -m training.speed --out benchmarks/results/embedded.json`"
        f" (load average then {machine.get('load_1m', 'unknown')}). Tokens per second at {slots} requests at once:"
        " bare forward passes, then whole requests through the engine. Batch gain is 16 slots over one, through the"
        " engine. First token is the median at one request, memory the whole process after the load.",
        "",
        "| model | decode tokens/s | engine tokens/s | requests/s | batch gain | first token ms | CPU µs/token at 16"
        " | load ms | memory MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, figures) for name, figures in measured.get("models", {}).items()]
    return "\n".join(lines)


def _row(name: str, figures: dict[str, Any]) -> str:
    by_slots = [figures.get("slots", {}).get(count, {}) for count in _SLOTS]
    engines = [rates.get("engine", {}) for rates in by_slots]
    alone, full = engines[0].get("tokens_per_s"), engines[-1].get("tokens_per_s")
    cells = [
        name,
        _several([rates.get("decode_tokens_per_s") for rates in by_slots]),
        _several([engine.get("tokens_per_s") for engine in engines]),
        _several([engine.get("requests_per_s") for engine in engines]),
        f"{full / alone:.1f}" if alone and full else _NONE,
        _one(engines[0].get("first_token_ms"), 2),
        _one(engines[-1].get("cpu_us_per_token"), 1),
        _one(figures.get("load_ms"), 1),
        _one(figures.get("after_mb"), 0),
    ]
    return "| " + " | ".join(cells) + " |"


def _several(values: list[float | None]) -> str:
    return " / ".join(_one(value, 0) for value in values)


def _one(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"
