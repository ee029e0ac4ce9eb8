"""Figures of the drill of live updates, and the table of them in `docs/model-updates.md`."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.live.streams import Stream

BEGIN = "<!-- measured: python benchmarks/live_update.py -->"
END = "<!-- end of what was measured -->"


def gaps_ms(streams: list[Stream], from_s: float, until_s: float) -> dict[str, float]:
    """First-event times and gaps between events of what was told within a time, in milliseconds."""
    first, between = [], []
    for stream in streams:
        times = [at_s for at_s in stream.times_s if from_s <= at_s < until_s]
        if times and times[0] == stream.times_s[0]:
            first.append(times[0] - stream.begun_s)
        between += [after - before for before, after in itertools.pairwise(times)]
    return {
        "first_p50": _quantile(first, 0.5),
        "first_p99": _quantile(first, 0.99),
        "between_p50": _quantile(between, 0.5),
        "between_p99": _quantile(between, 0.99),
        "events_per_s": round(len(between) / (until_s - from_s), 1),
    }


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def write_page(result: dict[str, Any], page: Path) -> None:
    """Put the figures between their marks."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(result)}\n\n{END}{after}", encoding="utf-8")


def _causes(causes: dict[str, Any]) -> list[tuple[str, str]]:
    """What the time between two passes went to, with a swap between them and without: p50 and p99."""
    names = {
        "wall": "between two computations, the telling of tokens included",
        "computing": "of it the engine worked",
        "no_core": "was ready and had no core",
        "collecting": "waited for Python's collector",
        "waiting": "waited for a lock",
    }
    swap, none = causes["swap"], causes["none"]
    return [
        (f"{what}, p50 and p99: with a swap, without", f"{_pair(swap[part])}, {_pair(none[part])}")
        for part, what in names.items()
    ]


def _pair(quantiles: list[float]) -> str:
    return f"{quantiles[0]} and {quantiles[1]} ms"


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    checked, pause, refused = result["checked"], result["pause_ms"], result["refused"]
    reasons = Counter(each["outcome"] for each in refused)
    kept = sum(each["serves"] == "True" for each in refused)
    told = ", ".join(f"{count} `{reason}`" for reason, count in reasons.most_common())
    quiet, busy, took = result["quiet"], result["updating"], result["update_s"]
    right = len(refused) - reasons["taken"]
    rows = [
        ("streams at a time, answers, seconds", f"{result['streams']}, {result['answers']:,}, {result['seconds']:g}"),
        ("swaps and rollbacks, versions that answered", f"{result['swaps']}, {checked['versions']}"),
        ("**broken streams**", f"**{result['broken']}**"),
        ("tokens checked, **not what the claimed version computes**", f"{checked['tokens']:,}, **{checked['wrong']}**"),
        ("of these, ties within 0.001 of the largest logit", f"{checked['ties']}"),
        (
            "tokens computed with the other version too, and those that it would have chosen otherwise",
            f"{checked.get('compared', checked['tokens']):,}, {checked['telling']:,}",
        ),
        ("answers that two versions computed (`follow`)", f"{checked['spans']}"),
        (
            "pause by a swap, beyond a forward pass: p50, **p99**, largest",
            f"{pause['p50']} ms, **{pause['p99']} ms**, {pause['max']} ms ({pause['measured']} measured)",
        ),
        *(_causes(result["pause_causes_ms"]) if "pause_causes_ms" in result else ()),
        ("corrupted updates: sent, **refused, old version serving**", f"{len(refused)}, **{right}, {kept}**"),
        ("why refused", told),
        ("an update, from the offer to staged: p50, longest", f"{took['p50']} s, {took['max']} s"),
        (
            "first event of an answer, p50 and p99: quiet, while updating",
            f"{quiet['first_p50']} and {quiet['first_p99']} ms, {busy['first_p50']} and {busy['first_p99']} ms",
        ),
        (
            "between two events, p50 and p99: quiet, while updating",
            f"{quiet['between_p50']} and {quiet['between_p99']} ms, {busy['between_p50']} and {busy['between_p99']} ms",
        ),
        ("events a second: quiet, while updating", f"{quiet['events_per_s']:,}, {busy['events_per_s']:,}"),
    ]  # fmt: skip
    machine, commit = result["machine"], result["commit"]
    load = ", ".join(f"{each:.1f}" for each in machine["load_averages"])
    lines = ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
    lines.append("")
    lines.append(
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, load averages {load}, "
        f"commit {commit['commit']}."
    )
    return "\n".join(lines)
