"""Runs clusters of 100 members through loss, one-way partitions and crashes: `python benchmarks/membership.py`.

Each seed is one cluster in virtual time: five servers and 95 nodes, of ten datagrams one is lost. All join through one
seed address at once; there is quiet; then one of ten pairs of members cannot be heard in one direction, and five
members cannot send to half of the others; a member joins; a member's load changes; three members crash at once.
1,000 seeds take an hour or so on two cores; with `--publish` they go to `benchmarks/results/membership.json` and
`docs/cluster.md`. Exit code 1: a seed did not come to its end.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import platform
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from open_autoglm.membership.load import LoadReport  # noqa: E402
from open_autoglm.membership.settings import SwimSettings  # noqa: E402
from open_autoglm.testing.gossip_world import GossipWorld  # noqa: E402

RESULT: Final = ROOT / "benchmarks" / "results" / "membership.json"
PAGE: Final = ROOT / "docs" / "cluster.md"
MARKS: Final = ("<!-- written by benchmarks/membership.py -->", "<!-- end -->")
ROWS: Final = (
    ("join_all_s", "all start at once: everybody knows everybody", "s", 2),
    ("join_one_s", "one more joins: everybody knows it", "s", 2),
    ("load_first_s", "a load changes: the first of five servers knows", "s", 3),
    ("load_all_s", "all five know", "s", 2),
    ("death_first_s", "three crash at once: somebody takes one for dead", "s", 2),
    ("death_mean_s", "a member learns of one of the deaths, on average", "s", 2),
    ("death_all_s", "everybody knows of all three", "s", 2),
    ("quiet_bytes", "sent by a member in quiet, heads of packets included", "B/s", 0),
    ("cut_bytes", "the same while lines are cut", "B/s", 0),
)
LOSS: Final = 0.1
QUIET_S: Final = 2.0
CUT_S: Final = 3.0
LIMIT_S: Final = 15.0
SERVERS: Final = 5
CUT_PAIRS: Final = 0.1
MUTED: Final = 5
CRASHES: Final = 3


def run_seed(job: tuple[int, int]) -> dict[str, Any]:
    """Run one cluster; the figures are seconds, bytes per member and second, and counts."""
    seed, size = job
    world = GossipWorld(seed, loss=LOSS)
    names = [f"m{number}" for number in range(size)]
    for number, name in enumerate(names):
        role = "server" if number < SERVERS else "node"
        world.start(name, role=role, seeds=() if number == 0 else (names[0],))
    figures: dict[str, Any] = {"seed": seed}
    figures["join_all_s"] = world.run(LIMIT_S, lambda: all(len(world.view(name)) == size - 1 for name in names))
    world.run(1.5)  # what is still told of the joining is not quiet
    figures["quiet_bytes"] = _bytes_per_s(world, QUIET_S)
    figures["false_deaths_loss"] = _deaths(world)
    rng = random.Random(seed)
    _cut(world, names, rng)
    figures["cut_bytes"] = _bytes_per_s(world, CUT_S)
    figures["false_deaths_cut"] = _deaths(world) - figures["false_deaths_loss"]
    world.cut.clear()
    world.run(0.5)
    figures |= _changes(world, names, size)
    figures |= _crash(world, names, rng)
    figures["false_deaths_end"] = _deaths(world) - figures["deaths_true"] - figures["false_deaths_loss"]
    figures["false_deaths_end"] -= figures["false_deaths_cut"]
    return figures


def _cut(world: GossipWorld, names: list[str], rng: random.Random) -> None:
    pairs = [(a, b) for a in names for b in names if a != b]
    world.cut.update(rng.sample(pairs, int(CUT_PAIRS * len(pairs))))
    for muted in rng.sample(names, MUTED):
        world.cut.update((muted, other) for other in rng.sample(names, len(names) // 2) if other != muted)


def _changes(world: GossipWorld, names: list[str], size: int) -> dict[str, Any]:
    """A member joins; a load changes."""
    started_s = world.now_s
    world.start("late", seeds=(names[0],))
    known_s = world.run(LIMIT_S, lambda: all("late" in world.view(name) for name in names))
    servers, node = names[:SERVERS], names[-1]
    changed_s = world.now_s
    world.act(node, lambda swim, now_s: swim.set_load(LoadReport(cpu=0.9, running=4, slots=4, number=0), now_s))

    def told(name: str) -> bool:
        load = world.view(name)[node].load
        return load is not None and load.running == 4

    first_s = world.run(LIMIT_S, lambda: any(told(name) for name in servers))
    every_s = world.run(LIMIT_S, lambda: all(told(name) for name in servers))
    return {
        "join_one_s": _since(known_s, started_s),
        "load_first_s": _since(first_s, changed_s),
        "load_all_s": _since(every_s, changed_s),
        "members": size + 1,
    }


def _crash(world: GossipWorld, names: list[str], rng: random.Random) -> dict[str, Any]:
    gone = rng.sample(names[1:-1], CRASHES)
    left = [name for name in names if name not in gone]
    crashed_s = world.now_s
    before = _deaths(world)
    for name in gone:
        world.crash(name)
    sites = world.sites
    first_s = world.run(LIMIT_S, lambda: any(world.view(n)[g].state == "dead" for n in left for g in gone))
    all_s = world.run(LIMIT_S, lambda: all(world.view(n)[g].state == "dead" for n in left for g in gone))
    heard = [t - crashed_s for n in left for t, name in sites[n].deaths if name in gone and t >= crashed_s]
    true = sum(1 for n in (*left, "late") for t, name in sites[n].deaths if name in gone and t >= crashed_s)
    return {
        "death_first_s": _since(first_s, crashed_s),
        "death_mean_s": sum(heard) / len(heard) if heard else None,
        "death_all_s": _since(all_s, crashed_s),
        "deaths_true": true,
        "deaths_before": before,
    }


def _deaths(world: GossipWorld) -> int:
    return sum(len(site.deaths) for site in world.sites.values())


def _bytes_per_s(world: GossipWorld, for_s: float) -> float:
    before = sum(site.sent_bytes + site.synced_bytes for site in world.sites.values())
    world.run(for_s)
    after = sum(site.sent_bytes + site.synced_bytes for site in world.sites.values())
    return (after - before) / for_s / len(world.sites)


def _since(at_s: float | None, start_s: float) -> float | None:
    return None if at_s is None else round(at_s - start_s, 4)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Quantiles of what was measured, and sums of what was counted."""
    told: dict[str, Any] = {"seeds": len(rows), "unfinished": sum(None in row.values() for row in rows)}
    for name in ("false_deaths_loss", "false_deaths_cut", "false_deaths_end"):
        told[name] = sum(row[name] for row in rows)
    for name in rows[0]:
        if name.endswith(("_s", "_bytes")):
            values = sorted(row[name] for row in rows if row[name] is not None)
            told[name] = {share: round(_quantile(values, share), 3) for share in (0.5, 0.99, 1.0)}
    return told


