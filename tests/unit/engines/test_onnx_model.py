"""The ONNX engine on a graph of random numbers that `tests/engines/tiny_models.py` wrote."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.engines.onnx_bytes import external, model, part

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.model_folder import ModelFolder, write_manifest
from open_autoglm.engines.onnx_model import OnnxGraph, open_onnx
from open_autoglm.engines.onnx_session import open_session
from open_autoglm.engines.past_model import PastCache, PastModel, check_rows
from open_autoglm.errors import ServerError
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.sources import open_engine

FIXTURE = Path(__file__).parents[2] / "data" / "onnx" / "tiny-glm"
PROPERTIES = {"tasks": ["chat"], "digits_max": 4}
NAMES = ["config.json", "model.onnx"]
WAIT_S = 60.0


@pytest.fixture(scope="module")
def tiny() -> PastModel:
    return open_onnx(FIXTURE, "tiny", threads=1)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURE, tmp_path / "tiny")
    return tmp_path / "tiny"


def describe(folder: Path, **fields: Any) -> None:
    write_manifest(folder, "onnx", NAMES, **({"text": "glm-nano", "properties": PROPERTIES} | fields))


def alone(model: PastModel, prompt: list[int], tokens: int) -> list[int]:
    cache = model.new_cache(1)
    logits = model.prefill(cache, 0, [prompt])
    chosen = [int(logits[0].argmax())]
    while len(chosen) < tokens:
        length = len(prompt) + len(chosen) - 1
        logits = model.decode(cache, np.array(chosen[-1:]), np.array([length]))
        chosen.append(int(logits[0].argmax()))
    return chosen


def test_it_says_what_it_is(tiny: PastModel) -> None:
    assert (tiny.name, tiny.context, tiny.tokenizer, tiny.end_tokens) == ("tiny", 96, "open-autoglm-628", {7})
    assert len(tiny.version) == 64
    assert tiny.memory_bytes(10) == 10 * 2 * 2 * 2 * 8 * 4


def test_a_prompt_read_in_two_parts_is_the_same(tiny: PastModel) -> None:
    prompt = list(range(20, 60))
    cache = tiny.new_cache(2)
    whole = tiny.prefill(cache, 0, [prompt])
    tiny.prefill(cache, 1, [prompt[:25]])
    saved = cache.save(1, 25)
    cache.restore(1, saved, 16)
    again = tiny.prefill(cache, 1, [prompt], 16)
    assert np.allclose(whole, again, atol=1e-4)


def test_a_cache_grows_and_keeps_what_it_holds(tiny: PastModel) -> None:
    small, large = PastCache(tiny.graph, 2, 96, capacity=4), tiny.new_cache(2)
    prompts = [[20, 21, 22], [30, 31]]
    assert np.array_equal(tiny.prefill(small, 0, prompts), tiny.prefill(large, 0, prompts))
    for length in range(3, 60):
        tokens, lengths = np.array([length, 2 * length]), np.array([length, length - 1])
        assert np.array_equal(tiny.decode(small, tokens, lengths), tiny.decode(large, tokens, lengths))


def test_a_long_prompt_is_read_piece_by_piece(tiny: PastModel) -> None:
    prompts = [list(range(20, 70)), list(range(30, 43))]
    slow = PastModel("tiny", "1", tiny.text, tiny.graph, 96, pass_tokens_max=16)
    wanted = tiny.prefill(tiny.new_cache(2), 0, prompts)
    assert np.allclose(slow.prefill(slow.new_cache(2), 0, prompts), wanted, atol=1e-4)


def test_many_requests_at_once_get_what_each_gets_alone() -> None:
    engine = open_engine("tiny", f"onnx:{FIXTURE}", EngineSettings(slots=3, threads=1))
    assert isinstance(engine, Engine)
    texts = ["a", "what is this", "12345678901234567890", "sum of things and more things", "b", "你好"]
    told: list[list[GenerateEvent]] = [[] for _ in texts]
    ended = threading.Semaphore(0)

    def deliver_to(events: list[GenerateEvent]) -> Any:
        def deliver(more: list[GenerateEvent]) -> None:
            events.extend(more)
            if isinstance(more[-1], Usage | Failed):
                ended.release()

        return deliver

    requests = [GenerateRequest([{"role": "user", "content": text}], max_tokens=12) for text in texts]
    engine.start()
    for request, events in zip(requests, told, strict=True):
        engine.submit(request, deliver_to(events))
    for _ in texts:
        assert ended.acquire(timeout=WAIT_S)
    engine.close()
    for request, events in zip(requests, told, strict=True):
        prompt = engine.model.prepare(request)
        assert isinstance(engine.model, PastModel)
        wanted = alone(engine.model, prompt.tokens, 12)
        wanted = wanted[: wanted.index(7)] if 7 in wanted else wanted
        text = [event for token in wanted for event in prompt.reader.push(token)]
        assert isinstance(events[-1], Usage)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "".join(
            e.text for e in [*text, *prompt.reader.finish("stop")] if isinstance(e, TextDelta)
        )


def test_a_folder_is_known_by_what_it_holds() -> None:
    engine = open_engine("tiny", str(FIXTURE), EngineSettings(threads=1))
    assert engine.version == open_onnx(FIXTURE, "x", threads=1).version


def test_other_bytes_of_the_graph_are_refused(copy: Path) -> None:
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(ServerError, match="SHA-256"):
        open_onnx(copy, "tiny")


@pytest.mark.parametrize("size", [0, 7, 5000, -1])
def test_a_truncated_graph_is_refused(copy: Path, size: int) -> None:
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:size])
    describe(copy)
    with pytest.raises(ServerError, match=r"model\.onnx"):
        open_onnx(copy, "tiny")


def test_weights_in_other_files_are_refused(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(model(part(5, external("../../../etc/passwd"))))
    describe(copy)
    with pytest.raises(ServerError, match="other files"):
        open_onnx(copy, "tiny")


def test_a_graph_that_is_no_language_model_is_refused(copy: Path) -> None:
    graph = part(1, part(1, "x") + part(2, "y") + part(4, "Identity")) + part(2, "g")
    tensor = part(2, part(1, b"\x08\x01" + part(2, part(1, b"\x08\x02"))))
    graph += part(11, part(1, "x") + tensor) + part(12, part(1, "y") + tensor)
    (copy / "model.onnx").write_bytes(model(graph))
    describe(copy)
    with pytest.raises(ServerError, match="other inputs"):
        open_onnx(copy, "tiny")


@pytest.mark.parametrize("context", [0, -3, 1 << 40, "many", None, True])
def test_a_context_that_makes_no_sense_is_refused(copy: Path, context: object) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    describe(copy)
    with pytest.raises(ServerError, match="max_position_embeddings"):
        open_onnx(copy, "tiny")


def test_a_manifest_of_another_kind_or_text_is_refused(copy: Path) -> None:
    describe(copy, text="esperanto")
    with pytest.raises(ServerError, match="layout"):
        open_onnx(copy, "tiny")
    describe(copy, properties={})
    with pytest.raises(ServerError, match="tasks"):
        open_onnx(copy, "tiny")
    write_manifest(copy, "transformers", NAMES, text="glm-nano", properties=PROPERTIES)
    with pytest.raises(ServerError, match="transformers"):
        open_onnx(copy, "tiny")


class Mixing:
    """The graph, but every row sees the first row's mask."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self.shape, self.vocabulary, self.zeros = graph.shape, graph.vocabulary, graph.zeros

    def run(self, ids: Any, mask: Any, places: Any, keys: Any, values: Any) -> Any:
        return self._graph.run(ids, np.repeat(mask[:1], len(mask), axis=0), places, keys, values)


