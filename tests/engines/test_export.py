"""Exports of PyTorch models: the graph means what the model means, and a graph that does not is not kept."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open_autoglm.engines import export_onnx
from open_autoglm.engines.embedded.catalog import open_model
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, ReasoningDelta, TextDelta, Usage
from open_autoglm.engines.export_onnx import compare, export_embedded
from open_autoglm.engines.model_folder import MANIFEST, ModelFolder
from open_autoglm.engines.onnx_model import open_onnx
from open_autoglm.engines.step_model import StepModel
from open_autoglm.engines.transformers_model import open_transformers
from open_autoglm.errors import ServerError
from tests.engines.tiny_models import CLASSES, FIXTURE, write_folder

HELD_OUT = Path(__file__).parents[2] / "training" / "heldout" / "arithmetic-3.jsonl"
SUMS = 200
WAIT_S = 100.0


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nano") / "onnx"
    result = export_embedded("glm-nano", out)
    assert result.alike
    assert result.tokens_alike == result.tokens > 40
    return out


def answers(model: StepModel, questions: list[str]) -> list[tuple[str, str]]:
    """What a model reasons and says, many at a time."""
    engine = Engine(model, slots=8, queue_max=len(questions))
    told: list[list[GenerateEvent]] = [[] for _ in questions]
    ended = threading.Semaphore(0)

    def ask(place: int) -> Any:
        def deliver(events: list[GenerateEvent]) -> None:
            told[place] += events
            if isinstance(events[-1], Usage | Failed):
                ended.release()

        return deliver

    engine.start()
    for place, question in enumerate(questions):
        engine.submit(GenerateRequest([{"role": "user", "content": question}], stream=False), ask(place))
    for _ in questions:
        assert ended.acquire(timeout=WAIT_S)
    engine.close()
    return [
        (
            "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
            "".join(event.text for event in events if isinstance(event, TextDelta)),
        )
        for events in told
    ]


def test_the_exported_nano_answers_held_out_sums_as_numpy_does(nano: Path) -> None:
    lines = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[:SUMS]]
    questions = [line["prompt"] for line in lines]
    told = answers(open_onnx(nano, "glm-nano", threads=1), questions)
    assert told == answers(open_model("glm-nano"), questions)
    right = sum(text == line["answer"] for (_, text), line in zip(told, lines, strict=True))
    assert right >= 0.95 * SUMS


def test_an_export_names_no_path_of_this_machine(nano: Path) -> None:
    data = (nano / "model.onnx").read_bytes()
    assert b"open_autoglm" not in data
    assert b".py" not in data


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_families_of_models_export_and_agree(tmp_path: Path, kind: str) -> None:
    result = export_onnx.export_onnx(write_folder(tmp_path / "torch", kind), tmp_path / "onnx")
    assert result.alike
    assert result.tokens_alike == result.tokens
    again = compare(open_transformers(tmp_path / "torch", "torch"), open_onnx(tmp_path / "onnx", "onnx"))
    assert again.alike


def test_graphs_that_differ_are_told_apart(tmp_path: Path) -> None:
    different = compare(open_transformers(write_folder(tmp_path / "torch", "llama"), "torch"), open_onnx(FIXTURE, "x"))
    assert not different.alike


def test_a_graph_that_is_not_the_model_is_not_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "torch", "glm4")
    original = open_transformers(folder, "original")
    with pytest.raises(ServerError, match="not the model"):
        export_onnx.keep(ModelFolder(folder), original, (FIXTURE / "model.onnx").read_bytes(), tmp_path / "onnx")
    assert not (tmp_path / "onnx" / MANIFEST).exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "mine").write_text("x")
    with pytest.raises(ServerError, match="not empty"):
        export_onnx.export_onnx(write_folder(tmp_path / "torch", "glm"), tmp_path / "onnx")
    assert [each.name for each in (tmp_path / "onnx").iterdir()] == ["mine"]


def test_the_graph_is_the_same_as_the_embedded_models_layout(nano: Path) -> None:
    numpy_model, exported = open_model("glm-nano"), open_onnx(nano, "glm-nano", threads=1)
    prompts = [[0, 1, 3, 20, 30, 4], [0, 1, 3, 4]]
    wanted = numpy_model.prefill(numpy_model.new_cache(2), 0, prompts)
    assert np.allclose(exported.prefill(exported.new_cache(2), 0, prompts), wanted, atol=1e-3)
