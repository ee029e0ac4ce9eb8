"""Publishing and rolling back: what becomes of those that run, under each policy; two versions live at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.engines.counting_model import END, CountingModel, expected, next_token, request

from open_autoglm import clock
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, Span, TextDelta, Usage
from open_autoglm.engines.model_engine import LiveVersion
from open_autoglm.errors import RequestError, ServerError

PROMPT = (3, 1)
"""Both versions say more than eight tokens after it, and differ in the second."""


class Time:
    now_s = 50.0


@pytest.fixture
def time() -> Iterator[Time]:
    time = Time()
    with clock.drive(lambda: time.now_s, lambda: time.now_s):
        yield time


def ask(engine: Engine, *prompt: int, **fields: Any) -> list[GenerateEvent]:
    heard: list[GenerateEvent] = []
    engine.submit(request(*(prompt or PROMPT), **fields), heard.extend)
    return heard


def said(heard: list[GenerateEvent]) -> list[int]:
    return [int(event.text) for event in heard if isinstance(event, TextDelta)]


def run(engine: Engine) -> None:
    while engine.load().queued or engine.load().running:
        engine.turn()


def test_the_prompt_suits_these_tests() -> None:
    answers = [expected(PROMPT, 8, Usage(2, 8, version)) for version in "12"]
    assert len(answers[0]) == len(answers[1]) == 8
    assert END not in answers[0] + answers[1]
    assert answers[0] != answers[1]


def test_pinned_requests_end_on_their_version_while_others_begin_on_the_next() -> None:
    one, two = CountingModel("1"), CountingModel("2")
    engine = Engine(one)
    first = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(two)
    second = ask(engine, max_tokens=8)
    engine.turn()
    assert engine.versions() == (LiveVersion("2", "current", 1), LiveVersion("1", "draining", 1))
    run(engine)
    assert first[-1] == Usage(2, 8, "1")
    assert second[-1] == Usage(2, 8, "2")
    assert said(first) == expected(PROMPT, 8, Usage(2, 8, "1"))
    assert said(second) == expected(PROMPT, 8, Usage(2, 8, "2"))
    assert engine.versions() == (LiveVersion("2", "current", 0), LiveVersion("1", "kept", 0))
    assert engine.swap_figures().measured == 1


def test_a_request_that_waits_begins_with_the_version_that_is_current_then() -> None:
    engine = Engine(CountingModel("1"), slots=1)
    first, second = ask(engine, max_tokens=3), ask(engine, max_tokens=3)
    engine.turn()
    engine.publish(CountingModel("2"))
    run(engine)
    assert first[-1] == Usage(2, 3, "1")
    assert second[-1] == Usage(2, 3, "2")


def test_a_request_that_waits_and_does_not_fit_the_next_version_hears_so() -> None:
    engine = Engine(CountingModel("1"), slots=1)
    ask(engine, max_tokens=3)
    waiting = ask(engine, *range(1, 30), max_tokens=3)
    engine.turn()
    engine.publish(CountingModel("2", context=20))
    run(engine)
    assert isinstance(waiting[-1], Failed)
    assert waiting[-1].code == "server_draining"


def test_a_drain_that_takes_too_long_is_aborted_with_an_error_that_may_be_retried(time: Time) -> None:
    engine = Engine(CountingModel("1"))
    heard = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(CountingModel("2"), drain_s=3.0)
    time.now_s += 2.9
    engine.turn()
    assert not isinstance(heard[-1], Failed)
    time.now_s += 0.1
    engine.turn()
    assert isinstance(heard[-1], Failed)
    assert heard[-1].code == "stream_interrupted"
    assert engine.versions()[1] == LiveVersion("1", "kept", 0)


def test_following_requests_go_on_with_the_next_version_and_say_where() -> None:
    one, two = CountingModel("1"), CountingModel("2")
    engine = Engine(one)
    heard = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(two, "follow")
    run(engine)
    assert heard[-1] == Usage(2, 8, "2", (Span("1", 0, 2), Span("2", 2, 8)))
    assert said(heard) == expected(PROMPT, 8, heard[-1])
    assert two.read == [4]  # the prompt and what was said, read again by the new version
    assert engine.versions()[1].running == 0


def test_a_request_cannot_follow_to_another_tokenizer() -> None:
    engine = Engine(CountingModel("1"))
    heard = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(CountingModel("2", tokenizer="letters"), "follow")
    run(engine)
    assert isinstance(heard[-1], Failed)
    assert heard[-1].code == "stream_interrupted"


def test_requests_that_were_told_nothing_are_computed_anew_and_others_are_aborted() -> None:
    engine = Engine(CountingModel("1"))
    told, untold = ask(engine, max_tokens=8), ask(engine, max_tokens=8, stream=False)
    engine.turn()
    assert (len(told), len(untold)) == (2, 0)
    engine.publish(CountingModel("2"), "restart")
    run(engine)
    assert isinstance(told[-1], Failed)
    assert told[-1].code == "stream_interrupted"
    assert untold[-1] == Usage(2, 8, "2")
    assert said(untold) == expected(PROMPT, 8, Usage(2, 8, "2"))


def test_aborted_requests_hear_an_error_that_may_be_retried() -> None:
    engine = Engine(CountingModel("1"))
    told, untold = ask(engine, max_tokens=8), ask(engine, max_tokens=8, stream=False)
    engine.turn()
    engine.publish(CountingModel("2"), "abort")
    run(engine)
    codes = [event.code for event in (told[-1], untold[-1]) if isinstance(event, Failed)]
    assert codes == ["stream_interrupted", "server_draining"]


def test_a_third_version_waits_until_the_first_has_drained() -> None:
    engine = Engine(CountingModel("1"))
    ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(CountingModel("2"))
    with pytest.raises(RequestError, match="1 requests still run on version '1'") as caught:
        engine.publish(CountingModel("3"))
    assert (caught.value.code, caught.value.retry_after_s) == ("conflict", 1.0)
    run(engine)
    engine.publish(CountingModel("3"))
    assert [version.version for version in engine.versions()] == ["3", "2"]


def test_rolling_back_exchanges_the_two_and_those_that_drain_go_on() -> None:
    engine = Engine(CountingModel("1"))
    first = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(CountingModel("2"))
    second = ask(engine, max_tokens=8)
    engine.turn()
    assert engine.rollback() == "1"
    third = ask(engine, max_tokens=8)
    run(engine)
    assert [heard[-1] for heard in (first, second, third)] == [Usage(2, 8, version) for version in "121"]
    assert engine.swap_figures().swaps_total == 2


def test_what_is_forgotten_cannot_be_rolled_back_to() -> None:
    engine = Engine(CountingModel("1"))
    engine.publish(CountingModel("2"))
    engine.forget()
    with pytest.raises(RequestError, match="no version of 'count' but the current one is kept"):
        engine.rollback()


def test_a_version_that_still_runs_is_not_forgotten() -> None:
    engine = Engine(CountingModel("1"))
    ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(CountingModel("2"))
    engine.forget()
    assert len(engine.versions()) == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [(CountingModel("1"), "version '1' of 'count' is current"), (CountingModel("2", name="x"), "'x' is no version")],
)
def test_what_is_no_other_version_is_refused(model: CountingModel, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Engine(CountingModel("1")).publish(model)


def test_a_closed_engine_publishes_nothing() -> None:
    engine = Engine(CountingModel("1"))
    engine.close()
    for call in (lambda: engine.publish(CountingModel("2")), engine.rollback):
        with pytest.raises(ServerError, match="being stopped"):
            call()


def test_a_failure_ends_the_requests_of_its_version_only() -> None:
    one, two = CountingModel("1"), CountingModel("2")
    engine = Engine(one)
    first = ask(engine, max_tokens=8)
    engine.turn()
    engine.publish(two)
    second = ask(engine, max_tokens=8)
    one.failures = 1
    run(engine)
    assert isinstance(first[-1], Failed)
    assert second[-1] == Usage(2, 8, "2")


def test_prompts_that_begin_alike_are_read_once_per_version_and_salt() -> None:
    one = CountingModel("1", piece_tokens=64)
    engine = Engine(one, prefix_bytes_max=10_000)
    start = [9] * 40
    for salt in ("a", "a", "b"):
        ask(engine, *start, 1, max_tokens=1, salt=salt)
        run(engine)
    assert one.read == [41, 9, 41]  # two and a half blocks of 16 are known the second time
    two = CountingModel("2", piece_tokens=64)
    engine.publish(two)
    heard = ask(engine, *start, 1, max_tokens=1, salt="a")
    run(engine)
    assert two.read == [41]
    assert said(heard) == [next_token("2", [*start, 1])]
    assert engine.load().prefix_hits_total == 1


def test_admission_waits_for_memory_and_nothing_overtakes() -> None:
    engine = Engine(CountingModel("1"), memory_max=200)
    large, next_large, small = (ask(engine, *PROMPT, max_tokens=n) for n in (8, 14, 2))
    engine.turn()
    assert engine.load().running == 1
    assert engine.load().memory_bytes == 100
    run(engine)
    assert [heard[-1].completion_tokens for heard in (large, next_large, small)] == [8, 14, 2]  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="needs up to 220 bytes"):
        ask(engine, *PROMPT, max_tokens=20)
