"""The promises of updates (docs/model-updates.md) for a model of ONNX Runtime: G1 to G4, G6 and G7."""

from __future__ import annotations

import asyncio
import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.unit.inference.onnx_versions import folder, noisy
from tests.unit.inference.worlds import KEY, Reply

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.onnx_model import open_onnx
from open_autoglm.engines.past_model import PastModel
from open_autoglm.inference.folder_versions import adopt, load, needed_bytes, pack
from open_autoglm.inference.model_memory import free_bytes
from open_autoglm.inference.model_store import ModelStore, StoredVersion
from open_autoglm.inference.node_updates import NodeUpdates
from open_autoglm.inference.publisher import Publisher
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.trial import try_apart
from open_autoglm.inference.update_receiver import Commit, UpdateReceiver
from open_autoglm.inference.validation import answer
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.chunks import CHUNK_BYTES_MIN, cut
from open_autoglm.rollout.delta import BodySource
from open_autoglm.rollout.manifest import GoldenPrompt
from open_autoglm.rollout.reception import Offer
from open_autoglm.rollout.refusal import UpdateRefused

SETTINGS = EngineSettings(threads=1)
SCALE = 0.02


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions `0`, `1` and `2`, ready to be sent."""
    root = tmp_path_factory.mktemp("packed")
    for seed in range(3):
        source = folder(root / f"folder-{seed}", seed=seed, scale=SCALE * min(seed, 1))
        pack(source, root / str(seed), "tiny", KEY)
    return root


class World:
    """A node's part with one model that was started from a folder."""

    def __init__(self, packed: Path, data: Path) -> None:
        self.packed = packed
        self.data = data
        self.engine = Engine(open_onnx(packed / "folder-0", "tiny", threads=1), slots=4)
        self.updates = NodeUpdates(
            {"tiny": self.engine}, data, KEY, sources={"tiny": f"onnx:{packed / 'folder-0'}"}, settings=SETTINGS
        )
        self.publisher = self.updates.publishers["tiny"]
        self.receiver = UpdateReceiver(self.updates.publishers, KEY)
        self.first = self.engine.version

    def ask(self, text: str = "12 + 30", **fields: Any) -> Reply:
        reply = Reply()
        asked = [{"role": "user", "content": text}]
        self.engine.submit(GenerateRequest(asked, max_tokens=20, **fields), reply.deliver)
        return reply

    def receive(self, path: Path, **changes: Any) -> str:
        """Send a packed version in chunks, as differences from the first one."""
        with StoredVersion(path, KEY) as sent, StoredVersion(self.packed / "0", KEY) as parent:
            made = manifests.sign(msgspec.structs.replace(sent.manifest, **changes), KEY)
            body = sent.body()
            same = len(parent.body()) == len(body)
            plan = cut(body, CHUNK_BYTES_MIN)
            told = made.encode().decode(), sent.config.decode(), plan, self.first if same else None
            source = BodySource(plan, body, parent.body() if same else None, word_bytes=1)
        name, progress = self.receiver.begin(Offer(*told))
        while progress.missing:
            for index in [index for first, count in progress.missing for index in range(first, first + count)]:
                progress = self.receiver.chunk(name, index, *source.encoded(index))
        return self.receiver.stage(name)

    def refused(self, path: Path, **changes: Any) -> str:
        """Send what must not be taken, and see that nothing has changed."""
        with pytest.raises(UpdateRefused) as caught:
            self.receive(path, **changes)
        assert self.engine.version == self.first
        assert self.publisher.staged is None
        assert self.updates.store.versions("tiny") == [self.first]
        assert self.ask().usage.version == self.first
        return caught.value.reason


@pytest.fixture
def world(packed: Path, tmp_path: Path) -> Iterator[World]:
    made = World(packed, tmp_path / "data")
    made.engine.start()
    yield made
    made.engine.close()
    made.updates.desk.close()


def alone(world: World, version: str, text: str, count: int) -> list[int]:
    """Tokens of an answer by one version, loaded for the purpose."""
    with world.updates.store.open("tiny", version) as stored:
        return answer(load(stored, "tiny", SETTINGS), text, count)[1]


