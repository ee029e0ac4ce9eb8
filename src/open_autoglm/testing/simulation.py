"""Run scenarios in virtual time and judge them: `python -m open_autoglm.testing.simulation --seed 7`.

Without a scenario file the seed draws one. A broken promise prints the command that replays the run; `--show` prints
all that happened in it. Many seeds (`--seeds 0-19999`) go over all cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from open_autoglm.testing.chance import random_scenario
from open_autoglm.testing.checker import Broken, Run, judge
from open_autoglm.testing.loop import START_S
from open_autoglm.testing.scenario import Expectation, Scenario, read_scenario, written
from open_autoglm.testing.world import World

_CHUNK = 25
"""Seeds that a process takes at a time."""
_TOLD_MAX = 4
"""Of one promise; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged run.

    Attributes:
        seed: of it.
        requests: that were asked.
        broken: what was not as promised or expected.
        log: what happened, for people.
    """

    seed: int
    requests: int
    broken: tuple[Broken, ...]
    log: tuple[str, ...]


def simulate(seed: int, scenario: Scenario | None = None) -> Outcome:
    """Run a scenario, or the one that the seed draws, and judge it."""
    world = World(scenario if scenario is not None else random_scenario(seed), seed)
    try:
        return _judged(world, seed)
    finally:
        # Records are hidden from the collector, so a cycle that leads through one would keep the whole world for ever.
        for record in world.records:
            record.attempts = []


def _judged(world: World, seed: int) -> Outcome:
    try:
        run = world.run()
    except (RuntimeError, AssertionError) as error:
        waiting = [f"{id_}, asked at {s.sent_s - START_S:.3f} s" for id_, (_, s) in world.seen.items() if not s.ends]
        broken = Broken("no_defect", "", f"the run ended in {error!r}; without an answer: {waiting[:5]}")
        return Outcome(seed, len(world.seen), (broken,), tuple(world.log))
    missed = [*judge(run), *_unmet(run, world.scenario.expects)]
    return Outcome(seed, len(run.seen), tuple(missed), (*world.log, *_told(run)))


def replay_line(seed: int, scenario_file: str = "") -> str:
    """The command that runs it again and shows all of it."""
    file = f" --scenario {scenario_file}" if scenario_file else ""
    return f"PYTHONPATH=src PYTHONHASHSEED=0 python -m open_autoglm.testing.simulation --seed {seed}{file} --show"


def explain(outcome: Outcome, scenario_file: str = "") -> str:
    """What was broken, and how to see it again."""
    lines = [f"seed {outcome.seed}: {len(outcome.broken)} broken"]
    for promise in dict.fromkeys(one.promise for one in outcome.broken):
        told = [f"  {one.promise} {one.id}: {one.detail}" for one in outcome.broken if one.promise == promise]
        lines += [*told[:_TOLD_MAX], *([f"  {promise} and {len(told) - _TOLD_MAX} more"] * (len(told) > _TOLD_MAX))]
    return "\n".join([*lines, f"  {replay_line(outcome.seed, scenario_file)}"])


def _unmet(run: Run, expects: tuple[Expectation, ...]) -> Iterator[Broken]:
    for one in expects:
        figure = _figure(run, one)
        if figure is not None and (figure < one.figure if one.least else figure > one.figure):
            bound = "at least" if one.least else "at most"
            yield Broken("expected", "", f"{one.of} {one.key}: {figure:.4g}, {bound} {one.figure:g} was expected")


def _figure(run: Run, one: Expectation) -> float | None:
    seen = [s for q, s in run.seen.values() if s.end != "left" and one.key in ("", q.key.removeprefix("key-"))]
    if run.closed_s:
        seen = [s for s in seen if s.sent_s < run.closed_s - 0.1]  # those on their way may be too late
    records = run.records or []
    match one.of:
        case "answered":
            return sum(s.right for s in seen) / len(seen) if seen else None
        case "rescued":
            tried = [r for r in records if len(r.attempts) > 1]
            return sum(r.status == 200 and not r.code for r in tried) / len(tried) if tried else None
        case "calls":
            return len(run.asked) / max(1, len(run.seen))
        case "continued":
            return sum(s.failover is not None for s in seen)
        case "refused":
            return sum(s.status in (429, 503) for s in seen)
        case "retried":
            return sum(len(r.attempts) > 1 for r in records)
        case "hedged":
            return sum(any(a.detail == "another attempt was faster" for a in r.attempts) for r in records)
        case _:
            return sum("x-mcp-queue-position" in s.headers for s in seen)


def _told(run: Run) -> Iterator[str]:
    """What each client saw and who was asked for it, in the order of asking."""
    for id_, (question, seen) in run.seen.items():
        kind = "stream" if question.stream else "unary"
        calls = ", ".join(
            f"{c.upstream} {c.arrived_s - seen.sent_s:+.3f}..{(c.done_s or c.left_s) - seen.sent_s:+.3f}"
            f"{' left' if c.left_s else ''}"
            for c in run.calls.get(id_, ())
        )
        took_s = seen.ended_s - seen.sent_s
        yield f"{seen.sent_s - START_S:9.3f} {id_} {kind} {took_s:.3f} s: {seen.told()} [{calls}]"


def _simulate_chunk(seeds: range, text: str) -> list[Outcome]:
    scenario = read_scenario(text) if text else None
    return [simulate(seed, scenario) for seed in seeds]


def _run_many(seeds: range, file: str, jobs: int) -> int:
    """Run many seeds over some processes; print progress and what is broken."""
    text = Path(file).read_text(encoding="utf-8") if file else ""
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    done = requests = 0
    failing: list[int] = []
    began_s = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        for outcomes in pool.map(_simulate_chunk, chunks, [text] * len(chunks)):
            for outcome in outcomes:
                done += 1
                requests += outcome.requests
                if outcome.broken:
                    failing.append(outcome.seed)
                    print(explain(outcome, file), flush=True)
            if done % 500 < _CHUNK:
                print(f"{done} of {len(seeds)} seeds, {requests} requests, {len(failing)} failing", flush=True)
    took_s = time.monotonic() - began_s
    print(f"{done} seeds, {requests} requests in {took_s:.0f} s: {len(failing)} failing {failing[:50]}")
    return 1 if failing else 0


def _run_until_broken(seeds: range, file: str) -> int:
    """Run one seed after the other, as far as the first that breaks a promise."""
    scenario = read_scenario(Path(file).read_text(encoding="utf-8")) if file else None
    for seed in seeds:
        outcome = simulate(seed, scenario)
        if outcome.broken:
            print(explain(outcome, file))
            return 1
    print(f"{len(seeds)} seeds, every promise kept")
    return 0


def main(words: list[str] | None = None) -> int:
    """Run what is typed; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m open_autoglm.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of one run")
    parser.add_argument("--seeds", default="", metavar="A-B", help="many runs instead, both ends included")
    parser.add_argument("--first", action="store_true", help="stop at the first of many that breaks a promise")
    parser.add_argument("--scenario", default="", metavar="FILE", help="instead of one that the seed draws")
    parser.add_argument("--show", action="store_true", help="print all that happened")
    parser.add_argument("--write", action="store_true", help="print the scenario as a file, and do not run it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for many runs")
    asked = parser.parse_args(words)
    try:
        scenario = read_scenario(Path(asked.scenario).read_text(encoding="utf-8")) if asked.scenario else None
        seeds = _seeds(asked.seeds)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if seeds:
        return _run_until_broken(seeds, asked.scenario) if asked.first else _run_many(seeds, asked.scenario, asked.jobs)
    if asked.write:
        print(written(scenario or random_scenario(asked.seed)), end="")
        return 0
    outcome = simulate(asked.seed, scenario)
    if asked.show:
        print("\n".join(outcome.log))
    if outcome.broken:
        print(explain(outcome, asked.scenario))
        return 1
    print(f"seed {outcome.seed}: {outcome.requests} requests, every promise kept")
    return 0


def _seeds(text: str) -> range:
    """Read `A-B`, both included; nothing is no seed."""
    first, _, last = text.partition("-")
    if text and not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ValueError(f"{text!r} are no seeds; write them as 0-99")
    return range(int(first), int(last) + 1) if text else range(0)


if __name__ == "__main__":
    sys.exit(main())
