"""Prompts that are read in pieces: every answer is the one of a prompt that is read whole, and nobody waits long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engines.counting_model import CountingModel, Reader, request

from open_autoglm.engines.embedded.catalog import open_model
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.onnx_model import open_onnx
from open_autoglm.engines.step_model import Logits, Prompt, StepModel

TINY = Path(__file__).parents[1] / "data" / "onnx" / "tiny-glm"
CONTEXT = {"numpy": 512, "onnx": 96}


class Pieces:
    """A real model whose prompts are given as tokens, and read in pieces of a size; it notes what it reads."""

    def __init__(self, model: StepModel, piece_tokens: int) -> None:
        self._model = model
        self.piece_tokens = piece_tokens
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prepare(self, request: GenerateRequest) -> Prompt:
        return Prompt([int(word) for word in request.messages[-1]["content"].split()], Reader())

    def prefill(self, cache: Any, first_row: int, prompts: Sequence[list[int]], start: int) -> Logits:
        self.read.append(len(prompts) * (max(map(len, prompts)) - start))
        return self._model.prefill(cache, first_row, prompts, start)


@cache
def opened(kind: str) -> StepModel:
    return open_model("glm-nano") if kind == "numpy" else open_onnx(TINY, "tiny", threads=1)


def answers(model: Any, prompts: list[list[int]], joins: list[int], slots: int = 3) -> list[str]:
    """What an engine says; request `i` comes after so many turns."""
    engine = Engine(model, slots=slots)
    heard: list[list[GenerateEvent]] = [[] for _ in prompts]
    turn = 0
    left = set(range(len(prompts)))
    while left or engine.load().queued or engine.load().running:
        for each in sorted(left):
            if joins[each] <= turn:
                left.discard(each)
                engine.submit(request(*prompts[each], max_tokens=6), heard[each].extend)
        engine.turn()
        turn += 1
    assert all(isinstance(events[-1], Usage) for events in heard)
    return ["".join(event.text for event in events if isinstance(event, TextDelta)) for events in heard]


@st.composite
def crowds(draw: st.DrawFn, context: int) -> tuple[list[list[int]], list[int]]:
    sizes = draw(st.lists(st.integers(1, context - 8), min_size=1, max_size=5))
    seed = draw(st.integers(0, 2**16))
    prompts = [[(place * 37 + each * 11 + seed) % 600 + 8 for place in range(size)] for each, size in enumerate(sizes)]
    return prompts, draw(st.lists(st.integers(0, 12), min_size=len(sizes), max_size=len(sizes)))


@pytest.mark.parametrize("kind", ["numpy", "onnx"])
def test_an_answer_is_the_same_token_for_token_however_its_prompt_was_read(kind: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(crowd=crowds(min(CONTEXT[kind], 160)), piece=st.integers(1, 40))
    def check(crowd: tuple[list[list[int]], list[int]], piece: int) -> None:
        prompts, joins = crowd
        whole = [answers(Pieces(opened(kind), 0), [prompt], [0])[0] for prompt in prompts]
        assert answers(Pieces(opened(kind), piece), prompts, joins) == whole

    check()


@settings(max_examples=80, deadline=None)
@given(crowd=crowds(60), piece=st.integers(1, 20), slots=st.integers(1, 4))
def test_rows_are_never_mixed_up(crowd: tuple[list[list[int]], list[int]], piece: int, slots: int) -> None:
    prompts, joins = crowd
    whole = [answers(CountingModel(piece_tokens=0), [prompt], [0])[0] for prompt in prompts]
    assert answers(CountingModel(piece_tokens=piece), prompts, joins, slots) == whole


@pytest.mark.parametrize("long", [65, 400])
def test_between_two_tokens_of_a_stream_at_most_two_pieces_of_prompts_are_read(long: int) -> None:
    model = Pieces(opened("numpy"), 64)
    engine = Engine(model, slots=6)
    running: list[GenerateEvent] = []
    engine.submit(request(*range(8, 20), max_tokens=60), running.extend)
    engine.turn()
    later: list[list[GenerateEvent]] = [[] for _ in range(4)]
    for heard, size in zip(later, (long, 20, 30, 25), strict=True):
        engine.submit(request(*[9 + place % 500 for place in range(size)], max_tokens=4), heard.extend)
    while not all(later):
        told, read = len(running), len(model.read)
        engine.turn()
        assert len(running) == told + 1, "the stream waited for a prompt"
        assert sum(model.read[read:]) <= 2 * model.piece_tokens
    assert max(model.read) <= model.piece_tokens


def test_short_prompts_do_not_wait_for_a_long_one_and_a_long_one_not_for_them() -> None:
    model = CountingModel(piece_tokens=8)
    engine = Engine(model, slots=4)
    long: list[GenerateEvent] = []
    engine.submit(request(*[7] * 50, max_tokens=1), long.extend)
    turns = 0
    while not long:
        turns += 1
        short: list[GenerateEvent] = []
        engine.submit(request(3, 1, max_tokens=1), short.extend)
        engine.turn()
        assert short, "a short prompt waited"
    assert turns == -(-50 // 8)


def test_a_long_prompt_that_is_cancelled_or_fails_leaves_its_place_to_the_next() -> None:
    model = CountingModel(piece_tokens=8)
    engine = Engine(model, slots=2)
    for spoil in (True, False):
        gone: list[GenerateEvent] = []
        handle = engine.submit(request(*[5] * 40, max_tokens=2), gone.extend)
        engine.turn()
        if spoil:
            model.failures = 1
        else:
            engine.cancel(handle)
        engine.turn()
        assert engine.load().running == 0
    heard: list[GenerateEvent] = []
    engine.submit(request(*[5] * 40, max_tokens=2), heard.extend)
    while engine.load().running or engine.load().queued:
        engine.turn()
    assert isinstance(heard[-1], Usage)