def test_a_folder_and_what_is_packed_of_it_are_one_version(packed: Path, world: World, tmp_path: Path) -> None:
    with StoredVersion(packed / "0", KEY) as stored:
        assert stored.manifest.version == world.first
    again = ModelStore(tmp_path / "again", key=KEY)
    assert adopt(again, "tiny", folder(tmp_path / "same")).version == world.first
    assert adopt(again, "tiny", folder(tmp_path / "other", seed=1, scale=SCALE)).version != world.first


def test_g1_g6_every_pass_computes_with_one_version_and_every_token_is_of_the_version_that_it_claims(
    world: World,
) -> None:
    seen: list[tuple[str, list[int]]] = []

    class Noting:
        """A version that notes who computed which rows."""

        def __init__(self, inner: PastModel) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def decode(self, cache: Any, tokens: Any, lengths: Any) -> Any:
            seen.append((self.inner.version, tokens.tolist()))
            return self.inner.decode(cache, tokens, lengths)

    version = world.receive(world.packed / "1")
    with world.updates.store.open("tiny", version) as stored:
        second = Noting(load(stored, "tiny", SETTINGS))
    replies = [world.ask(f"what is {number}") for number in range(8)]
    assert replies[0].first.wait(20)
    world.engine.publish(second, "follow")
    for number, reply in enumerate(replies):
        usage = reply.usage
        claimed = {place: span.version for span in usage.spans for place in range(span.start, span.end)}
        assert set(claimed.values()) | {usage.version} <= {world.first, version}
        if not usage.spans:
            said = alone(world, usage.version, f"what is {number}", 20)
            assert usage.completion_tokens in (len(said), len(said) + 1)
    assert {name for name, _ in seen} == {version}


def test_g2_what_runs_ends_on_its_version_and_two_versions_live_at_most(world: World) -> None:
    version, third = world.receive(world.packed / "1"), ""
    running = world.ask("tell me a story")
    running.gate.clear()
    assert running.first.wait(20)
    world.receiver.commit(Commit("tiny", version))
    third = world.receive(world.packed / "2")
    with pytest.raises(UpdateRefused, match="two versions live") as caught:
        world.receiver.commit(Commit("tiny", third))
    assert caught.value.reason == "busy"
    assert len(world.engine.versions()) == 2
    running.gate.set()
    assert (running.usage.version, running.usage.spans) == (world.first, ())
    assert world.ask().usage.version == version


def test_g4_going_back_needs_no_loading_and_a_restart_serves_the_last(world: World, packed: Path) -> None:
    version = world.receive(packed / "1")
    world.receiver.commit(Commit("tiny", version))
    shutil.rmtree(world.data / "models" / "tiny" / world.first)  # what is in memory is enough
    assert world.publisher.rollback() == world.first
    assert world.ask().usage.version == world.first
    assert world.publisher.rollback() == version
    asyncio.run(world.updates.close())
    again = World(packed, world.data)
    assert again.engine.version == version
    again.engine.close()
    again.updates.desk.close()


def test_a_folder_of_incoming_versions_is_looked_through(world: World) -> None:
    shutil.copytree(world.packed / "2", world.data / "incoming" / "tiny" / "two")
    (taken,) = world.updates._watch.scan()
    assert world.publisher.staged == taken
    assert world.engine.version == world.first


def broken(path: Path, model: bytes) -> Path:
    pack(folder(path / "folder", model=model), path / "packed", "tiny", KEY)
    return path / "packed"


def graph(packed: Path) -> bytes:
    return (packed / "folder-0" / "model.onnx").read_bytes()


def test_g3_what_is_wrong_is_never_visible(world: World, packed: Path, tmp_path: Path) -> None:
    data = graph(packed)
    assert world.refused(broken(tmp_path / "nan", noisy(data, float("nan"), 1))) == "not_finite"
    assert world.refused(broken(tmp_path / "cut", data[:-3000])) == "format"
    assert world.refused(broken(tmp_path / "noise", noisy(data, 3.0, 1))) == "drift"
    golden = (GoldenPrompt("12 + 30", "something else"),)
    assert world.refused(packed / "1", golden=golden) == "golden"
    assert world.refused(packed / "1", version="0" * 64) == "manifest"


