"""`autoglm export`: what it says; that it exports is in `tests/engines`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run
from open_autoglm.engines.export_onnx import check_libraries
from open_autoglm.errors import ServerError

DATA = Path(__file__).parents[3] / "data" / "onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(DATA / "tensorflow" / "model.onnx", tmp_path)
    return tmp_path


def test_a_folder_is_described(folder: Path) -> None:
    terminal = piped()
    assert run(["export", "manifest", str(folder)], terminal) == 0
    assert "for tensors: model.onnx" in out(terminal)
    terminal = piped()
    assert run(["export", "manifest", str(folder), "--json"], terminal) == 0
    assert json.loads(out(terminal))["kind"] == "tensors"


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    terminal = piped()
    assert run(["export", "manifest", str(tmp_path / "nowhere")], terminal) == 1
    assert "neither model.onnx nor safetensors" in err(terminal)


@pytest.mark.parametrize("source", ["embedded:nothing", "transformers:nowhere"])
def test_an_export_of_nothing_says_why(tmp_path: Path, source: str) -> None:
    terminal = piped()
    assert run(["export", "onnx", source, str(tmp_path / "out")], terminal) == 1
    assert "no embedded model" in err(terminal) or "is no folder" in err(terminal)
    assert "takes a minute" not in err(terminal)
    assert not (tmp_path / "out").exists()


def test_an_export_to_a_folder_with_something_in_it_is_refused_before_it_begins(folder: Path) -> None:
    terminal = piped()
    assert run(["export", "onnx", "embedded:glm-nano", str(folder)], terminal) == 1
    assert "is not empty" in err(terminal)
    assert "takes a minute" not in err(terminal)


def test_what_is_missing_for_an_export_is_said_with_the_extra_that_has_it() -> None:
    check_libraries(("json",))
    with pytest.raises(ServerError, match=r"no_such_library must be there; install open-autoglm\[export\]"):
        check_libraries(("json", "no_such_library"))
