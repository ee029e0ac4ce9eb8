"""The engine: every request ends once, in its own words, whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from open_autoglm.clock import monotonic
from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.embedded.model import GlmModel, KvCache
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import (
    Failed,
    Finish,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from open_autoglm.errors import RequestError, ServerError

WAIT_S = 20.0


class Reply:
    """Keeps what an engine delivers."""

    def __init__(self) -> None:
        self.batches: list[list[GenerateEvent]] = []
        self.first = threading.Event()
        self.ended = threading.Event()

    def deliver(self, events: list[GenerateEvent]) -> None:
        self.batches.append(events)
        self.first.set()
        if isinstance(events[-1], Usage | Failed):
            self.ended.set()

    @property
    def events(self) -> list[GenerateEvent]:
        return [event for batch in self.batches for event in batch]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    def wait(self) -> Reply:
        assert self.ended.wait(WAIT_S)
        return self


class GatedModel(GlmModel):
    """The real model, but no prompt is read before `gate` is set; `entered` says that one waits there."""

    def __init__(self, model: GlmModel) -> None:
        super().__init__(model.config, model.weights, model.abilities)
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.rows: list[int] = []

    def prefill(self, cache: KvCache, first_row: int, prompts: Any, start: int = 0) -> Any:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        self.rows.append(len(prompts))
        return super().prefill(cache, first_row, prompts, start)


class FailingModel(GlmModel):
    """The real model, but reading fails `failures` times."""

    def __init__(self, model: GlmModel, failures: int) -> None:
        super().__init__(model.config, model.weights, model.abilities)
        self.failures = failures

    def decode(self, cache: KvCache, tokens: Any, lengths: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise FloatingPointError("the numbers went wrong")
        return super().decode(cache, tokens, lengths)


def real_model() -> GlmModel:
    return catalog.open_model("glm-calc-s")


def ask(engine: Engine, text: str, **fields: Any) -> Reply:
    reply = Reply()
    engine.submit(GenerateRequest([{"role": "user", "content": text}], **fields), reply.deliver)
    return reply


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine(real_model())
    running.start()
    yield running
    running.close()


@pytest.fixture
def gated() -> Iterator[tuple[Engine, GatedModel]]:
    model = GatedModel(real_model())
    running = Engine(model, slots=2, queue_max=3)
    running.start()
    yield running, model
    model.gate.set()
    running.close()


def test_an_answer_streams_and_ends_with_finish_and_usage(engine: Engine) -> None:
    reply = ask(engine, "12 + 30").wait()
    assert reply.text == "42"
    assert reply.events[-2:] == [Finish("stop"), Usage(11, 14, "2")]
    assert isinstance(reply.events[0], ReasoningDelta)
    assert len(reply.batches) > 10


def test_many_at_once_answer_as_one_at_a_time(engine: Engine) -> None:
    sums = [(a, b) for a in range(100, 900, 97) for b in range(111, 999, 113)]
    together = [ask(engine, f"{a} + {b}") for a, b in sums]
    texts = [reply.wait().text for reply in together]
    alone = [ask(engine, f"{a} + {b}").wait().text for a, b in sums]
    assert texts == alone
    assert sum(text == str(a + b) for text, (a, b) in zip(texts, sums, strict=True)) > 0.9 * len(sums)


def test_requests_share_forward_passes(gated: tuple[Engine, GatedModel]) -> None:
    engine, model = gated
    first = ask(engine, "1 + 2")
    assert model.entered.wait(WAIT_S)
    others = [ask(engine, "3 + 4"), ask(engine, "5 + 6"), ask(engine, "7 + 8")]
    assert engine.load().queued == 3
    model.gate.set()
    assert [reply.wait().text for reply in (first, *others)] == ["3", "7", "11", "15"]
    load = engine.load()
    assert (load.queued, load.running) == (0, 0)
    assert load.passes_total < load.tokens_total


def test_a_full_queue_refuses(gated: tuple[Engine, GatedModel]) -> None:
    engine, model = gated
    first = ask(engine, "1 + 2")
    assert model.entered.wait(WAIT_S)
    waiting = [ask(engine, "3 + 4") for _ in range(3)]
    with pytest.raises(ServerError) as caught:
        ask(engine, "5 + 6")
    assert caught.value.code == "overloaded"
    assert caught.value.retry_after_s is not None
    model.gate.set()
    assert [reply.wait().text for reply in (first, *waiting)] == ["3", "7", "7", "7"]


def test_a_bad_request_is_refused_before_it_waits(engine: Engine) -> None:
    with pytest.raises(RequestError):
        engine.submit(GenerateRequest([]), lambda events: None)


def test_a_cancelled_request_is_silent_and_frees_its_place(gated: tuple[Engine, GatedModel]) -> None:
    engine, model = gated
    first = ask(engine, "1 + 2")
    assert model.entered.wait(WAIT_S)
    silent = Reply()
    handle = engine.submit(GenerateRequest([{"role": "user", "content": "3 + 4"}]), silent.deliver)
    engine.cancel(handle)
    engine.cancel(handle)
    engine.cancel(999_999)
    last = ask(engine, "5 + 6")
    model.gate.set()
    assert first.wait().text == "3"
    assert last.wait().text == "11"
    assert silent.batches == []


def test_a_running_request_can_be_cancelled(engine: Engine) -> None:
    long = Reply()
    message = [{"role": "user", "content": "12 + 30"}]
    handle = 0

    def deliver(events: list[GenerateEvent]) -> None:
        long.deliver(events)
        engine.cancel(handle)

    ready = threading.Event()

    def guarded(events: list[GenerateEvent]) -> None:
        assert ready.wait(WAIT_S)
        deliver(events)

    handle = engine.submit(GenerateRequest(message), guarded)
    ready.set()
    assert long.first.wait(WAIT_S)
    assert ask(engine, "1 + 2").wait().text == "3"
    assert len(long.batches) == 1
    assert engine.load().running == 0


def test_a_request_past_its_deadline_fails(gated: tuple[Engine, GatedModel]) -> None:
    engine, model = gated
    first = ask(engine, "1 + 2")
    assert model.entered.wait(WAIT_S)
    late = ask(engine, "3 + 4", deadline_s=monotonic() - 1.0)
    in_time = ask(engine, "5 + 6", deadline_s=monotonic() + 600.0)
    model.gate.set()
    assert [type(event) for event in late.wait().events] == [Failed]
    assert late.events[0] == Failed("deadline_exceeded", "the deadline passed before the answer was complete")
    assert (first.wait().text, in_time.wait().text) == ("3", "11")


def test_max_tokens_cuts_the_answer(engine: Engine) -> None:
    reply = ask(engine, "12 + 30", max_tokens=3).wait()
    assert reply.events[-2:] == [Finish("length"), Usage(11, 3, "2")]


def test_a_stop_string_ends_the_answer(engine: Engine) -> None:
    reply = ask(engine, "hello", stop=(" only",)).wait()
    assert reply.text == "I"
    assert reply.events[-2] == Finish("stop")


def test_a_sum_beyond_the_training_comes_from_the_calculator(engine: Engine) -> None:
    reply = ask(engine, "123456 + 1").wait()
    assert reply.text == "123457"
    assert isinstance(reply.events[0], ReasoningDelta)
    assert reply.events[0].text.startswith("calculator: ")
    assert reply.events[-2] == Finish("stop")


def test_sampling_repeats_with_a_seed(engine: Engine) -> None:
    def sampled(seed: int) -> list[GenerateEvent]:
        return ask(engine, "812 - 777", temperature=2.0, seed=seed, max_tokens=60).wait().events

    assert sampled(7) == sampled(7)
    assert any(sampled(7) != sampled(seed) for seed in range(8, 16))


def test_a_failure_of_the_model_reaches_every_request_in_the_pass() -> None:
    engine = Engine(FailingModel(real_model(), failures=1))
    engine.start()
    try:
        reply = ask(engine, "1 + 2").wait()
        assert isinstance(reply.events[-1], Failed)
        assert reply.events[-1].code == "internal_error"
        assert ask(engine, "1 + 2").wait().text == "3"
        assert engine.load().failures_total == 1
    finally:
        engine.close()


def test_a_callback_that_raises_loses_only_its_own_request(engine: Engine) -> None:
    def broken(events: list[GenerateEvent]) -> None:
        raise OSError("gone")

    engine.submit(GenerateRequest([{"role": "user", "content": "1 + 2"}]), broken)
    assert ask(engine, "3 + 4").wait().text == "7"
    assert engine.load().failures_total == 1
    assert engine.load().running == 0


def test_closing_fails_what_is_left_and_refuses_the_rest(gated: tuple[Engine, GatedModel]) -> None:
    engine, model = gated
    running = ask(engine, "1 + 2")
    assert model.entered.wait(WAIT_S)
    waiting = ask(engine, "3 + 4")
    closer = threading.Thread(target=engine.close)
    closer.start()
    model.gate.set()
    closer.join(WAIT_S)
    for reply in (running.wait(), waiting.wait()):
        ending = reply.events[-1]
        assert isinstance(ending, Failed | Usage)
    assert isinstance(waiting.events[-1], Failed)
    assert waiting.events[-1].code == "server_draining"
    with pytest.raises(ServerError, match="being stopped"):
        ask(engine, "5 + 6")


def test_an_engine_that_never_started_can_be_closed() -> None:
    engine = Engine(real_model())
    reply = ask(engine, "1 + 2")
    engine.close()
    assert isinstance(reply.events[-1], Failed)


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slots": 257}, {"queue_max": 0}])
def test_limits_are_checked(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must be 1 to"):
        Engine(real_model(), **fields)


def test_a_tool_call_comes_out_as_one_event() -> None:
    engine = Engine(catalog.open_model("glm-nano"))
    engine.start()
    try:
        tools = [{"type": "function", "function": {"name": "calculator"}}]
        reply = ask(engine, "What is 12 + 30?", tools=tools).wait()
        call, finish, _usage = reply.events
        assert isinstance(call, ToolCall)
        assert (call.name, call.arguments) == ("calculator", '{"expression":"12+30"}')
        assert finish == Finish("tool_calls")
    finally:
        engine.close()
