"""The plain dialect: what it is sent, and the many forms in which it answers."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    EmbeddingsFace,
    Event,
    Finish,
    GenerateDialect,
    InferRequest,
    McpFace,
    TextDelta,
    Usage,
)
from open_autoglm.dialects.generate_answer import GenerateDecoder
from open_autoglm.dialects.sse import LINE_BYTES_MAX
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import DONE, body, chat_request, event

DIALECT = GenerateDialect()


def chat(**fields: Any) -> InferRequest:
    data = body(chat_request(**fields))
    return ChatFace().infer(data, ChatFace().read(data))


def completion(**fields: Any) -> InferRequest:
    data = body({"model": "m", **fields})
    return CompletionsFace().infer(data, CompletionsFace().read(data))


def sent(request: InferRequest) -> Any:
    return json.loads(DIALECT.encode(request, "upstream-name"))


def test_requests() -> None:
    assert DIALECT.path("chat") == ""
    assert sent(chat()) == {"prompt": "hi"}
    fields = {"max_completion_tokens": 5, "temperature": 0.5, "stream": True, "stream_options": {"include_usage": True}}
    assert sent(chat(**fields)) == {"prompt": "hi", "max_tokens": 5, "temperature": 0.5, "stream": True}
    assert sent(completion(prompt="a", max_tokens=3)) == {"prompt": "a", "max_tokens": 3}
    assert sent(completion(prompt=["a"])) == {"prompt": "a"}


def test_conversations_become_a_prompt() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Go on"},
    ]
    lines = "System: Be kind.\nUser: one\ntwo\nAssistant: Yes\n"
    assert sent(chat(messages=messages))["prompt"] == lines + "User: Go on\nAssistant:"
    assert sent(chat(messages=messages[:3]))["prompt"] == lines.removesuffix("\n")
    assert sent(chat(messages=messages[:1]))["prompt"] == "System: Be kind.\nAssistant:"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "top_p": 1, "logprobs": False, "frequency_penalty": 0.0, "tools": [], "stop": None, "stop_": None},
        {"response_format": {"type": "text"}, "user": "u", "metadata": {"a": "b"}, "store": False, "seed": None},
        {"tool_choice": "auto", "logit_bias": {}, "modalities": ["text"], "stop": []},
    ],
)
def test_what_asks_for_nothing_special_is_no_matter(fields: dict[str, Any]) -> None:
    assert sent(chat(**fields)) == {"prompt": "hi"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_p": 0.5}, "top_p"),
        ({"stop": "x"}, "stop"),
        ({"seed": 1}, "seed"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"something_new": 1}, "something_new"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}]},
            "messages[1].tool_calls",
        ),
        ({"messages": [{"role": "user", "content": "x", "weight": 0.5}]}, "messages[0].weight"),
    ],
)
def test_what_cannot_be_expressed_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        DIALECT.encode(chat(**fields), "m")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert param in caught.value.message


def test_messages_that_clients_send_back_may_carry_what_they_got() -> None:
    back = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "y",
        "audio": None,
    }
    assert sent(chat(messages=[back]))["prompt"] == "Assistant: x"


def test_other_routes_name_their_field() -> None:
    face = EmbeddingsFace()
    data = body({"model": "m", "input": "x"})
    with pytest.raises(RequestError) as caught:
        DIALECT.encode(face.infer(data, face.read(data)), "m")
    assert caught.value.param == "input"
    for prompt in (["a", "b"], [1, 2], [[1]]):
        with pytest.raises(RequestError) as caught:
            DIALECT.encode(completion(prompt=prompt), "m")
        assert caught.value.param == "prompt"
    message = McpFace().read(body({"opcode": 10, "payload": {"prompt": "a", "top_p": 0.1}}))
    with pytest.raises(RequestError) as caught:
        DIALECT.encode(McpFace().infer(b"", message), "m")
    assert caught.value.param == "payload.top_p"


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "Hello"},
        {"response": "Hello", "done": True},
        {"generated_text": "Hello"},
        [{"generated_text": "Hello"}],
        [{"text": "Hello"}],
        {"text": ["Hello"]},
        {"text": ["promptHello"]},
        {"text": None, "response": "Hello"},
        {"text": "Hello", "error": None, "meta_info": {"id": "x"}},
    ],
)
def test_whole_answers(answer: Any) -> None:
    decoder = GenerateDecoder("prompt")
    events = decoder.whole(json.dumps(answer, indent=1).encode(), "application/json")
    assert decoder.failure is None
    assert events == [TextDelta("Hello"), Finish("stop"), Usage(2, 2, estimated=True)]


def test_an_echo_outside_a_list_is_an_answer() -> None:
    assert text_of(GenerateDecoder("prompt").whole(b'{"text":"prompt"}', "")) == "prompt"


@pytest.mark.parametrize(
    ("fields", "reason", "usage"),
    [
        ({"finish_reason": "length"}, "length", Usage(2, 1, estimated=True)),
        ({"finish_reason": "eos_token"}, "stop", Usage(2, 1, estimated=True)),
        ({"finish_reason": None}, "stop", Usage(2, 1, estimated=True)),
        ({"done_reason": "length", "prompt_eval_count": 9, "eval_count": 4}, "length", Usage(9, 4)),
        (
            {"meta_info": {"finish_reason": {"type": "length"}, "prompt_tokens": 8, "completion_tokens": 3}},
            "length",
            Usage(8, 3),
        ),
        ({"prompt_eval_count": True, "eval_count": -4}, "stop", Usage(2, 1, estimated=True)),
    ],
)
def test_what_else_an_answer_may_say(fields: dict[str, Any], reason: str, usage: Usage) -> None:
    events = GenerateDecoder("prompt").whole(body({"text": "abc", **fields}), "")
    assert events == [TextDelta("abc"), Finish(reason), usage]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"<html>", "malformed"),
        (b"", "malformed"),
        (b"{}", "malformed"),
        (b"5", "malformed"),
        (b"[]", "malformed"),
        (b'[{"text":"a"},{"text":"b"}]', "malformed"),
        (b'{"text":5}', "malformed"),
        (b'{"text":["a","b"]}', "malformed"),
        (b'{"text":"\xff"}', "malformed"),
        (b'{"error":"overloaded"}', "unavailable"),
        (b'{"error":{"message":"x","code":429}}', "throttled"),
    ],
)
def test_a_200_that_is_no_answer(answer: bytes, outcome: str) -> None:
    decoder = GenerateDecoder()
    assert decoder.whole(answer, "text/html") == []
    assert decoder.failure is not None
    assert decoder.failure.outcome == outcome


def lines(*values: Any) -> bytes:
    return b"".join(body(value) + b"\n" for value in values)


STREAMS = {
    "sse": event({"text": "Hel"}) + event({"text": "lo"}) + DONE,
    "sse without done": event({"response": "Hel"}) + event({"response": "lo"}),
    "sse crlf": (event({"text": "Hel"}) + event({"text": "lo"})).replace(b"\n", b"\r\n"),
    "lines": lines({"text": "Hel"}, {"text": "lo"}),
    "lines without the last end": lines({"text": "Hel"}, {"text": "lo"})[:-1],
    "zero bytes": lines({"text": ["pHel"]}, {"text": ["pHello"]}).replace(b"\n", b"\0"),
    "ollama": lines(
        {"response": "Hel", "done": False}, {"response": "lo", "done": False}, {"response": "", "done": True}
    ),
    "whole so far": event({"text": ["pHel"]}) + event({"text": ["pHello"]}),
    "beginning with the prompt": event({"text": ["p"]}) + event({"text": ["pHello"]}),
    "sglang": event({"text": "Hel", "meta_info": {}})
    + event({"text": "Hello", "meta_info": {"finish_reason": None}})
    + DONE,
    "tgi": b"data:"
    + body({"token": {"text": "Hel"}, "generated_text": None})
    + b"\n\n"
    + b"data:"
    + body({"token": {"text": "lo"}, "generated_text": "Hello"})
    + b"\n\n",
    "one object": b" \n" + body({"text": "Hello"}),
    "done alone": lines({"text": "Hello"}, {"done": True}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str) -> None:
    payload = STREAMS[name]
    for size in (len(payload), 1, 5, 16):
        decoder = GenerateDecoder("p")
        events: list[Event] = []
        for at in range(0, len(payload), size):
            events += decoder.feed(payload[at : at + size])
        assert text_of(events) in ("Hello", "Hel", "")
        events += decoder.end()
        assert decoder.failure is None
        assert text_of(events) == "Hello"
        assert events[-2] == Finish("stop")
        assert events[-1] == Usage(1, 2, estimated=True)


def test_pieces_are_not_mistaken_for_a_text_that_grows() -> None:
    decoder = GenerateDecoder()
    assert text_of(decoder.feed(lines({"text": "1"}, {"text": "11"}, {"text": "111"}))) == "111111"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n\n",
        b": ping\n\n",
        b"<html>no</html>\n",
        DONE,
        lines({"text": "a"}) + b"{half\n",
        lines({"text": ["long"]}, {"text": ["sh"]}),
        lines({"text": "a"}, {"text": 5}),
        b"{" + b" " * (LINE_BYTES_MAX + 1),
        b"data: " + b" " * (LINE_BYTES_MAX + 1),
        lines({"text": "a"}, {"error": "boom"}),
    ],
)
def test_streams_that_are_none(payload: bytes) -> None:
    decoder = GenerateDecoder()
    decoder.feed(payload)
    decoder.end()
    assert decoder.failure is not None
    assert decoder.feed(lines({"text": "x"})) == []


def test_error_statuses_are_classified() -> None:
    assert DIALECT.classify(503, "", b"").outcome == "unavailable"


@pytest.mark.parametrize("most", [0, -1])
def test_no_tokens_at_all_are_refused(most: int) -> None:
    message = body({"type": "INFER_REQUEST", "payload": {"prompt": "hi", "max_tokens": most}})
    of_ours = McpFace().infer(message, McpFace().read(message))
    for request, param in (
        (chat(max_tokens=most), "max_tokens"),
        (chat(max_completion_tokens=most), "max_tokens"),
        (completion(prompt="a", max_tokens=most), "max_tokens"),
        (of_ours, "payload.max_tokens"),
    ):
        with pytest.raises(RequestError) as raised:
            sent(request)
        assert (raised.value.code, raised.value.param) == ("invalid_request", param)
        assert str(most) in raised.value.message
