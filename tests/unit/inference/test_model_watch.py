"""The watch: a version is taken when its manifest is there, once, and whatever is wrong with it leaves the old one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.inference.worlds import KEY, NAME, Node

from open_autoglm.inference import embedded_versions
from open_autoglm.inference.model_store import ModelStore
from open_autoglm.inference.model_watch import ModelWatch


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "models")
    made.engine.start()
    yield made
    made.close()


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A version as a job would leave it, outside of the folder that is watched."""
    store = ModelStore(tmp_path / "elsewhere", key=KEY)
    version = embedded_versions.adopt(store, NAME).version
    return store.folder / NAME / version


def drop(dropped: Path, folder: Path, *files: str) -> Path:
    path = folder / NAME / "from-the-job"
    path.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(dropped / file, path / file)
    return path


def test_what_is_half_written_is_left_until_its_manifest_is_there(node: Node, dropped: Path, tmp_path: Path) -> None:
    watch = ModelWatch(tmp_path / "in", {NAME: node.publisher}, "publish")
    assert watch.scan() == []
    drop(dropped, tmp_path / "in", "config.json", "model.safetensors")
    assert watch.scan() == []
    assert node.events == []
    drop(dropped, tmp_path / "in", "manifest.json")
    assert watch.scan() == [dropped.name]
    assert node.answers() == dropped.name
    assert watch.scan() == []


def test_a_version_is_only_staged_when_that_is_the_wish(node: Node, dropped: Path, tmp_path: Path) -> None:
    drop(dropped, tmp_path / "in", "config.json", "model.safetensors", "manifest.json")
    assert ModelWatch(tmp_path / "in", {NAME: node.publisher}).scan() == [dropped.name]
    assert node.publisher.staged == dropped.name
    assert node.answers() == node.old.version


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "manifest.json"])
def test_a_damaged_version_is_refused_once_and_taken_when_it_was_mended(
    node: Node, dropped: Path, tmp_path: Path, file: str
) -> None:
    path = drop(dropped, tmp_path / "in", "config.json", "model.safetensors", "manifest.json")
    data = bytearray((path / file).read_bytes())
    data[-2] ^= 1
    (path / file).write_bytes(bytes(data))
    watch = ModelWatch(tmp_path / "in", {NAME: node.publisher}, "publish")
    assert watch.scan() == watch.scan() == []
    assert [event.step for event in node.events] == ["refused"]
    assert node.answers() == node.old.version
    drop(dropped, tmp_path / "in", file)
    shutil.copy(dropped / "manifest.json", path / "manifest.json")
    os.utime(path / "manifest.json", (1.0, 1.0))
    assert watch.scan() == [dropped.name]


def test_links_and_other_models_are_left_alone(node: Node, dropped: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / NAME).mkdir(parents=True)
    (tmp_path / "in" / NAME / "link").symlink_to(dropped, target_is_directory=True)
    other = tmp_path / "in" / "glm-nano" / "x"
    shutil.copytree(dropped, other)
    assert ModelWatch(tmp_path / "in", {NAME: node.publisher}).scan() == []
    assert node.events == []
    shutil.move(other, tmp_path / "in" / NAME / "x")
    assert ModelWatch(tmp_path / "in", {NAME: node.publisher}).scan() == [dropped.name]


def test_files_without_a_folder_of_their_own_are_told_once(
    node: Node, dropped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loose = tmp_path / "in" / NAME
    shutil.copytree(dropped, loose)
    (loose / ".hidden").touch()
    watch = ModelWatch(tmp_path / "in", {NAME: node.publisher})
    assert watch.scan() == watch.scan() == []
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(loose) in said
    assert "config.json and 2 more" in said
    shutil.rmtree(loose)
    assert watch.scan() == []
    shutil.copytree(dropped, loose)
    assert watch.scan() == []
    assert len(caplog.records) == 2
