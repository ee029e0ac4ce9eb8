"""Everything that the encoders write is what OpenAI's own SDK reads."""

import json
from base64 import b64decode
from struct import unpack
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    Embedding,
    EmbeddingsFace,
    Event,
    Face,
    Finish,
    McpFace,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCallDelta,
    Usage,
)
from tests.unit.dialects.wire import body, chat_request, parsed_events

TOOLS: list[Event] = [
    ReasoningDelta("think"),
    TextDelta('a "quoted"\n'),
    TextDelta("中文\u2028"),
    ToolCallDelta(0, "call-1", "weather", '{"city":'),
    ToolCallDelta(0, arguments='"Paris"}'),
    ToolCallDelta(1, "call-2", "time", ""),
    Finish("tool_calls"),
    Usage(5, 7),
]


def encoder(face: Face, **fields: Any) -> Any:
    request = {
        "chat": chat_request(),
        "completion": {"model": "m", "prompt": "hi there"},
        "embedding": {"model": "m", "input": "x"},
    }
    return face.encoder(face.read(body({**request[face.kind], **fields})), "req-1", "chat", 1_700_000_000)


def streamed(events: list[Event], **fields: Any) -> list[Any]:
    made = encoder(ChatFace(), stream=True, **fields)
    return parsed_events(b"".join(made.stream([event]) for event in events) + made.end())


def test_a_whole_chat_answer() -> None:
    answer = ChatCompletion.model_validate_json(encoder(ChatFace()).whole(TOOLS), strict=True)
    message = answer.choices[0].message
    assert (answer.id, answer.model, answer.created) == ("chatcmpl-req-1", "chat", 1_700_000_000)
    assert (message.role, message.content) == ("assistant", 'a "quoted"\n中文\u2028')
    assert getattr(message, "reasoning_content") == "think"  # noqa: B009 - not a field of the SDK's type
    calls = message.tool_calls or []
    assert [(call.id, call.type) for call in calls] == [("call-1", "function"), ("call-2", "function")]
    assert calls[0].type == "function"
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"city":"Paris"}')
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 7, 12)


SCORED: list[Event] = [
    TokenScore(b"<think>", -0.5),
    TokenScore(b"4", -0.25, ((b"4", -0.25), (b"\xe4", -2.0))),
    TextDelta("4"),
    TokenScore(b"2", 0.0),
    Finish("stop"),
    Usage(1, 3),
]


def test_log_probabilities_of_a_whole_answer() -> None:
    answer = ChatCompletion.model_validate_json(encoder(ChatFace()).whole(SCORED), strict=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    content = logprobs.content or []
    assert [(entry.token, entry.logprob) for entry in content] == [("<think>", -0.5), ("4", -0.25), ("2", 0.0)]
    assert [(top.token, top.bytes) for top in content[1].top_logprobs] == [("4", [52]), ("\ufffd", [0xE4])]
    whole = McpFace()
    made = whole.encoder(whole.read(body({"type": "INFER_REQUEST", "payload": {"prompt": "x"}})), "r", "m", 0)
    told = json.loads(made.whole(SCORED))["payload"]["logprobs"]["content"]
    assert [entry["logprob"] for entry in told] == [-0.5, -0.25, 0.0]


def test_log_probabilities_of_a_stream_come_with_the_text() -> None:
    *values, _done = streamed(SCORED)
    chunks = [ChatCompletionChunk.model_validate(value, strict=True).choices[0] for value in values]
    told = [[entry.token for entry in (chunk.logprobs and chunk.logprobs.content) or []] for chunk in chunks]
    assert told == [["<think>", "4"], ["2"]]


def test_an_empty_chat_answer_is_an_answer() -> None:
    answer = ChatCompletion.model_validate_json(encoder(ChatFace()).whole([]), strict=True)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "stop")


def test_several_choices() -> None:
    events: list[Event] = [TextDelta("a", 1), TextDelta("b", 0), Finish("stop", 0), Finish("length", 1), Usage(1, 2)]
    answer = ChatCompletion.model_validate_json(encoder(ChatFace(), n=2).whole(events), strict=True)
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "b", "stop"),
        (1, "a", "length"),
    ]
    roles = [value["choices"][0]["delta"].get("role") for value in streamed(events)[:-1]]
    assert roles == ["assistant", "assistant", None, None]


def test_a_chat_stream_adds_up_to_the_whole_answer() -> None:
    *values, done = streamed(TOOLS)
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate(value, strict=True) for value in values]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == 'a "quoted"\n中文\u2028'
    pieces = [call for delta in deltas for call in delta.tool_calls or []]
    assert [(piece.index, piece.id) for piece in pieces] == [(0, "call-1"), (0, None), (1, "call-2")]
    assert "".join((piece.function and piece.function.arguments) or "" for piece in pieces) == '{"city":"Paris"}'
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 6 + ["tool_calls"]
    assert all("usage" not in value for value in values)


def test_usage_comes_last_where_it_was_asked_for() -> None:
    *values, last, done = streamed(TOOLS, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert all(value["usage"] is None for value in values)
    chunk = ChatCompletionChunk.model_validate(last, strict=True)
    assert chunk.choices == []
    assert chunk.usage is not None
    assert chunk.usage.total_tokens == 12


def test_usage_that_nobody_counted_is_estimated_and_says_so() -> None:
    answer = ChatCompletion.model_validate_json(
        encoder(ChatFace()).whole([TextDelta("12345"), Finish("stop")]), strict=True
    )
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.model_extra) == (2, {"estimated": True})
    *_, last, _done = streamed([TextDelta("中"), Finish("stop")], stream_options={"include_usage": True})
    assert last["usage"]["estimated"] is True
    assert last["usage"]["completion_tokens"] == 1
    assert last["usage"]["prompt_tokens"] == (len(body(chat_request()["messages"])) + 3) // 4


def test_completions() -> None:
    events: list[Event] = [ReasoningDelta("x"), TextDelta("ab"), TextDelta("c"), Finish("length"), Usage(1, 2)]
    answer = Completion.model_validate_json(encoder(CompletionsFace()).whole(events), strict=True)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("abc", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 3
    for include in (False, True):
        made = encoder(CompletionsFace(), stream=True, stream_options={"include_usage": include})
        *values, done = parsed_events(made.stream(events) + made.end())
        assert done == "[DONE]"
        pieces = [value["choices"][0]["text"] for value in values if value["choices"]]
        assert pieces == ["ab", "c", ""]
        assert [value.get("usage") is not None for value in values] == [False] * 3 + [True] * include
    for value in values[:-1]:  # the SDK's type wants a finish reason in every event; OpenAI's own streams have none
        Completion.model_validate({**value, "choices": [{**value["choices"][0], "finish_reason": "stop"}]}, strict=True)


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(form: str) -> None:
    events: list[Event] = [Embedding([0.5, -2.0], 1), Embedding([1.0, 0.25], 0), Usage(4, 0)]
    made = encoder(EmbeddingsFace(), encoding_format=form).whole(events)
    if form == "float":
        answer = CreateEmbeddingResponse.model_validate_json(made, strict=True)
        assert [(item.index, item.embedding) for item in answer.data] == [(0, [1.0, 0.25]), (1, [0.5, -2.0])]
        assert answer.usage.total_tokens == 4
    else:
        values = json.loads(made)
        packed = values["data"][0]["embedding"]
        assert unpack("<2f", b64decode(packed)) == (1.0, 0.25)


def test_embeddings_are_not_streamed() -> None:
    made = encoder(EmbeddingsFace())
    assert (made.stream([Embedding([1.0])]), made.end()) == (b"", b"")
