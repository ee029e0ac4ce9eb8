"""Measures what it costs to tell changes of a map on weak lines: `python benchmarks/dissemination.py`.

Members in virtual time, each with a link to each other one, lines that delay and lose datagrams. A change is told as
the full state each time, as what changed, or as what changed with parities; everything else is the same: numbers,
acknowledgements, timeouts. With `--publish` the figures go to `benchmarks/results/dissemination.json` and
`docs/dissemination.md`. The same seeds give the same figures.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from open_autoglm.dissemination import DeltaLink, Entry, LinkSettings, ReplicatedMap

ROOT: Final = Path(__file__).resolve().parents[1]
RESULT: Final = ROOT / "benchmarks" / "results" / "dissemination.json"
PAGE: Final = ROOT / "docs" / "dissemination.md"
MARKS: Final = ("<!-- written by benchmarks/dissemination.py -->", "<!-- end -->")

MEMBERS: Final = 5
KEYS: Final = 200
WRITES: Final = 100
BURSTS: Final = {"single changes": 1, "bursts of 20": 20}
VALUE_BYTES: Final = (50, 400)
PAUSE_S: Final = 0.5
DELAY_S: Final = (0.01, 0.04)
LOSSES: Final = (0.0, 0.01, 0.05, 0.10)
AROUND_BYTES: Final = 28 + 25
"""IPv4 and UDP, and the seal and sequence of a datagram between members."""
MODES: Final = {
    "full state": LinkSettings(),
    "delta": LinkSettings(),
    "delta, parity of 4": LinkSettings(parity=4),
}
LIMIT_S: Final = 600.0


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        sent_bytes: by all, heads of packets included.
        datagrams: sent by all.
        times_s: from each write until all members knew it.
    """

    sent_bytes: int = 0
    datagrams: int = 0
    recovered: int = 0
    times_s: list[float] = field(default_factory=list)


