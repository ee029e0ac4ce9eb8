"""What the tests of updates share: a small world of one node with real models, and damaged updates of every kind."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, ReasoningDelta, TextDelta, Usage
from open_autoglm.inference import embedded_versions
from open_autoglm.inference.model_store import ModelStore
from open_autoglm.inference.publisher import Publisher, UpdateEvent
from open_autoglm.inference.update_receiver import UpdateReceiver
from open_autoglm.inference.validation import ValidationRules
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.chunks import CHUNK_BYTES_MIN, cut
from open_autoglm.rollout.delta import BodySource
from open_autoglm.rollout.manifest import GoldenPrompt, Manifest
from open_autoglm.rollout.reception import Offer

NAME = "glm-calc-s"
KEY = b"cluster key of the tests"
WAIT_S = 20.0


class Reply:
    """Keeps what an engine delivers."""

    def __init__(self) -> None:
        self.events: list[GenerateEvent] = []
        self.ended = threading.Event()
        self.first = threading.Event()
        self.gate = threading.Event()  # holds the engine's thread up until it is set
        self.gate.set()

    def deliver(self, events: list[GenerateEvent]) -> None:
        self.events += events
        self.first.set()
        assert self.gate.wait(WAIT_S)
        if isinstance(events[-1], Usage | Failed):
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.events if isinstance(each, TextDelta | ReasoningDelta))

    @property
    def usage(self) -> Usage:
        assert self.ended.wait(WAIT_S)
        last = self.events[-1]
        assert isinstance(last, Usage), last
        return last


@dataclass
class Node:
    """One node with one model, in a folder of its own."""

    folder: Path
    rules: ValidationRules = field(default_factory=ValidationRules)
    slots: int = 4

    def __post_init__(self) -> None:
        self.store = ModelStore(self.folder, key=KEY)
        self.events: list[UpdateEvent] = []
        self.old = embedded_versions.adopt(self.store, NAME, "1")
        with self.store.open(NAME, self.old.version) as stored:
            serving = embedded_versions.load(stored)
            self.old_body = stored.body()
            self.config = stored.config
        self.engine = Engine(serving, slots=self.slots)
        self.publisher = Publisher(
            self.engine,
            self.store,
            embedded_versions.load,
            serving,
            rules=self.rules,
            on_event=self.events.append,
        )
        self.receiver = UpdateReceiver({NAME: self.publisher}, KEY)

    def ask(self, text: str, **fields: Any) -> Reply:
        reply = Reply()
        self.engine.submit(GenerateRequest([{"role": "user", "content": text}], **fields), reply.deliver)
        return reply

    def answers(self) -> str:
        """The version that answers now, asked."""
        return self.ask("12 + 30").usage.version

    def receive(self, update: Update) -> str:
        """Offer an update, send its chunks until none is missing, and return the staged version."""
        name, told = self.receiver.begin(update.offer)
        while told.missing:
            for index in [index for first, count in told.missing for index in range(first, first + count)]:
                told = self.receiver.chunk(name, index, *update.encoded(index))
        return self.receiver.stage(name)

    def close(self) -> None:
        self.engine.close()


@dataclass
class Update:
    """A version on its way: what is offered, and its chunks, which may be damaged after they were announced."""

    manifest: Manifest
    body: bytes
    config: bytes
    parent: bytes | None
    offer: Offer
    damage: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def encoded(self, index: int) -> tuple[int, bytes]:
        if index in self.damage:
            return self.damage[index]
        return BodySource(self.offer.plan, self.body, self.parent).encoded(index)


def update(
    node: Node,
    body: bytes | None = None,
    *,
    delta: bool = True,
    golden: tuple[GoldenPrompt, ...] = (),
    key: bytes = KEY,
    **fields: Any,
) -> Update:
    """An update from the node's version to `body`, or to the release that ships."""
    shipped = next_version()
    body = shipped[1] if body is None else body
    made = manifests.build(
        fields.pop("name", NAME),
        fields.pop("places", node.old.places()),
        body,
        fields.pop("config", node.config),
        parent=node.old.version,
        properties=fields.pop("properties", shipped[0].properties),
        golden=golden,
    )
    assert not fields
    manifest = manifests.sign(made, key)
    plan = cut(body, CHUNK_BYTES_MIN)
    offer = Offer(manifest.encode().decode(), node.config.decode(), plan, node.old.version if delta else None)
    return Update(manifest, body, node.config, node.old_body if delta else None, offer)


_next: list[tuple[Manifest, bytes]] = []


def next_version() -> tuple[Manifest, bytes]:
    """The release of the model that ships: a neighbouring checkpoint of the same run."""
    if not _next:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            store = ModelStore(Path(folder))
            manifest = embedded_versions.adopt(store, NAME)
            with store.open(NAME, manifest.version) as stored:
                _next.append((manifest, stored.body()))
    return _next[0]


def noisy(body: bytes, scale: float, seed: int = 1) -> bytes:
    """The same weights with so much noise."""
    words = np.frombuffer(body, "<f2").astype(np.float32)
    noise = np.random.default_rng(seed).standard_normal(len(words)).astype(np.float32)
    return (words + np.float32(scale) * noise).astype("<f2").tobytes()
