"""Swaps a model's versions while 32 streams run, and sends fifty updates that must be refused.

    python benchmarks/live_update.py [--swaps 60]

Writes `benchmarks/results/live_update.json` and the table in `docs/model-updates.md`. One process: the engine's thread,
one thread that sends and receives updates as a node does, and the streams. Afterwards every token of every answer is
computed again with the version that the answer claims for it.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import open_autoglm.engines  # noqa: F401 - asks for one BLAS thread, which must be before numpy is imported
from benchmarks.live.checker import Checker
from benchmarks.live.corrupted import Update, Whole, corrupted, good
from benchmarks.live.figures import gaps_ms, write_page
from benchmarks.live.pauses import Pauses
from benchmarks.live.streams import NotingModel, Stream, Streams
from benchmarks.rig import machine
from open_autoglm import clock
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.step_model import StepModel
from open_autoglm.inference import embedded_versions
from open_autoglm.inference.model_store import ModelStore, StoredVersion
from open_autoglm.inference.publisher import Publisher, UpdateEvent
from open_autoglm.inference.update_receiver import Commit, UpdateReceiver
from open_autoglm.inference.validation import ValidationRules
from open_autoglm.resilience.token_bucket import TokenBucket
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Effect, SendChunk, Transmission

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "live_update.json"
PAGE = ROOT / "docs" / "model-updates.md"
NAME = "glm-calc-s"
KEY = b"key of the drill"
BYTES_PER_S = 4e6
STREAMS = 32
CORRUPTED = 50


class Drill:
    """One node with one model, its streams, and what was sent to it."""

    def __init__(self, folder: Path) -> None:
        self.open_streams: dict[str, Stream] = {}
        self.pauses = Pauses(lambda: self.engine._versions._swaps_total if hasattr(self, "engine") else 0)
        self.models: dict[str, StepModel] = {}
        self.store = ModelStore(folder, key=KEY)
        self.first = embedded_versions.adopt(self.store, NAME, "1")
        with self.store.open(NAME, self.first.version) as stored:
            serving = self._load(stored)
            self.bodies = {self.first.version: stored.body()}
            self.config = stored.config
        self.release = embedded_versions.adopt(self.store, NAME)
        with self.store.open(NAME, self.release.version) as stored:
            self.release_body = stored.body()
        self.events: list[UpdateEvent] = []
        self.engine = Engine(serving, slots=STREAMS)
        rules = ValidationRules(probes=embedded_versions.PROBES)
        self.publisher = Publisher(
            self.engine, self.store, self._load, serving, rules=rules, on_event=self.events.append
        )
        self.receiver = UpdateReceiver({NAME: self.publisher}, KEY)
        self.order = [self.first.version]
        self.sent_bytes = self.swap_busy = 0
        self.update_s: list[float] = []

    def _load(self, stored: StoredVersion) -> StepModel:
        model = NotingModel(embedded_versions.load(stored), self.open_streams, self.pauses)
        self.models[model.version] = model.inner
        return model

    def whole(self, seed: int) -> Whole:
        """The next version: the release, with a little noise that makes it one of a kind."""
        import numpy as np

        words = np.frombuffer(self.release_body, "<f2").astype(np.float32)
        noise = np.random.default_rng(seed).standard_normal(len(words)).astype(np.float32)
        body = (words + np.float32(0.03) * noise).astype("<f2").tobytes()
        parent = self.engine.version
        properties = self.release.properties
        places = self.first.places()
        return Whole(NAME, self.config, properties, places, body, parent, self.bodies[parent], KEY)

    def bring(self, update: Update) -> str:
        """Send an update as a server would, and have it staged."""
        began_s = clock.monotonic()
        sender = Transmission(update, TokenBucket(BYTES_PER_S, 1 << 20, began_s))
        name, told = self.receiver.begin(update.offer)
        effects = sender.progress(told, began_s)
        while sender.state != "verifying":
            more: list[Effect] = []
            for effect in effects:
                if isinstance(effect, SendChunk):
                    chunk = update.damage((effect.index, effect.codec, effect.payload))
                    told = self.receiver.chunk(name, *chunk)
                    more += sender.progress(told, clock.monotonic())
            effects = more
            if not effects and sender.state != "verifying":
                due_s = sender.next_deadline()
                assert due_s is not None
                time.sleep(max(0.0, min(due_s - clock.monotonic(), 1.0)))
                effects = sender.handle_timeout(clock.monotonic())
        self.sent_bytes += sender.bytes_sent
        version = self.receiver.stage(name)
        self.update_s.append(clock.monotonic() - began_s)
        return version

    def swap(self, version: str, policy: str, body: bytes) -> None:
        """Commit, and again while the version before the last still has streams."""
        while True:
            try:
                self.receiver.commit(Commit(NAME, version, policy))  # type: ignore[arg-type]
                break
            except UpdateRefused as error:
                if error.reason != "busy":
                    raise
                self.swap_busy += 1
                time.sleep(0.01)
        self.bodies[version] = body
        self.order.append(version)


def run(swaps: int, quiet_s: float) -> dict[str, Any]:
    """The drill; returns its result."""
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder))
        gc.collect()
        gc.freeze()  # as a node does
        drill.engine.start()
        streams = Streams(drill.engine, STREAMS, drill.open_streams)
        streams.start()
        began_s = clock.monotonic()
        time.sleep(quiet_s)
        quiet_until_s = clock.monotonic()
        refusals: list[dict[str, str]] = []
        for number in range(swaps):
            whole = drill.whole(number)
            version = drill.bring(good(whole, delta=number % 4 != 3))
            drill.swap(version, ("pin", "follow")[number % 2], whole.body)
            if number % 10 == 9:
                back = drill.publisher.rollback()
                drill.order.append(back)
            for _ in range(-(-CORRUPTED // swaps)):
                refuse(drill, refusals)
        while len(refusals) < CORRUPTED:
            refuse(drill, refusals)
        busy_until_s = clock.monotonic()
        ended = list(streams.stop())
        figures = drill.engine.swap_figures()
        pauses_ms = sorted(pause_s * 1e3 for pause_s in drill.engine._versions._pauses_s)
        drill.engine.close()
        drill.pauses.close()
        return summary(
            drill, ended, refusals, {"pauses_ms": pauses_ms, "swaps": figures.swaps_total},
            (began_s, quiet_until_s, busy_until_s),
        )  # fmt: skip


def refuse(drill: Drill, refusals: list[dict[str, str]]) -> None:
    """Send the next corrupted update, against whatever serves now, and see what serves then."""
    if len(refusals) == CORRUPTED:
        return
    serving = drill.engine.version
    kind, update = corrupted(drill.whole(10_000 + len(refusals)), len(refusals))
    try:
        drill.bring(update)
        outcome = "taken"
    except UpdateRefused as error:
        outcome = error.reason
    refusals.append({"kind": kind, "outcome": outcome, "serves": str(drill.engine.version == serving)})


def summary(
    drill: Drill, ended: list[Stream], refusals: list[dict[str, str]], swaps: dict[str, Any], at_s: tuple[float, ...]
) -> dict[str, Any]:
    """Check every stream and put the figures together."""
    beside = dict(zip(drill.order[1:], drill.order[:-1], strict=True))
    checker = Checker(drill.models.__getitem__, lambda version: drill.models.get(beside.get(version, "")))
    broken = [stream.failed for stream in ended if stream.usage is None]
    for stream in ended:
        if stream.usage is not None:
            checker.check(stream)
    pauses = swaps["pauses_ms"]
    return {
        "machine": machine.describe(),
        "commit": machine.commit(),
        "streams": STREAMS,
        "answers": len(ended),
        "broken": len(broken),
        "broken_why": dict(Counter(failed.code for failed in broken if failed is not None)),
        "swaps": swaps["swaps"],
        "versions": len(set(drill.order)),
        "commits_that_waited": drill.swap_busy,
        "checked": asdict(checker.verdict),
        "pause_ms": {
            "measured": len(pauses),
            "p50": quantile(pauses, 0.5),
            "p99": quantile(pauses, 0.99),
            "max": quantile(pauses, 1.0),
        },
        "pause_causes_ms": drill.pauses.causes(),
        "update_s": {"p50": quantile(sorted(drill.update_s), 0.5), "max": quantile(sorted(drill.update_s), 1.0)},
        "sent_bytes": drill.sent_bytes,
        "weights_bytes": drill.first.weights_bytes,
        "quiet": gaps_ms(ended, at_s[0], at_s[1]),
        "updating": gaps_ms(ended, at_s[1], at_s[2]),
        "seconds": round(at_s[2] - at_s[0], 1),
        "refused": refusals,
    }


def quantile(ordered: list[float], share: float) -> float | None:
    """Of a sorted list; None when it is empty."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=60)
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds of streams before the first update")
    parser.add_argument("--no-write", action="store_true", help="print the result only")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.001)  # as a node does
    result = run(arguments.swaps, arguments.quiet)
    print(json.dumps({name: value for name, value in result.items() if name != "refused"}, indent=1))
    print(Counter((each["kind"], each["outcome"], each["serves"]) for each in result["refused"]))
    if not arguments.no_write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        write_page(result, PAGE)