class Silent(Mixing):
    """The graph, but its logits are no numbers."""

    def run(self, ids: Any, mask: Any, places: Any, keys: Any, values: Any) -> Any:
        logits, *rest = self._graph.run(ids, mask, places, keys, values)
        return logits * np.nan, *rest


@pytest.mark.parametrize(("kind", "message"), [(Mixing, "mixes the rows"), (Silent, "no logits")])
def test_a_graph_that_mixes_rows_or_gives_no_numbers_is_refused(tiny: PastModel, kind: Any, message: str) -> None:
    with pytest.raises(ServerError, match=message):
        check_rows(PastModel("tiny", "1", tiny.text, kind(tiny.graph), 96))


class WholePast:
    """A session of a graph that gives back the whole past with what is new, as other exporters write them."""

    def __init__(self) -> None:
        self._session = open_session(ModelFolder(FIXTURE), 1)
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        logits, *present = self._session.run(outputs, feed)
        past = [feed[name.replace("present", "past_key_values")] for name in outputs[1:]]
        return [logits, *(np.concatenate(both, axis=2) for both in zip(past, present, strict=True))]


def test_a_graph_that_gives_back_the_whole_past_is_the_same(tiny: PastModel) -> None:
    session: Any = WholePast()
    whole = PastModel("tiny", "1", tiny.text, OnnxGraph(session), 96)
    check_rows(whole)
    assert alone(whole, [20, 21, 22], 20) == alone(tiny, [20, 21, 22], 20)
