"""The section of docs/benchmarks.md about the direct path, from the result that is kept."""

from __future__ import annotations

from statistics import median
from typing import Any, Final

_SIDES: Final = {"alone": "our client → node, no server", "direct": "our client → node, by tickets of our server"}
_FIGURES: Final = (("requests_per_s", 0), ("client_us", 2), ("node_us", 2), ("server_us", 2))


def direct_section(result: dict[str, Any]) -> str:
    """Both ways, and what they say of our goals."""
    settings, windows, ticket = result["settings"], result["windows"], result["ticket"]
    load = result["machine"]["load_averages"][0]
    when = result["measured_at"][:16].replace("T", " ")
    commit = f", commit `{result['commit']}`" if result["commit"] else ""
    lines = [
        "## The direct path",
        "",
        "A client that asks a node by [tickets](direct-path.md), beside the same client that talks to the same node"
        f" with no server at all: {settings['windows']} windows of {settings['seconds']:g} s each, in turn, 64 requests"
        f" in flight on 8 connections, {when} UTC{commit}, load average of the machine then {load:.1f}. Client and node"
        " share a core, the server has the other. Tickets are asked for, verified, renewed and reported on meanwhile,"
        " and what goes through the server because a ticket was used up too soon is among the direct requests."
        " Medians, with the lowest and the highest in brackets; CPU is in microseconds per request."
        " `python -m benchmarks.framed.direct` measures again (a minute).",
        "",
        "| | requests/s | client µs | node µs | server µs |",
        "|---|---|---|---|---|",
    ]
    rows = {side: [row for row in windows if row["side"] == side] for side in _SIDES}
    for side, name in _SIDES.items():
        cells = [_spread([row[figure] for row in rows[side]], digits) for figure, digits in _FIGURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [
        direct["requests_per_s"] / alone["requests_per_s"]
        for alone, direct in zip(rows["alone"], rows["direct"], strict=True)
    ]
    cpu = [
        (alone["client_us"] + alone["node_us"]) / (direct["client_us"] + direct["node_us"])
        for alone, direct in zip(rows["alone"], rows["direct"], strict=True)
    ]
    served = sum(row["requests"] for row in rows["direct"]) / max(1, sum(row["tickets"] for row in rows["direct"]))
    lines += [
        "",
        "| goal | limit | measured | met |",
        "|---|---|---|---|",
        _goal(
            "requests/s of both, each window by the one before it", "≥ 0.9", _spread(ratios, 2), median(ratios) >= 0.9
        ),
        _goal("the same by CPU of client and node", "≥ 0.9", _spread(cpu, 2), median(cpu) >= 0.9),
        _goal("requests for each ticket", "≥ 100", f"{served:,.0f}", served >= 100),
        _goal(
            "CPU of the server for a ticket, its frames included",
            "≤ 20 µs",
            f"{ticket['server_us']:.1f} µs",
            ticket["server_us"] <= 20,
        ),
        _goal("to verify a ticket", "≤ 5 µs", f"{ticket['verify_us']:.1f} µs", ticket["verify_us"] <= 5),
    ]
    return "\n".join(lines)


def _goal(name: str, limit: str, measured: str, met: bool) -> str:
    return f"| {name} | {limit} | {measured} | {'yes' if met else '**no**'} |"


def _spread(values: list[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