class Cluster:
    """Members that know the same keys at first; `run` gives the outcome of one seed."""

    def __init__(self, mode: str, loss: float, burst: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._full = mode == "full state"
        self._loss = loss
        self._burst = burst
        self._outcome = Outcome()
        names = [f"server-{number}.example" for number in range(MEMBERS)]
        self._maps = [ReplicatedMap(name, 10**15) for name in names]
        for number in range(KEYS):
            self._maps[0].write(f"weight/model-{number}", self._value(), {}, 0.0)
        for facts in self._maps[1:]:
            facts.merge(self._maps[0].everything(0.0), 0.0)
        self._links = {
            (here, there): DeltaLink(self._maps[here], names[there], 10**15, MODES[mode], synced=True)
            for here in range(MEMBERS)
            for there in range(MEMBERS)
            if here != there
        }
        self._events: list[tuple[float, int, str, Any]] = []
        self._due: dict[tuple[int, int], float] = {}
        self._open: dict[tuple[str, int], tuple[float, Entry, set[int]]] = {}
        self._made = itertools.count()

    def run(self) -> Outcome:
        """Write, lose, tell, until everybody knows everything."""
        at_s = 0.0
        for _ in range(WRITES // self._burst):
            at_s += self._rng.expovariate(1 / (PAUSE_S * self._burst**0.5))
            self._at(at_s, "write", None)
        now_s = 0.0
        while self._events and now_s < LIMIT_S:
            now_s, _, kind, what = heapq.heappop(self._events)
            if kind == "write":
                self._write(now_s)
            elif kind == "arrive":
                self._arrive(what, now_s)
            elif self._due.get(what) == now_s:
                self._serve(what, now_s)
        if self._open:
            raise RuntimeError(f"{len(self._open)} writes did not arrive in {LIMIT_S} s")
        return self._outcome

    def _at(self, when_s: float, kind: str, what: Any) -> None:
        heapq.heappush(self._events, (when_s, next(self._made), kind, what))

    def _value(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(*VALUE_BYTES))

    def _write(self, now_s: float) -> None:
        here = self._rng.randrange(MEMBERS)
        facts = self._maps[here]
        for number in self._rng.sample(range(KEYS), self._burst):
            key = f"weight/model-{number}"
            entry = facts.write(key, self._value(), facts.read(key).vector, now_s)
            self._open[entry.writer, entry.counter] = (now_s, entry, {here})
        for link in self._of(here):
            if self._full:
                self._links[link].resync()
            self._serve(link, now_s)

    def _of(self, here: int) -> Iterator[tuple[int, int]]:
        return (link for link in self._links if link[0] == here)

    def _serve(self, name: tuple[int, int], now_s: float) -> None:
        link = self._links[name]
        for datagram in link.send(now_s):
            self._outcome.datagrams += 1
            self._outcome.sent_bytes += len(datagram) + AROUND_BYTES
            if self._rng.random() >= self._loss:
                self._at(now_s + self._rng.uniform(*DELAY_S), "arrive", (name, datagram))
        self._wake(name, now_s)

    def _wake(self, name: tuple[int, int], now_s: float) -> None:
        due_s = max(self._links[name].next_deadline(), now_s + 0.001)
        if due_s < float("inf"):
            self._due[name] = due_s
            self._at(due_s, "due", name)

    def _arrive(self, what: tuple[tuple[int, int], bytes], now_s: float) -> None:
        (source, here), datagram = what
        link = self._links[here, source]
        recovered = link.recovered
        link.receive(datagram, now_s)
        self._outcome.recovered += link.recovered - recovered
        for dot, (written_s, entry, known) in list(self._open.items()):
            if here not in known and any(held.knows(entry) for held in self._maps[here].read(entry.key).entries):
                known.add(here)
                if len(known) == MEMBERS:
                    self._outcome.times_s.append(now_s - written_s)
                    del self._open[dot]
        self._wake((here, source), now_s)


def measure(mode: str, loss: float, burst: int, seeds: int) -> dict[str, Any]:
    """Return the figures of one way of telling on one kind of lines."""
    outcomes = [Cluster(mode, loss, burst, seed).run() for seed in range(seeds)]
    times_s = sorted(time_s for outcome in outcomes for time_s in outcome.times_s)
    writes = len(times_s)
    return {
        "mode": mode,
        "loss": loss,
        "burst": burst,
        "writes": writes,
        "bytes_per_write": round(sum(outcome.sent_bytes for outcome in outcomes) / writes),
        "datagrams_per_write": round(sum(outcome.datagrams for outcome in outcomes) / writes, 1),
        "recovered": sum(outcome.recovered for outcome in outcomes),
        "p50_ms": round(1000 * times_s[writes // 2], 1),
        "p99_ms": round(1000 * times_s[writes * 99 // 100], 1),
        "most_ms": round(1000 * times_s[-1], 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as the page shows them."""
    lines = [
        "| changes | lost | told as | bytes per change | datagrams per change | p50 | p99 | most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {burst: title for title, burst in BURSTS.items()}
    for row in rows:
        figures = f"{row['bytes_per_write']:,} | {row['datagrams_per_write']:,}"
        times = " | ".join(f"{row[name]:,.0f} ms" for name in ("p50_ms", "p99_ms", "most_ms"))
        lines.append(f"| {titles[row['burst']]} | {row['loss']:.0%} | {row['mode']} | {figures} | {times} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="clusters for each row")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results and docs/dissemination.md")
    options = parser.parse_args()
    rows = []
    for burst in BURSTS.values():
        for loss in LOSSES:
            for mode in MODES:
                rows.append(measure(mode, loss, burst, options.seeds))
                print(json.dumps(rows[-1]), flush=True)
    if options.publish:
        told = {"seeds": options.seeds, "members": MEMBERS, "keys": KEYS, "rows": rows}
        RESULT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        begin, end = MARKS
        head, rest = PAGE.read_text(encoding="utf-8").split(begin)
        PAGE.write_text(head + begin + "\n" + table(rows) + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
