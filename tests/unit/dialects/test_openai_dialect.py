"""OpenAI's dialect towards a model's server: requests written anew, answers read as events."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    EmbeddingsFace,
    Event,
    Face,
    Finish,
    McpFace,
    OpenAIDialect,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import DONE, body, chat_request, chunk, event, stream, usage_chunk

DIALECT = OpenAIDialect()


def rewritten(face: Face, value: dict[str, Any]) -> Any:
    data = body(value)
    return json.loads(DIALECT.encode(face.infer(data, face.read(data)), "up"))


def test_paths() -> None:
    assert [DIALECT.path(kind) for kind in ("chat", "completion", "embedding")] == [
        "/chat/completions",
        "/completions",
        "/embeddings",
    ]


def test_a_request_with_everything_is_the_same_when_it_is_written_again() -> None:
    messages = [
        {"role": "system", "content": "s", "name": "n"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x"}},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f", "size": 2**70}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.50}'}}],
            "reasoning_content": "r",
        },
        {"role": "tool", "content": "5", "tool_call_id": "c"},
    ]
    value = chat_request(
        messages=messages,
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop=["x", "y"],
        seed=7,
        n=2,
        user="u",
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_object"},
        logit_bias={"5": 1},
        big=2**80,
    )
    assert rewritten(ChatFace(), value) == {**value, "model": "up"}
    assert str(2**80).encode() in DIALECT.encode(ChatFace().infer(body(value), ChatFace().read(body(value))), "up")


def test_streams_ask_for_usage() -> None:
    value = rewritten(ChatFace(), chat_request(stream=True))
    assert (value["stream"], value["stream_options"]) == (True, {"include_usage": True})


def test_the_newer_name_of_max_tokens_stays() -> None:
    value = rewritten(ChatFace(), chat_request(max_completion_tokens=5))
    assert value["max_completion_tokens"] == 5
    assert "max_tokens" not in value


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_completions_and_embeddings(prompt: Any) -> None:
    value = {"model": "m", "prompt": prompt, "suffix": "s"}
    assert rewritten(CompletionsFace(), value) == {**value, "model": "up"}
    value = {"model": "m", "input": prompt, "dimensions": 5}
    assert rewritten(EmbeddingsFace(), value) == {**value, "model": "up"}


@pytest.mark.parametrize("prompt", [["a", 1], [[1], 2], [[1], ["a"]], [True], [1.5], [{}]])
def test_mixed_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(RequestError) as caught:
        rewritten(CompletionsFace(), {"model": "m", "prompt": prompt})
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([5], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0]"),
        ([{"role": "user"}, {"role": "user", "content": [5]}], "messages[1].content[0]"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "tool_calls": 5}], "messages[0].tool_calls"),
    ],
)
def test_messages_of_a_wrong_form_are_named(messages: Any, param: str) -> None:
    data = body(chat_request(messages=[{"role": "user"}]))
    face = ChatFace()
    view = face.read(data)
    with pytest.raises(RequestError) as caught:
        face.infer(body(chat_request(messages=messages)), view)
    assert (caught.value.param or "").startswith(param)


def test_our_own_messages_become_a_chat() -> None:
    message = {
        "opcode": 10,
        "payload": {"model": "m", "prompt": "hi", "temperature": 0.7, "timeout_ms": 5, "custom": 1},
    }
    face = McpFace()
    view = face.read(body(message))
    view.stream = True
    assert json.loads(DIALECT.encode(face.infer(body(message), view), "up")) == {
        "model": "up",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.7,
        "custom": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def decoded(payload: bytes) -> tuple[list[Event], Any]:
    decoder = DIALECT.decoder(True)
    events = list(decoder.feed(payload))
    return [*events, *decoder.end()], decoder.failure


CALLS = [
    {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
]


def test_a_stream_as_events() -> None:
    deltas = [{"role": "assistant"}, {"reasoning_content": "hm"}, {"content": "a"}, {"content": "b"}, *CALLS]
    payload = b"".join(event(chunk(delta)) for delta in deltas)
    payload += event(chunk(finish_reason="tool_calls")) + event(usage_chunk()) + DONE
    events, failure = decoded(payload)
    assert failure is None
    assert events == [
        ReasoningDelta("hm"),
        TextDelta("a"),
        TextDelta("b"),
        ToolCallDelta(0, "c", "f", ""),
        ToolCallDelta(0, "", "", "{}"),
        Finish("tool_calls"),
        Usage(3, 2),
    ]


def test_usage_details_are_kept() -> None:
    details = {"cached_tokens": 2**60}
    last = usage_chunk()
    last["usage"]["prompt_tokens_details"] = details
    last["usage"]["completion_tokens_details"] = None
    events, _ = decoded(stream("a", done=False) + event(last))
    usage = events[-1]
    assert isinstance(usage, Usage)
    assert usage.details is not None
    assert {name: json.loads(bytes(raw)) for name, raw in usage.details.items()} == {"prompt_tokens_details": details}


@pytest.mark.parametrize(
    ("payload", "outcome", "text"),
    [
        (b"", "malformed", ""),
        (stream("a", done=False)[:-90], "interrupted", "a"),
        (event(chunk({"content": "a"})) + b"data: {\n\n", "interrupted", "a"),
        (event({"error": {"message": "overloaded"}}), "unavailable", ""),
        (event(chunk({"tool_calls": [{"index": "x"}]})), "interrupted", ""),
    ],
)
def test_streams_that_break(payload: bytes, outcome: str, text: str) -> None:
    events, failure = decoded(payload)
    assert failure is not None
    assert failure.outcome == outcome
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
    assert not [event for event in events if isinstance(event, Usage)]


def test_whole_answers_as_events() -> None:
    message = {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    }
    answer = {
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    decoder = DIALECT.decoder(False)
    assert decoder.whole(body(answer), "application/json") == [
        TextDelta("a"),
        ToolCallDelta(0, "c", "f", "{}"),
        Finish("tool_calls"),
        Usage(1, 2),
    ]


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"choices":[]}', b'{"data":[{}]}', b'{"error":"x"}'])
def test_a_200_that_is_no_answer(answer: bytes) -> None:
    decoder = DIALECT.decoder(False)
    assert decoder.whole(answer, "text/html") == []
    assert decoder.failure is not None
    assert DIALECT.classify(503, "", answer).outcome == "unavailable"