def test_a_version_of_another_engine_or_without_its_text_is_refused(world: World, packed: Path, tmp_path: Path) -> None:
    with StoredVersion(packed / "1", KEY) as stored:
        told = stored.manifest
    for number, properties in enumerate(({"engine": "embedded"}, {**told.properties, "text": 1}, {"engine": "onnx"})):
        changed = msgspec.structs.replace(told, properties=properties)
        version = manifests.content_version(changed)
        assert world.refused(packed / "1", properties=properties, version=version) == "format", number


def publisher(world: World, free: int | None) -> Publisher:
    return Publisher(
        world.engine,
        world.updates.store,
        functools.partial(load, name="tiny", settings=SETTINGS),
        world.engine.model,
        needed_bytes=needed_bytes,
        free_bytes=lambda: free,
    )


def test_g7_what_does_not_fit_beside_the_version_that_serves_is_refused(world: World, tmp_path: Path) -> None:
    version = adopt(world.updates.store, "tiny", folder(tmp_path / "next", seed=1, scale=SCALE)).version
    short = publisher(world, 1000)
    with pytest.raises(UpdateRefused, match="1000 are free") as caught:
        short.stage(version)
    assert caught.value.reason == "memory"
    assert world.ask().usage.version == world.first
    for free in (None, 1 << 30):
        fits = publisher(world, free)
        fits.stage(version)
        assert fits.staged == version


def test_the_version_before_gives_way_when_memory_is_short(world: World, tmp_path: Path) -> None:
    store = world.updates.store
    second, third = (
        adopt(store, "tiny", folder(tmp_path / str(seed), seed=seed, scale=SCALE)).version for seed in (1, 2)
    )
    left = [1 << 30]
    made = Publisher(
        world.engine,
        store,
        functools.partial(load, name="tiny", settings=SETTINGS),
        world.engine.model,
        needed_bytes=needed_bytes,
        free_bytes=lambda: left[0] if len(world.engine.versions()) == 2 else 1 << 30,
    )
    made.publish(second)
    left[0] = 1000
    made.stage(third)
    assert [live.version for live in world.engine.versions()] == [second]
    with pytest.raises(UpdateRefused, match="no version"):
        made.rollback()
    made.publish(third)
    assert made.rollback() == second


def test_memory_is_that_of_the_machine_or_of_its_control_group(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 60 kB\n")
    assert free_bytes(tmp_path) == 60 << 10
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("50000\n")
    (group / "memory.current").write_text("45000\n")
    (group / "memory.stat").write_text("anon 20000\ninactive_file 10000\nactive_file 15000\n")
    assert free_bytes(tmp_path) == 30_000
    (group / "memory.max").write_text("max\n")
    assert free_bytes(tmp_path) == 60 << 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": (sys.executable, "-c", "import os; os.abort()")}, "signal 6"),
        ({"command": (sys.executable, "-c", "raise SystemExit(3)")}, "code 3"),
        ({"command": (sys.executable, "-c", "import time; time.sleep(60)"), "deadline_s": 0.1}, r"longer than 0\.1 s"),
        ({"command": ("/no/such/program",)}, "cannot be tried"),
        ({"memory_bytes": 120 << 20}, "cannot use the version|bytes of addresses|ended by"),
    ],
)
def test_a_version_that_brings_its_process_down_is_refused(packed: Path, options: dict[str, Any], message: str) -> None:
    with StoredVersion(packed / "1", KEY) as stored, pytest.raises(UpdateRefused, match=message):
        try_apart(stored, "tiny", SETTINGS, **options)


def test_a_version_is_tried_apart_with_nothing_of_the_environment_that_could_be_secret(packed: Path) -> None:
    code = (
        'import os,sys; sys.stdin.read(); print(\'{"reason":"format","message":"\' + \' \'.join(os.environ) + \'"}\')'
    )
    with StoredVersion(packed / "1", KEY) as stored:
        try_apart(stored, "tiny", SETTINGS)
        with pytest.raises(UpdateRefused) as caught:
            try_apart(stored, "tiny", SETTINGS, command=(sys.executable, "-c", code))
    assert "PYTEST_CURRENT_TEST" not in caught.value.message
    assert "PATH" in caught.value.message


def test_noise_moves_the_logits_of_these_versions(packed: Path) -> None:
    first, second = (open_onnx(packed / f"folder-{seed}", "tiny", threads=1) for seed in (0, 1))
    logits = [model.prefill(model.new_cache(1), 0, [[3, 200, 17]]) for model in (first, second)]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
