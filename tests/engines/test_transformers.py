"""The Transformers engine: its own batching gives what the library gives, and nothing but safetensors is read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.model_folder import MANIFEST, ModelFolder, write_manifest
from open_autoglm.engines.past_model import PastModel
from open_autoglm.engines.transformers_model import load_model, open_transformers
from open_autoglm.errors import ServerError
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.sources import open_engine
from tests.engines.tiny_models import CLASSES, PROPERTIES, write_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PastModel:
    return open_transformers(write_folder(tmp_path_factory.mktemp("tiny"), "glm"), "tiny", threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "torch", "llama")


def describe(folder: Path, *names: str) -> None:
    write_manifest(
        folder, "transformers", names or ("config.json", "model.safetensors"), text="glm-nano", properties=PROPERTIES
    )


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_tokens_are_those_that_the_library_generates(tmp_path: Path, kind: str) -> None:
    import torch

    folder = write_folder(tmp_path, kind)
    model = open_transformers(folder, "tiny", threads=1)
    library, _ = load_model(ModelFolder(folder))
    prompt = [3, 200, 17, 45, 99]
    with torch.inference_mode():
        wanted = library.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)
    cache = model.new_cache(1)
    told = [int(model.prefill(cache, 0, [prompt])[0].argmax())]
    while len(told) < 12:
        logits = model.decode(cache, np.array(told[-1:]), np.array([len(prompt) + len(told) - 1]))
        told.append(int(logits[0].argmax()))
    assert told == wanted[0, len(prompt) :].tolist()


token = st.integers(0, 627)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(st.lists(token, min_size=1, max_size=30), min_size=1, max_size=4))
def test_each_row_is_told_what_it_is_told_alone(tiny: PastModel, batch: list[list[int]]) -> None:
    cache = tiny.new_cache(len(batch))
    together = [tiny.prefill(cache, 0, batch)]
    tokens, lengths = np.array([prompt[0] for prompt in batch]), np.array([len(prompt) for prompt in batch])
    together.append(tiny.decode(cache, tokens, lengths))
    for row, prompt in enumerate(batch):
        alone = tiny.new_cache(1)
        assert np.allclose(together[0][row], tiny.prefill(alone, 0, [prompt])[0], atol=1e-3)
        assert np.allclose(
            together[1][row], tiny.decode(alone, tokens[row : row + 1], lengths[row : row + 1])[0], atol=1e-3
        )


def test_a_node_opens_it_by_its_source(folder: Path) -> None:
    for source in (f"transformers:{folder}", str(folder)):
        engine = open_engine("tiny", source, EngineSettings(threads=1))
        assert isinstance(engine, Engine)
        assert (engine.name, engine.version) == ("tiny", ModelFolder(folder).manifest.version)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_never_read(folder: Path, tmp_path: Path) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (folder / "pytorch_model.bin").write_bytes(trap)
    assert open_transformers(folder, "tiny").graph.vocabulary == 628
    with pytest.raises(ServerError, match="can run code"):
        describe(folder, "config.json", "pytorch_model.bin")
    (folder / "model.safetensors").write_bytes(trap)
    describe(folder)
    with pytest.raises(ServerError, match="cannot be loaded"):
        open_transformers(folder, "tiny")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("size", [0, 4, 100, -8])
def test_truncated_weights_are_refused(folder: Path, size: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ServerError, match="SHA-256"):
        open_transformers(folder, "tiny")
    describe(folder)
    with pytest.raises(ServerError, match="cannot be loaded"):
        open_transformers(folder, "tiny")


def test_a_giant_header_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    describe(folder)
    with pytest.raises(ServerError, match="cannot be loaded"):
        open_transformers(folder, "tiny")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"model_type": ["glm"]}, "model_type"),
        ({"num_hidden_layers": 3}, "do not fit"),
        ({"hidden_size": 32}, "weights"),
        ({"vocab_size": 100}, "weights"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder: Path, fields: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    describe(folder)
    with pytest.raises(ServerError, match=message):
        open_transformers(folder, "tiny")


def test_code_of_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Evil: pass\n")
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    describe(folder)
    open_transformers(folder, "tiny")
    assert not (tmp_path / "sprung").exists()


def test_a_folder_that_nobody_vouched_for_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(ServerError, match="autoglm export manifest"):
        open_transformers(folder, "tiny")
