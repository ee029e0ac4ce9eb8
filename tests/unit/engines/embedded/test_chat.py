"""Chat messages to prompts, tokens to events."""

from __future__ import annotations

from typing import Any

import pytest

from open_autoglm.engines.embedded import tokenizer
from open_autoglm.engines.embedded.abilities import TASKS, Abilities
from open_autoglm.engines.embedded.chat import (
    PreparedPrompt,
    ReplyReader,
    prepare,
)
from open_autoglm.engines.embedded.prompt import SystemWord, build
from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, ReasoningDelta, TextDelta, ToolCall
from open_autoglm.errors import RequestError

ALL = Abilities("all", "1", frozenset(TASKS), 4)
SUMS = Abilities("sums", "1", frozenset(["arithmetic"]), 3)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}
FOREIGN = {"type": "function", "function": {"name": "get_weather"}}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def prompt_of(*messages: dict[str, Any], abilities: Abilities = ALL, **fields: Any) -> list[int]:
    return prepare(GenerateRequest(list(messages), **fields), abilities, 512).tokens


def test_the_last_message_of_the_user_is_the_question() -> None:
    messages = (user("hello"), {"role": "assistant", "content": "Hi"}, user("12 + 30"))
    assert prompt_of(*messages) == build("12 + 30")


def test_white_space_and_wide_digits_are_made_plain() -> None:
    assert prompt_of(user("  １２\n＋ 30 ")) == build("12 + 30")


def test_text_parts_are_joined() -> None:
    assert prompt_of(user([{"type": "text", "text": "12"}, {"type": "text", "text": "+ 30"}])) == build("12 + 30")


def test_tools_that_the_model_knows_choose_the_tools_task() -> None:
    assert prompt_of(user("fog in Rome?"), tools=[WEATHER, FOREIGN]) == build("fog in Rome?", "tools")


def test_tools_that_it_does_not_know_are_not_offered() -> None:
    assert prompt_of(user("fog in Rome?"), tools=[FOREIGN, {"type": "function"}]) == build("fog in Rome?")
    assert prompt_of(user("1 + 2"), tools=[WEATHER], abilities=SUMS) == build("1 + 2")


@pytest.mark.parametrize(
    ("system", "word"),
    [
        ("intent", "intent"),
        ("Intent: choose a label", "intent"),
        ("意图", "intent"),
        ("plan", "plan"),
        ("计划如下", "plan"),
        ("planning is hard", None),
        ("You are a helpful assistant with a plan.", None),
    ],
)
def test_a_system_message_chooses_the_task(system: str, word: SystemWord | None) -> None:
    assert prompt_of({"role": "system", "content": system}, user("do it")) == build("do it", word)
    assert prompt_of({"role": "system", "content": system}, user("do it"), abilities=SUMS) == build("do it")


def test_the_result_of_a_tool_is_passed_on_in_the_users_language() -> None:
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "21 C"}
    assert prompt_of(user("fog in Rome?"), answer, tools=[WEATHER]) == build("21 C", "result")
    assert prompt_of(user("北京天气"), answer, tools=[WEATHER]) == build("结果：21 C", "result")


def test_a_long_result_is_cut() -> None:
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "9" * 100_000}
    assert len(prompt_of(user("x"), answer)) < 512


def test_a_sum_beyond_the_training_is_guarded() -> None:
    assert prepare(GenerateRequest([user("12345 + 1")]), ALL, 512).guarded is not None
    assert prepare(GenerateRequest([user("1234 + 1")]), ALL, 512).guarded is None
    assert prepare(GenerateRequest([user("1234 + 1")]), SUMS, 512).guarded is not None


def test_tool_requests_are_not_guarded() -> None:
    assert prepare(GenerateRequest([user("12345 + 1")], tools=[WEATHER]), ALL, 512).guarded is None


