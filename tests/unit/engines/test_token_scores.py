"""How likely a model held its tokens: the figures are those of its logits, and nobody else pays for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.unit.engines.counting_model import CountingModel, request

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, TextDelta, TokenScore
from open_autoglm.engines.token_scores import LOGPROB_LEAST, ScoredReader
from open_autoglm.errors import RequestError


class Letters:
    stopped = False

    def push(self, token: int) -> list[GenerateEvent]:
        return [TextDelta("abc"[token])]

    def finish(self, reason: str) -> list[GenerateEvent]:
        return [Finish("stop")]


def scored(logits: list[float], token: int, top: int) -> TokenScore:
    reader = ScoredReader(Letters(), lambda each: b"abc"[each : each + 1], top)
    row = np.array(logits, np.float32)
    reader.look(row)
    row.fill(0.0)  # the engine may overwrite it
    score, text = reader.push(token)
    assert text == TextDelta("abc"[token])
    assert isinstance(score, TokenScore)
    return score


def test_the_probabilities_are_those_of_the_softmax() -> None:
    score = scored([math.log(6), math.log(3), math.log(1)], 1, 2)
    assert score.spelled == b"b"
    assert score.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [spelled for spelled, _ in score.top] == [b"a", b"b"]
    assert [math.exp(value) for _, value in score.top] == pytest.approx([0.6, 0.3], abs=1e-6)


@pytest.mark.parametrize("least", [-math.inf, -1e30])
def test_what_is_impossible_is_a_number_all_the_same(least: float) -> None:
    assert scored([0.0, least, 0.0], 1, 0) == TokenScore(b"b", LOGPROB_LEAST)


def answers(**fields: object) -> list[GenerateEvent]:
    engine = Engine(catalog.open_model("glm-nano"))
    events: list[GenerateEvent] = []
    tools = [{"type": "function", "function": {"name": "weather"}}] if fields.pop("tools", False) else None
    text = "weather in Paris" if tools else "274 + 658"
    asked = GenerateRequest([{"role": "user", "content": text}], tools, seed=3, **fields)  # type: ignore[arg-type]
    engine.submit(asked, events.extend)
    while engine.load().running or engine.load().queued:
        engine.turn()
    return events


@pytest.mark.parametrize("fields", [{}, {"temperature": 1.5}, {"tools": True}, {"stream": False}])
def test_every_token_is_told_and_the_answer_stays_the_same(fields: dict[str, object]) -> None:
    plain, told = answers(**fields), answers(**fields, top_logprobs=3)
    scores = [event for event in told if isinstance(event, TokenScore)]
    rest = [event for event in told if not isinstance(event, TokenScore)]
    unlike = [(one, two) for one, two in zip(plain, rest, strict=True) if one != two]
    assert all(type(one) is type(two) and hasattr(one, "arguments") for one, two in unlike)  # but for a call's id
    usage = plain[-1]
    assert len(scores) == usage.completion_tokens - 1  # type: ignore[union-attr]
    for score in scores:
        assert len(score.top) == 3
        assert score.top[0][1] >= max(score.logprob, score.top[1][1])
        assert sum(math.exp(value) for _, value in score.top) <= 1.0 + 1e-9


def test_thinking_stands_between_its_marks() -> None:
    scores = [event for event in answers(top_logprobs=0) if isinstance(event, TokenScore)]
    text = b"".join(score.spelled for score in scores).decode()
    assert text.startswith("<think>+")
    assert text.endswith("</think>932")


def test_a_model_that_cannot_spell_its_tokens_refuses() -> None:
    engine = Engine(CountingModel("1"))
    with pytest.raises(RequestError) as caught:
        engine.submit(request(1, 2, top_logprobs=0), lambda events: None)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "logprobs")
    assert engine.load().queued == 0


@pytest.mark.parametrize("top", [-1, 6])
def test_numbers_out_of_range_are_refused(top: int) -> None:
    with pytest.raises(RequestError) as caught:
        answers(top_logprobs=top)
    assert caught.value.param == "top_logprobs"
