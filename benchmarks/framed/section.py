"""The sections of docs/benchmarks.md about the framed path and about forms of messages, from the results that are kept.

Figures are medians of the windows, with the lowest and the highest in brackets.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

_SIDES: Final = {
    "framed": "**our client → our server → two nodes, frames**",
    "framed_compiled": "**the same, compiled**",
    "http": "bare HTTP client → our server → two nodes, frames",
    "http_compiled": "the same, server and nodes compiled",
    "rest_grpc": "bare HTTP client → aiohttp → two nodes, grpc.aio",
    "aiohttp_grpc": "aiohttp's client → aiohttp → two nodes, grpc.aio",
    "grpc": "grpc.aio client → grpc.aio → two nodes, grpc.aio",
    "direct": "our client → one node, frames, no server",
    "direct_compiled": "the same, compiled",
}
_FORMS: Final = {"framed": "plain", "framed_compiled": "compiled"}
"""What the goals are held against, and what it is called beside them."""
_LOADS: Final = {
    "many": "64 in flight (frames and gRPC: on 8 connections; HTTP: on 64)",
    "one": "One in flight",
}
_FIGURES: Final = (
    ("requests_per_s", 0),
    ("p50_ms", 2),
    ("p99_ms", 1),
    ("gateway_us", 1),
    ("nodes_us", 1),
    ("client_us", 1),
)


def framed_section(result: dict[str, Any]) -> str:
    """The comparison, and what it says of our goals."""
    settings = result["settings"]
    lines = [
        "## The framed path",
        "",
        "The same engine, one that says what it was asked, behind `autoglm node` and behind grpc.aio; prompts of 221"
        f" bytes; every answer is compared with its prompt. All sides in turn, {settings['rounds']} rounds of"
        f" {settings['windows']} windows of half a second, {_when(result)}. Gateways run on core 0, nodes and"
        " load on core 1. Compiled is what `make native` makes of client, server and nodes; nobody else's code changes"
        " by it. The bare HTTP client does as little as Python allows, so its sides look better than they do"
        " to an application; the goals are held against it all the same. CPU is per request, of the gateway, of the"
        " nodes and of the client. `python -m benchmarks.framed.run` measures again (5 minutes).",
    ]
    for load, title in _LOADS.items():
        lines += ["", f"{title}:", "", "| | requests/s | p50 ms | p99 ms | gateway µs | nodes µs | client µs |"]
        lines.append("|---|---|---|---|---|---|---|")
        for side, name in _SIDES.items():
            if _values(result, load, side, "requests_per_s"):
                cells = [_spread(_values(result, load, side, figure), digits) for figure, digits in _FIGURES]
                if side.startswith("direct"):
                    cells[3] = "–"
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *_goals(result)]
    return "\n".join(lines)


def _goals(result: dict[str, Any]) -> list[str]:
    """Each goal, beside the medians and beside the best window of each side; others' work on the machine is in both."""
    goals = (
        ("requests/s beside REST in front of gRPC, 64 in flight", "many", "requests_per_s", 20.0),
        ("p50 of REST in front of gRPC beside ours, 64 in flight", "many", "p50_ms", 10.0),
        ("requests/s beside REST in front of gRPC, one in flight", "one", "requests_per_s", 3.0),
    )
    lines = ["| goal | form | limit | of medians | of best windows | met |", "|---|---|---|---|---|---|"]
    forms = {side: form for side, form in _FORMS.items() if _values(result, "many", side, "requests_per_s")}
    for title, load, figure, limit in goals:
        for side, form in forms.items():
            ours, theirs = (_values(result, load, each, figure) for each in (side, "rest_grpc"))
            if figure == "p50_ms":
                ratios = median(theirs) / median(ours), min(theirs) / min(ours)
            else:
                ratios = median(ours) / median(theirs), max(ours) / max(theirs)
            met = _met(ratios, limit)
            lines.append(f"| {title} | {form} | ≥ {limit:g} x | {ratios[0]:.1f} x | {ratios[1]:.1f} x | {met} |")
    for title, figure, limit in (("server", "gateway_us", 10.0), ("client", "client_us", 7.0)):
        for side, form in forms.items():
            values = _values(result, "many", side, figure)
            both = median(values), min(values)
            spent = f"{both[0]:.1f} µs | {both[1]:.1f} µs | {_met((-both[0], -both[1]), -limit)}"
            lines.append(f"| CPU of our {title} per request | {form} | ≤ {limit:g} µs | {spent} |")
    return lines


def serialization_section(result: dict[str, Any]) -> str:
    """Bytes and time of messages, alone and in a call."""
    requests, calls = result["requests"], result["calls"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "## Forms of messages",
        "",
        "A question, a conversation of nine turns, and one of 61 turns with eight tools: bytes with their framing, and"
        f" CPU µs to write and to read them in Python ({versions}; {_when(result)}). Ours are dictionaries, read with"
        " our limits of depth and number; gRPC is a message object of the same `.proto`, filled and read by field.",
        "",
        *_table(requests, ("bytes", "write", "read"), ("bytes", "encode_us", "decode_us"), 2),
        "",
        "A whole call, one after another between one client and one server of one process, with a prompt of"
        f" {', '.join(calls)}: bytes of request and answer as they crossed the wire (HTTP/2 with its header tables"
        " settled), and CPU µs of both ends together.",
        "",
        *_table(calls, ("request", "answer", "CPU"), ("request_bytes", "answer_bytes", "both_ends_us"), 0),
        "",
        "`python -m benchmarks.framed.calls` measures both tables again (a minute).",
    ]
    return "\n".join(lines)


def _table(columns: dict[str, Any], titles: tuple[str, ...], figures: tuple[str, ...], digits: int) -> list[str]:
    """A line for each form, three figures for each column; bytes are whole."""
    lines = [
        "| | " + " | ".join(f"{column}: {titles[0]} | " + " | ".join(titles[1:]) for column in columns) + " |",
        "|---|" + "---|" * (len(figures) * len(columns)),
    ]
    for form in next(iter(columns.values())):
        cells = [
            f"{column[form][figure]:,.{0 if figure.endswith('bytes') else digits}f}"
            for column in columns.values()
            for figure in figures
        ]
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
    return lines


def _values(result: dict[str, Any], load: str, side: str, figure: str) -> list[float]:
    runs = (run for run in result["runs"] if run["load"] == load and run["side"] == side)
    return [run[figure] for run in runs if run[figure] is not None]


def _when(result: dict[str, Any]) -> str:
    load = result["machine"]["load_averages"][0]
    commit = f", commit `{result['commit']}`" if result["commit"] else ""
    return f"{result['measured_at'][:16].replace('T', ' ')} UTC{commit}, load average of the machine then {load:.1f}"


def _spread(values: list[float], digits: int) -> str:
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def _met(figures: tuple[float, float], limit: float) -> str:
    """By the medians; a goal that only the best windows meet is not met."""
    if figures[0] >= limit:
        return "yes"
    return "in the best windows only" if figures[1] >= limit else "**no**"
