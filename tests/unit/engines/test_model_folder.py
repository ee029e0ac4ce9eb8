"""Folders of models: only what the manifest names, only with the bytes that it means."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.engines.model_folder import MANIFEST, ModelFolder, write_manifest
from open_autoglm.errors import ServerError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "config.json").write_bytes(b'{"a": 1}')
    write_manifest(tmp_path, "onnx", ["model.onnx", "config.json"], text="plain")
    return tmp_path


def rewrite(folder: Path, **fields: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | fields))


def test_files_are_read_as_they_were_described(folder: Path) -> None:
    opened = ModelFolder(folder)
    assert opened.read("model.onnx") == b"weights"
    assert opened.read_json("config.json") == {"a": 1}
    assert opened.checked_path("model.onnx").read_bytes() == b"weights"
    assert opened.names(".onnx") == ["model.onnx"]


def test_version_follows_from_the_content(folder: Path) -> None:
    before = ModelFolder(folder).manifest.version
    assert write_manifest(folder, "onnx", ["config.json", "model.onnx"], text="plain").version == before
    (folder / "model.onnx").write_bytes(b"other")
    assert write_manifest(folder, "onnx", ["model.onnx", "config.json"], text="plain").version != before


@pytest.mark.parametrize("changed", [b"weightz", b"weight", b"weights and more", b""])
def test_other_bytes_are_refused(folder: Path, changed: bytes) -> None:
    (folder / "model.onnx").write_bytes(changed)
    opened = ModelFolder(folder)
    with pytest.raises(ServerError, match=r"not the file|longer"):
        opened.read("model.onnx")
    with pytest.raises(ServerError, match="not the file"):
        opened.checked_path("model.onnx")


def test_a_file_that_nobody_named_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ServerError, match="not named"):
        ModelFolder(folder).read("tokenizer.json")


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "a/b", ".hidden", "", "a\0b", "x" * 129, MANIFEST])
def test_names_stay_in_the_folder(folder: Path, name: str) -> None:
    rewrite(folder, files={name: {"bytes": 1, "sha256": "0" * 64}})
    with pytest.raises(ServerError, match="no plain name"):
        ModelFolder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "weights.pkl", "modeling_glm.py"])
def test_files_that_can_run_code_are_refused(folder: Path, name: str) -> None:
    rewrite(folder, files={name: {"bytes": 1, "sha256": "0" * 64}})
    with pytest.raises(ServerError, match="can run code"):
        ModelFolder(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 2},
        {"kind": "pickle"},
        {"files": [1]},
        {"files": {"model.onnx": {"bytes": -1, "sha256": "0" * 64}}},
        {"files": {"model.onnx": {"bytes": 1, "sha256": "0"}}},
        {"files": {str(i): {"bytes": 1, "sha256": "0" * 64} for i in range(600)}},
        {"unknown": 1},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(folder: Path, fields: dict[str, Any]) -> None:
    rewrite(folder, **fields)
    with pytest.raises(ServerError):
        ModelFolder(folder)


def test_a_manifest_nested_without_end_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(ServerError, match="cannot be used"):
        ModelFolder(folder)


def test_a_manifest_without_end_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text(" " * (2 << 20))
    with pytest.raises(ServerError, match="longer"):
        ModelFolder(folder)


def test_links_and_pipes_are_refused(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "elsewhere")
    (folder / "model.onnx").symlink_to(folder / "elsewhere")
    with pytest.raises(ServerError, match="cannot be opened"):
        ModelFolder(folder).read("model.onnx")
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(ServerError, match="no regular file"):
        ModelFolder(folder).read("model.onnx")


def test_a_folder_without_a_manifest_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="autoglm export manifest"):
        ModelFolder(tmp_path)
    with pytest.raises(ServerError, match="no folder"):
        ModelFolder(tmp_path / "nowhere")


def test_a_file_larger_than_allowed_is_not_read(folder: Path) -> None:
    with pytest.raises(ServerError, match="more than 3"):
        ModelFolder(folder).read("model.onnx", 3)
