"""Describing folders that came from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from open_autoglm.engines.export_manifest import describe_folder
from open_autoglm.engines.model_folder import MANIFEST, ModelFolder
from open_autoglm.engines.tokenizers_layouts import LAYOUTS, specials_of
from open_autoglm.errors import ServerError

DATA = Path(__file__).parents[2] / "data" / "onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("nothing reads this")
    write_tokenizer(tmp_path, [])
    return tmp_path


def write_tokenizer(folder: Path, tokens: list[str]) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"content": each} for each in tokens]}))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_layout_follows_from_the_special_tokens(folder: Path, layout: str) -> None:
    write_tokenizer(folder, sorted(specials_of(LAYOUTS[layout])))
    (folder / "model.safetensors").write_bytes(b"x")
    assert describe_folder(folder).text == layout
    assert describe_folder(folder, layout="plain", context=99).context == 99


def test_what_nothing_reads_is_left_out(folder: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "pytorch_model.bin"):
        (folder / name).write_bytes(b"x")
    manifest = describe_folder(folder)
    assert manifest.kind == "transformers"
    assert set(manifest.files) == {"config.json", "tokenizer.json", "model-1.safetensors", "model-2.safetensors"}
    assert ModelFolder(folder).manifest == manifest


def test_graphs_are_for_text_or_for_tensors(folder: Path, tmp_path: Path) -> None:
    shutil.copy(DATA / "tiny-glm" / "model.onnx", folder)
    assert describe_folder(folder).kind == "onnx"
    for name in ("config.json", "tokenizer.json", MANIFEST):
        (folder / name).unlink()
    assert describe_folder(folder).kind == "tensors"


def test_what_cannot_be_loaded_is_not_described(folder: Path) -> None:
    with pytest.raises(ServerError, match="neither"):
        describe_folder(folder)
    (folder / "model.safetensors").write_bytes(b"x")
    for text in ("", "{}", "[]", '{"added_tokens": [1]}', "[" * 100_000):
        (folder / "tokenizer.json").write_text(text)
        with pytest.raises(ServerError, match="no tokenizer"):
            describe_folder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ServerError, match=r"tokenizer\.json"):
        describe_folder(folder)
    assert not (folder / MANIFEST).exists()
