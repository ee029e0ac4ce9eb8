"""The part of docs/reliability.md that tells of load and time, from the results that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
BEGIN = "<!-- measured: written by benchmarks/reliability/run.py -->"
END = "<!-- end of the measured part -->"


def outages(result: Any) -> str:
    """Endpoints in trouble."""
    lines = [
        "Two endpoints, 20 requests a second, half of them streams of 1.2 s. *Tries*: attempts beside requests, from",
        "the beginning of the trouble on. *Normal*: seconds after its end until everything is answered and every",
        "endpoint has its share again.",
        "",
        "| trouble | answered rightly | refused at once | other errors | p50 ms | p99 ms | tries | normal after s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result:
        errors = row["told"] + row["lost"] + row["wrong"]
        lines.append(
            f"| {row['case']} | {row['right_percent']:g} % of {row['requests']:,} | {row['refused']:,} | {errors} "
            f"| {row['p50_ms']:,.0f} | {row['p99_ms']:,.0f} | {row['tries']:.3f} | {row['normal_after_s']} |"
        )
    return "\n".join(lines)


def hour(result: Any) -> str:
    """The mixed schedule."""
    judged = result["requests"] - result["left"]
    faults = result["faults"]
    return "\n".join(
        (
            f"{result['minutes']:g} minutes, {result['rate']:g} requests a second, seed {result['seed']},",
            f"`stream_failure: {result['stream_failure']}`; three endpoints and a fallback, {len(faults)} kinds of",
            f"faults, each at least {min(faults.values())} times, never at all endpoints. Of {judged:,} requests (and",
            f"{result['left']:,} whose client left) **{result['right_percent']:.3f} % were answered rightly,",
            "character by character**;",
            f"{result['told']} got a clear error, {result['refused']} were refused, {result['lost']} lost,",
            f"**{result['wrong']} wrong**. p50 {result['p50_ms']:g} ms, p99 {result['p99_ms']:g} ms.",
        )
    )


def overload(result: Any) -> str:
    """Four times the capacity, and a greedy key."""
    flood = result["overload"]
    rows = {
        "right answers, of what the upstream can do": f"{flood['goodput_percent_of_capacity']:g} %",
        "critical requests answered": f"{flood['critical_right_percent']:g} %",
        "refusals told after": f"p50 {flood['refusal_p50_ms']:g} ms, p99 {flood['refusal_p99_ms']:g} ms",
    }
    for service, fair in result["fairness"].items():
        alone_ms = " / ".join(f"{window['p99_ms']:g}" for window in fair["alone"])
        beside_ms = " / ".join(f"{window['p99_ms']:g}" for window in fair["beside_greedy"])
        answered = min(window["right_percent"] for window in fair["beside_greedy"])
        rows[f"a modest key alone, an upstream of {service}; three times"] = f"p99 {alone_ms} ms"
        rows[f"beside a key that sends twenty times as much, an upstream of {service}; three times"] = (
            f"p99 {beside_ms} ms (the medians: {fair['p99_ratio']:g} times), {answered:g} % answered or more"
        )
    return "\n".join(
        (
            f"An upstream that serves {result['capacity_per_s']:g} requests a second is offered",
            f"{flood['offered_per_s']:,.0f}, a fifth of them of class `critical`, the rest `sheddable`.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {figure} |" for name, figure in rows.items()),
        )
    )


def hostile(result: Any) -> str:
    """Sockets that hold on."""
    alone, good = result["alone"], result["beside_hostile"]
    lines = [
        f"Beside them 100 good requests a second: {good['right']:,} of {good['requests']:,} right, p50",
        f"{good['p50_ms']:g} ms, p99 {good['p99_ms']:g} ms (alone {alone['p50_ms']:g} and {alone['p99_ms']:g} ms).",
        "",
        "| sockets | closed | the last one after |",
        "|---|---|---|",
    ]
    for kind, row in result["closed"].items():
        lines.append(f"| {row['sockets']} {kind.replace('_', ' ')} | {row['closed']} | {row['latest_s']:g} s |")
    return "\n".join(lines)


def soak(result: Any) -> str:
    """Half of the capacity for long."""
    first, last = result["first"], result["last"]
    memory = [f"{sample['rss_bytes'] / 2**20:.1f}" for sample in (first, last)]
    return "\n".join(
        (
            f"{result['minutes']:g} minutes at {result['rate_per_s']:,} requests a second; unthrottled the mix reaches",
            f"{result['capacity_per_s']:,}. {result['requests']:,.0f} requests: answers, streams, errors, clients that",
            f"leave, 20,000 sessions, 20,000 model names. Resident memory {memory[0]} → {memory[1]} MiB:",
            f"**{result['slope_mib_per_100k']:g} MiB per 100,000 requests**. Descriptors {first['descriptors']:.0f} →",
            f"{last['descriptors']:.0f}, series of metrics {first['series']:.0f} → {last['series']:.0f}.",
        )
    )


def lifecycle(result: Any) -> str:
    """Stops and starts."""
    drain, restart, kill = result["drain"], result["restart"], result["kill"]
    asked = [row for row in restart.values() if isinstance(row, dict) and "failed" in row]
    moved = restart["handed_over_after_s"]
    ready = kill["ready_after_s"]
    rows = (
        (
            "SIGTERM with streams of 20 s and 100 requests/s",
            f"{drain['streams']['failed']} of {drain['streams']['requests']} streams and "
            f"{drain['unary']['failed']} of {drain['unary']['requests']} requests failed; exit {drain['exit_code']}, "
            f"{drain['after_last_stream_s']:g} s after the last stream",
        ),
        (
            f"{restart['restarts']} hot restarts under load",
            f"{sum(row['failed'] for row in asked)} of {sum(row['requests'] for row in asked):,} failed, "
            f"{sum(row['of_them_connections_refused'] for row in asked)} connections refused; handed over after "
            f"{moved['median']:g} s, at most {moved['max']:g} s",
        ),
        (
            f"kill -9 {kill['kills']} times",
            f"ready again after {ready['median']:g} s, at most {ready['max']:g} s; "
            f"{kill['wrong_answers']} wrong answers",
        ),
    )
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {figures} |" for name, figures in rows)))


PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "outages": ("Endpoints in trouble", outages),
    "hour": ("An hour of faults", hour),
    "overload": ("More than fits", overload),
    "hostile": ("Slow and hostile clients", hostile),
    "lifecycle": ("Stop, kill, upgrade", lifecycle),
    "soak": ("Half of the capacity, for long", soak),
}


def render() -> str:
    """Return the part, from what is kept."""
    parts = []
    for name, (title, write) in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            parts.append(f"### {title}\n\n`{kept['command']}`\n\n{write(kept['result'])}")
    return "\n\n".join(parts)


def write_page() -> None:
    """Put the part between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    text = PAGE.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{PAGE} has no marks for the measured part")
    PAGE.write_text(f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}", encoding="utf-8")
