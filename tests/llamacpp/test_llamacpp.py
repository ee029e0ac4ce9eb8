"""The llama.cpp engine on a Llama of random numbers; `tests/llamacpp.sh` builds the library for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.llamacpp_model import LlamaCppModel, open_llamacpp
from open_autoglm.errors import ServerError
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.sources import open_engine
from tests.unit.engines.gguf_bytes import CONTEXT, file, tensor, tiny_llama

WAIT_S = 60.0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def tiny(path: Path) -> LlamaCppModel:
    return open_llamacpp(path, "tiny", threads=1)


def test_it_says_what_it_is(tiny: LlamaCppModel) -> None:
    assert (tiny.name, tiny.context, tiny.end_tokens, len(tiny.version)) == ("tiny", CONTEXT, {2}, 64)
    assert tiny.memory_bytes(10) == 10 * 2 * 2 * 2 * 8 * 2


def test_text_becomes_tokens_and_tokens_text(tiny: LlamaCppModel) -> None:
    prompt = tiny.prepare(GenerateRequest([{"role": "user", "content": "hello </s> 你好"}]))
    assert prompt.tokens[0] == 1
    assert 2 not in prompt.tokens
    events = [event for token in prompt.tokens for event in prompt.reader.push(token)]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said.strip() == "hello </s> 你好"


token = st.integers(3, 350)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(token, min_size=1, max_size=30), min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=4)
)
def test_each_row_is_told_what_it_is_told_alone(
    tiny: LlamaCppModel, batch: list[list[int]], leaving: list[int]
) -> None:
    cache, rows = tiny.new_cache(4), [list(prompt) for prompt in batch]
    check(tiny, rows, tiny.prefill(cache, 0, rows))
    for leave in leaving:
        if leave < len(rows) > 1:
            last = rows.pop()
            if leave < len(rows):
                cache.move(len(rows), leave, len(last))
                rows[leave] = last
        tokens = np.array([3 + len(row) for row in rows])
        told = tiny.decode(cache, tokens, np.array([len(row) for row in rows]))
        for row, chosen in zip(rows, tokens.tolist(), strict=True):
            row.append(chosen)
        check(tiny, rows, told)
    check(tiny, batch, tiny.prefill(cache, 0, batch))  # over what was there before


def check(model: LlamaCppModel, rows: list[list[int]], logits: np.ndarray) -> None:
    for row, told in zip(rows, logits, strict=True):
        # Keys and values are float16: they are rounded alike, and sums of them in another order.
        assert np.allclose(told, model.prefill(model.new_cache(1), 0, [row])[0], atol=0.02)


def test_a_node_answers_many_at_once(path: Path) -> None:
    engine = open_engine("tiny", str(path), EngineSettings(slots=2, threads=1))
    assert isinstance(engine, Engine)
    told: list[list[GenerateEvent]] = [[] for _ in range(5)]
    ended = threading.Semaphore(0)

    def deliver_to(events: list[GenerateEvent]) -> Any:
        def deliver(more: list[GenerateEvent]) -> None:
            events.extend(more)
            if isinstance(more[-1], Usage | Failed):
                ended.release()

        return deliver

    engine.start()
    for number, events in enumerate(told):
        request = GenerateRequest([{"role": "user", "content": "x" * (number + 1)}], max_tokens=6)
        engine.submit(request, deliver_to(events))
    for _ in told:
        assert ended.acquire(timeout=WAIT_S)
    engine.close()
    assert all(isinstance(events[-1], Usage) for events in told)


@pytest.mark.parametrize("data", [b"", b"GGUF", file([], [], tensor_count=1 << 50), file([], [tensor("a", (9,), 0)])])
def test_a_hostile_file_never_reaches_the_library(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ServerError) as caught:
        open_llamacpp(tmp_path / "m.gguf", "m")
    assert "llama.cpp" not in caught.value.message


def test_a_file_that_the_library_does_not_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(file([], []))
    with pytest.raises(ServerError, match=r"cannot be loaded by llama\.cpp"):
        open_llamacpp(tmp_path / "m.gguf", "m")