def _quantile(values: list[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)] if values else float("nan")


def publish(told: dict[str, Any], members: int) -> None:
    """Write the table of `docs/cluster.md` anew, between its marks."""
    pairs = told["seeds"] * members * (members - 1)
    lines = [
        f"{told['seeds']:,} clusters of {members}:",
        "",
        "| | half of the clusters | 99 of 100 | all |",
        "|---|---|---|---|",
    ]
    for name, words, unit, digits in ROWS:
        values = [float(told[name][share]) for share in (0.5, 0.99, 1.0)]
        lines.append(f"| {words} | " + " | ".join(f"{value:,.{digits}f} {unit}" for value in values) + " |")
    false = [told[f"false_deaths_{when}"] for when in ("loss", "cut", "end")]
    lines += [
        "",
        f"Members that were taken for dead by somebody and were not: {false[0]} while datagrams were lost, {false[1]} "
        f"while lines were cut as well,\n{false[2]} in the rest, of {pairs:,} pairs of members. Deaths that were not "
        "noticed by everybody, members and loads that were not known\n"
        f"to all in the end: {told['unfinished']}.",
    ]
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(MARKS[0])
    PAGE.write_text(head + MARKS[0] + "\n" + "\n".join(lines) + "\n" + MARKS[1] + rest.split(MARKS[1])[1], "utf-8")


def main() -> int:
    """Run the seeds and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="a line for each seed; seeds that are there are not run again")
    parser.add_argument("--out", type=Path, help="a file for what came of it")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results and docs/cluster.md")
    options = parser.parse_args()
    rows = _read(options.rows)
    done = {row["seed"] for row in rows}
    jobs = [(seed, options.members) for seed in range(1, options.seeds + 1) if seed not in done]
    with multiprocessing.Pool(options.processes, initializer=gc.disable, maxtasksperchild=50) as pool:
        for row in pool.imap_unordered(run_seed, jobs):
            rows.append(row)
            if options.rows is not None:
                with options.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    told = summary(rows)
    settings = SwimSettings()
    result = {
        "command": f"python benchmarks/membership.py --seeds {options.seeds} --members {options.members}",
        "members": options.members,
        "loss": LOSS,
        "interval_s": settings.interval_s,
        "python": platform.python_version(),
        "summary": told,
    }
    out = RESULT if options.publish else options.out
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")
    if out == RESULT:
        publish(told, options.members)
    print(json.dumps(told, indent=1))
    return 1 if told["unfinished"] else 0


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
