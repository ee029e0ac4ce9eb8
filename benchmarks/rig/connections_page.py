"""The section of docs/benchmarks.md about many connections, from the result that is kept."""

from __future__ import annotations

from typing import Any, Final

_KINDS: Final = {"framed": "framed protocol, authenticated", "http": "HTTP, kept alive"}
MEMORY_MAX: Final = 400_000_000
"""Bytes for 100,000 connections, of all server processes together."""
_P99_MS_MAX: Final = 20.0
_OWN_BYTES_MAX: Final = 1500.0


def connections_section(result: dict[str, Any]) -> str:
    """What idle connections take, and how soon one of them is answered."""
    settings = result["settings"]
    load = result["machine"]["load_averages"][0]
    when = result["measured_at"][:16].replace("T", " ")
    commit = f", commit `{result['commit']}`" if result["commit"] else ""
    then = "not pinged here;"
    if settings["seconds"]:
        then = (
            f"then {settings['rate']:g} pings a second (over HTTP: requests for `/healthz`) for"
            f" {settings['seconds']:g} s, each on a connection chosen at random,"
        )
    lines = [
        "## Connections",
        "",
        f"{settings['connections']:,} connections to one server of {settings['workers']} workers, held by"
        f" {settings['clients']} client processes on the same machine, idle but for the server's own pings; {then}"
        f" {when} UTC{commit}, load average of the machine then {load:.1f}."
        " Memory is the sum of the proportional sets (PSS) of the supervisor and all workers; the kernel's is told"
        " apart, for both ends. CPU is that of all server processes, in shares of one core."
        " `python -m benchmarks.connections` measures again (five minutes).",
        "",
        "| | memory | before | per connection | kernel per connection | p50 | p99 | longest | lost, closed | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(run) for run in result["runs"]]
    lines += ["", "| goal | limit | measured | met |", "|---|---|---|---|"]
    scale = settings["connections"] / 100_000
    for run in result["runs"]:
        memory, p99_ms, own = run["pss_after"], run["p99_ms"], run["bytes_per_connection"]
        name = _KINDS[run["kind"]].split(",")[0]
        lines += [
            _goal(f"{name}: memory", f"≤ {400 * scale:.0f} MB", f"{memory / 1e6:.0f} MB", memory <= MEMORY_MAX * scale),
            _goal(f"{name}: our own goal per idle connection", "≤ 1.5 KB", f"{own:,.0f} B", own <= _OWN_BYTES_MAX),
        ]
        if p99_ms is not None:
            gone = run["lost"] + run["closed"]
            lines += [
                _goal(f"{name}: p99", f"≤ {_P99_MS_MAX:g} ms", f"{p99_ms:.1f} ms", p99_ms <= _P99_MS_MAX),
                _goal(f"{name}: pings lost, connections closed", "0", str(gone), not gone),
            ]
    return "\n".join(lines)


def _row(run: dict[str, Any]) -> str:
    cells = [
        _KINDS[run["kind"]],
        f"{run['pss_after'] / 1e6:.0f} MB",
        f"{run['pss_before'] / 1e6:.0f} MB",
        f"{run['bytes_per_connection']:,.0f} B",
        f"{run['kernel_bytes_per_connection']:,.0f} B",
        *(_shown(run[name], "{:.1f} ms") for name in ("p50_ms", "p99_ms", "max_ms")),
        "–" if run["lost"] is None else f"{run['lost']}, {run['closed']}",
        _shown(run["cpu_share"], "{:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _goal(name: str, limit: str, measured: str, met: bool) -> str:
    return f"| {name} | {limit} | {measured} | {'yes' if met else '**no**'} |"