@pytest.mark.parametrize(
    ("request_", "code", "param"),
    [
        (GenerateRequest([]), "invalid_request", "messages"),
        (GenerateRequest([user("   ")]), "invalid_request", "messages"),
        (GenerateRequest([user(7)]), "invalid_request", "messages"),
        (GenerateRequest([user([{"type": "image_url", "image_url": {}}])]), "unsupported_parameter", "messages"),
        (GenerateRequest([user(["text"])]), "unsupported_parameter", "messages"),
        (GenerateRequest([user("x" * 513)]), "context_length_exceeded", "messages"),
        (GenerateRequest([user("x" * 10_000_000)]), "context_length_exceeded", "messages"),
        (GenerateRequest([user("x")], max_tokens=0), "invalid_request", "max_tokens"),
        (GenerateRequest([user("x")], temperature=2.1), "invalid_request", "temperature"),
        (GenerateRequest([user("x")], temperature=float("nan")), "invalid_request", "temperature"),
        (GenerateRequest([user("x")], top_p=0.0), "invalid_request", "top_p"),
        (GenerateRequest([user("x")], stop=("",)), "invalid_request", "stop"),
        (GenerateRequest([user("x")], stop=("a",) * 17), "invalid_request", "stop"),
    ],
)
def test_refuses(request_: GenerateRequest, code: str, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        prepare(request_, ALL, 512)
    assert (caught.value.code, caught.value.param) == (code, param)


def read(text: str, *, system: SystemWord | None = None, stop: tuple[str, ...] = ()) -> list[GenerateEvent]:
    """Events of an answer of this text that ends by itself."""
    prepared = PreparedPrompt([], [], system, frozenset(["weather"]), None)
    reader = ReplyReader(prepared, stop, lambda: "call_1")
    events: list[GenerateEvent] = []
    for token in tokenizer.encode(text):
        events += reader.push(token)
        if reader.stopped:
            break
    return events + reader.finish("stop")


def text_of(events: list[GenerateEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_text_streams_token_by_token() -> None:
    assert read("Hi!") == [TextDelta("H"), TextDelta("i"), TextDelta("!"), Finish("stop")]


def test_thinking_is_reasoning_in_columns() -> None:
    reader = ReplyReader(PreparedPrompt([], [], None, frozenset(), None), (), lambda: "")
    tokens = [tokenizer.THINK, *tokenizer.encode("+20021304"), tokenizer.THINK_END, *tokenizer.encode("42")]
    events = [event for token in tokens for event in reader.push(token)]
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert reasoning == "+ 2002 1304"
    assert text_of(events) == "42"


def test_a_tool_call_is_one_event() -> None:
    events = read('{"name":"weather","arguments":{"city":"罗马"}}', system="tools")
    assert events == [ToolCall("call_1", "weather", '{"city":"罗马"}'), Finish("tool_calls")]


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"convert","arguments":{"value":1,"from":"km","to":"m"}}',
        '{"name":"weather","arguments":{"city":"Ro',
        '{"name":"weather","arguments":["Rome"]}',
        '{"name":["weather"],"arguments":{}}',
        '{"name":"weather","arguments":{},"more":1}',
    ],
)
def test_what_is_no_call_of_an_offered_tool_is_text(text: str) -> None:
    events = read(text, system="tools")
    assert text_of(events) == text
    assert events[-1] == Finish("stop")


def test_talk_streams_even_when_tools_are_offered() -> None:
    assert read("Hi", system="tools") == [TextDelta("H"), TextDelta("i"), Finish("stop")]


def test_without_tools_json_is_text() -> None:
    text = '{"name":"weather","arguments":{"city":"Rome"}}'
    assert text_of(read(text)) == text


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        ("one two three", (" two",), "one"),
        ("one two three", ("four",), "one two three"),
        ("ababac", ("abac",), "ab"),
        ("aaab", ("aab", "b"), "a"),
        ("one t", ("two",), "one t"),
        ("一二三", ("二",), "一"),
    ],
)
def test_stop_strings_end_the_text_and_are_not_shown(text: str, stop: tuple[str, ...], left: str) -> None:
    events = read(text, stop=stop)
    assert text_of(events) == left
    assert events[-1] == Finish("stop")


def test_a_cut_answer_says_length_and_shows_what_was_held_back() -> None:
    reader = ReplyReader(PreparedPrompt([], [], "tools", frozenset(["weather"]), None), (), lambda: "call_1")
    for token in tokenizer.encode('{"name":"weather'):
        assert reader.push(token) == []
    assert reader.finish("length") == [TextDelta('{"name":"weather'), Finish("length")]
