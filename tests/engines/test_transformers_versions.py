"""Versions of a Transformers model: the promises of docs/model-updates.md, and what is claimed of a GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, Usage
from open_autoglm.engines.model_folder import ModelFolder, write_manifest
from open_autoglm.engines.transformers_model import check_room, claim_device, open_transformers
from open_autoglm.errors import ServerError
from open_autoglm.inference.folder_versions import adopt, load, needed_bytes, pack
from open_autoglm.inference.model_store import StoredVersion
from open_autoglm.inference.node_updates import NodeUpdates
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.validation import answer
from open_autoglm.rollout.refusal import UpdateRefused
from tests.engines.tiny_models import PROPERTIES, write_folder

SETTINGS = EngineSettings(threads=1)
WAIT_S = 60.0


def version(path: Path, *, noise: float = 0.0, seed: int = 1) -> Path:
    """A folder with the random model, and so much noise in its weights."""
    import torch
    from safetensors.torch import load_file, save_file

    write_folder(path, "glm")
    if noise:
        torch.manual_seed(seed)
        tensors = load_file(path / "model.safetensors")
        save_file(
            {name: value + noise * torch.randn(value.shape) for name, value in tensors.items()},
            path / "model.safetensors",
        )
        names = ["config.json", "model.safetensors"]
        write_manifest(path, "transformers", names, text="glm-nano", properties=PROPERTIES)
    return path


class Reply:
    """What an engine delivers; it is held up until `go` is set."""

    def __init__(self) -> None:
        self.events: list[GenerateEvent] = []
        self.begun, self.ended, self.go = threading.Event(), threading.Event(), threading.Event()

    def deliver(self, events: list[GenerateEvent]) -> None:
        self.events += events
        self.begun.set()
        assert self.go.wait(WAIT_S)
        if isinstance(events[-1], Usage | Failed):
            self.ended.set()

    @property
    def usage(self) -> Usage:
        self.go.set()
        assert self.ended.wait(WAIT_S)
        assert isinstance(self.events[-1], Usage), self.events[-1]
        return self.events[-1]


class World:
    def __init__(self, folder: Path, data: Path) -> None:
        self.engine = Engine(open_transformers(folder, "tiny", threads=1), slots=2)
        sources = {"tiny": f"transformers:{folder}"}
        self.updates = NodeUpdates({"tiny": self.engine}, data, None, sources=sources, settings=SETTINGS)
        self.publisher = self.updates.publishers["tiny"]
        self.first = self.engine.version
        self.engine.start()

    def ask(self, text: str = "12 + 30") -> Reply:
        reply = Reply()
        asked = [{"role": "user", "content": text}]
        self.engine.submit(GenerateRequest(asked, max_tokens=12), reply.deliver)
        return reply


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(version(tmp_path / "folder"), tmp_path / "data")
    yield made
    made.engine.close()
    made.updates.desk.close()


def test_a_version_is_tried_swapped_and_taken_back_while_a_request_runs(world: World, tmp_path: Path) -> None:
    folder = ModelFolder(version(tmp_path / "next", noise=1e-4))
    second = adopt(world.updates.store, "tiny", folder).version
    running = world.ask("tell me")
    assert running.begun.wait(WAIT_S)
    world.publisher.publish(second)
    assert running.usage.version == world.first
    after = world.ask()
    assert after.usage.version == second
    with world.updates.store.open("tiny", second) as stored:
        said = answer(load(stored, "tiny", SETTINGS), "12 + 30", 12)[1]
    assert after.usage.completion_tokens in (len(said), len(said) + 1)
    assert world.publisher.rollback() == world.first
    assert world.ask().usage.version == world.first
    assert [live.state for live in world.engine.versions()] == ["current", "kept"]


@pytest.mark.parametrize(("noise", "reason"), [(float("nan"), "not_finite"), (5.0, "drift")])
def test_weights_that_are_wrong_are_refused(world: World, tmp_path: Path, noise: float, reason: str) -> None:
    bad = adopt(world.updates.store, "tiny", ModelFolder(version(tmp_path / "next", noise=noise))).version
    with pytest.raises(UpdateRefused) as caught:
        world.publisher.publish(bad)
    assert caught.value.reason == reason
    assert world.engine.version == world.ask().usage.version == world.first


def test_shards_become_one_version(world: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = version(tmp_path / "shards")
    tensors = sorted(load_file(path / "model.safetensors").items())
    (path / "model.safetensors").unlink()
    names = ["config.json"]
    for number, part in enumerate((tensors[:5], tensors[5:])):
        names.append(f"model-{number}.safetensors")
        save_file(dict(part), path / names[-1])
    write_manifest(path, "transformers", names, text="glm-nano", properties=PROPERTIES)
    made = pack(ModelFolder(path), tmp_path / "packed", "tiny", None)
    assert made.version == world.first
    assert needed_bytes(made) > made.weights_bytes
    with StoredVersion(tmp_path / "packed", None) as stored:
        assert load(stored, "tiny", SETTINGS).version == made.version


class Cuda:
    """Stands for `torch.cuda`."""

    def __init__(self, *, there: bool, free: int = 0, total: int = 0, reserved: int = 0, allocated: int = 0) -> None:
        self.there, self.memory, self.reserved, self.allocated = there, (free, total), reserved, allocated
        self.fractions: list[float] = []

    def is_available(self) -> bool:
        return self.there

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def mem_get_info(self) -> tuple[int, int]:
        return self.memory

    def memory_reserved(self) -> int:
        return self.reserved

    def memory_allocated(self) -> int:
        return self.allocated


def test_the_stand_in_has_what_the_library_has() -> None:
    import torch

    for name in (
        "is_available",
        "set_per_process_memory_fraction",
        "mem_get_info",
        "memory_reserved",
        "memory_allocated",
    ):
        assert callable(getattr(torch.cuda, name))
        assert callable(getattr(Cuda, name))


def test_a_process_takes_its_share_of_a_gpu_and_no_more() -> None:
    gpu = Cuda(there=True)
    assert claim_device(gpu, 0.4) == "cuda"
    assert gpu.fractions == [0.4]
    none = Cuda(there=False)
    assert claim_device(none, 0.4) == "cpu"
    assert none.fractions == []


@pytest.mark.parametrize(
    ("gpu", "fits"),
    [
        ({"free": 100, "total": 100}, 50),
        ({"free": 20, "total": 100}, 20),
        ({"free": 70, "total": 100, "reserved": 30, "allocated": 30}, 20),
        ({"free": 10, "total": 100, "reserved": 30, "allocated": 5}, 35),
        ({"free": 0, "total": 100, "reserved": 60, "allocated": 60}, 0),
    ],
)
def test_weights_that_do_not_fit_into_the_share_are_refused(gpu: dict[str, Any], fits: int) -> None:
    cuda = Cuda(there=True, **gpu)
    check_room(cuda, fits, 0.5)
    with pytest.raises(ServerError, match=f"{fits} are left of the share 0.5") as caught:
        check_room(cuda, fits + 1, 0.5)
    assert caught.value.code == "overloaded"
