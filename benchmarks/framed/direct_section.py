"""The section of docs/benchmarks.md about the direct path, from the result that is kept."""

from __future__ import annotations

from statistics import median
from typing import Any, Final

_SIDES: Final = {"alone": "our client → node, no server", "direct": "our client → node, by tickets of our server"}
_FIGURES: Final = (("requests_per_s", 0), ("client_us", 2), ("node_us", 2), ("server_us", 2))


def direct_section(result: dict[str, Any]) -> str:
    """Both ways in each form, and what they say of our goals."""
    settings, forms = result["settings"], result["forms"]
    load = result["machine"]["load_averages"][0]
    when = result["measured_at"][:16].replace("T", " ")
    commit = f", commit `{result['commit']}`" if result["commit"] else ""
    lines = [
        "## The direct path",
        "",
        "A client that asks a node by [tickets](direct-path.md), beside the same client that talks to the same node"
        f" with no server at all: {settings['windows']} windows of {settings['seconds']:g} s each, in turn, 64 requests"
        f" in flight on 8 connections, {when} UTC{commit}, load average of the machine then {load:.1f}. Client and node"
        " share a core, the server has the other; all three are plain Python, or [compiled](how-to/compile.md)."
        " Tickets are asked for, verified, renewed and reported on meanwhile,"
        " and what goes through the server because a ticket was used up too soon is among the direct requests."
        " Medians, with the lowest and the highest in brackets; CPU is in microseconds per request. The server's for a"
        " ticket is that of asking it for nothing else, 64 at a time."
        " `python -m benchmarks.framed.direct` measures again (two minutes).",
        "",
        "| | form | requests/s | client µs | node µs | server µs |",
        "|---|---|---|---|---|---|",
    ]
    for form, figures in forms.items():
        for side, name in _SIDES.items():
            rows = [row for row in figures["windows"] if row["side"] == side]
            cells = [_spread([row[figure] for row in rows], digits) for figure, digits in _FIGURES]
            lines.append(f"| {name} | {form} | " + " | ".join(cells) + " |")
    lines += ["", "| goal | form | limit | measured | met |", "|---|---|---|---|---|"]
    for form, figures in forms.items():
        lines += _goals(form, figures)
    return "\n".join(lines)


def _goals(form: str, figures: dict[str, Any]) -> list[str]:
    """A row for each goal."""
    ticket = figures["ticket"]
    rows = {side: [row for row in figures["windows"] if row["side"] == side] for side in _SIDES}
    pairs = list(zip(rows["alone"], rows["direct"], strict=True))
    ratios = [direct["requests_per_s"] / alone["requests_per_s"] for alone, direct in pairs]
    cpu = [
        (alone["client_us"] + alone["node_us"]) / (direct["client_us"] + direct["node_us"]) for alone, direct in pairs
    ]
    served = sum(row["requests"] for row in rows["direct"]) / max(1, sum(row["tickets"] for row in rows["direct"]))
    price, verify = ticket["server_us"], ticket["verify_us"]
    told = (
        ("requests/s, each window by the one before it", "≥ 0.9", _spread(ratios, 2), median(ratios) >= 0.9),
        ("the same by CPU of client and node", "≥ 0.9", _spread(cpu, 2), median(cpu) >= 0.9),
        ("requests for each ticket", "≥ 100", f"{served:,.0f}", served >= 100),
        ("CPU of the server for a ticket, its frames included", "≤ 20 µs", f"{price:.1f} µs", price <= 20),
        ("to verify a ticket", "≤ 5 µs", f"{verify:.1f} µs", verify <= 5),
    )
    return [
        f"| {name} | {form} | {limit} | {value} | {'yes' if met else '**no**'} |" for name, limit, value, met in told
    ]


def _spread(values: list[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
