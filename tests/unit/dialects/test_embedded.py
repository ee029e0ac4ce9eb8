"""What the engine in this process takes."""

from typing import Any

import pytest

from open_autoglm.dialects import ChatFace, CompletionsFace, EmbeddingsFace, Face, InferRequest
from open_autoglm.dialects.embedded import (
    embedded_messages,
    embedded_supports,
    embedded_tools,
    embedded_top_logprobs,
)
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import body, chat_request

TOOL = {"type": "function", "function": {"name": "f"}}


def infer(face: Face, value: dict[str, Any]) -> InferRequest:
    data = body(value)
    return face.infer(data, face.read(data))


def test_what_it_takes() -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["x"],
        "max_tokens": 5,
        "tools": [TOOL],
        "stream": True,
    }
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "5", "refusal": None},
    ]
    request = infer(ChatFace(), chat_request(messages=messages, **fields))
    embedded_supports(request)
    assert embedded_messages(request) == [*messages[:3], {"role": "tool", "tool_call_id": "c", "content": "5"}]
    assert embedded_tools(request) == [TOOL]


def test_tools_can_be_forbidden() -> None:
    request = infer(ChatFace(), chat_request(tools=[TOOL], tool_choice="none"))
    embedded_supports(request)
    assert embedded_tools(request) is None


@pytest.mark.parametrize(
    ("fields", "top"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 5}, 5),
     ({"logprobs": None, "top_logprobs": 0}, None)],
)  # fmt: skip
def test_log_probabilities(fields: dict[str, Any], top: int | None) -> None:
    request = infer(ChatFace(), chat_request(**fields))
    embedded_supports(request)
    assert embedded_top_logprobs(request) == top


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"logprobs": 3}, "logprobs"), ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
     ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": True}, "top_logprobs")],
)  # fmt: skip
def test_log_probabilities_that_make_no_sense(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        embedded_top_logprobs(infer(ChatFace(), chat_request(**fields)))
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_completions_are_one_message() -> None:
    for prompt in ("hi", ["hi"]):
        request = infer(CompletionsFace(), {"model": "m", "prompt": prompt})
        embedded_supports(request)
        assert embedded_messages(request) == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"unknown": 1}, "unknown"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_it_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        embedded_supports(infer(ChatFace(), chat_request(**fields)))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("face", "value", "param"),
    [
        (CompletionsFace(), {"model": "m", "prompt": ["a", "b"]}, "prompt"),
        (CompletionsFace(), {"model": "m", "prompt": [1]}, "prompt"),
        (CompletionsFace(), {"model": "m", "prompt": "a", "suffix": "b"}, "suffix"),
        (CompletionsFace(), {"model": "m", "prompt": "a", "logprobs": 1}, "logprobs"),
        (EmbeddingsFace(), {"model": "m", "input": "a"}, "input"),
    ],
)
def test_other_routes(face: Face, value: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        embedded_supports(infer(face, value))
    assert caught.value.param == param


def test_a_number_that_python_does_not_have_is_refused_by_its_field() -> None:
    data = b'{"model": "m", "messages": [{"role": "user", "content": "2 + 2", "entropy": [[1e400]]}]}'
    face = ChatFace()
    with pytest.raises(RequestError) as refused:
        embedded_supports(face.infer(data, face.read(data)))
    assert refused.value.param == "messages[0].entropy"
