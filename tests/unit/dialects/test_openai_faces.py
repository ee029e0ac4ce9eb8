"""What the OpenAI faces read of a request, and what they refuse."""

from typing import Any

import pytest

from open_autoglm.dialects import ChatFace, CompletionsFace, EmbeddingsFace, Face
from open_autoglm.errors import RequestError, ServerError
from tests.unit.dialects.wire import body, chat_request, parsed_events

CHAT, COMPLETIONS, EMBEDDINGS = ChatFace(), CompletionsFace(), EmbeddingsFace()


def refusal(face: Face, value: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        face.read(body(value))
    return caught.value


def test_chat_view() -> None:
    view = CHAT.read(
        body(
            chat_request(stream=True, stream_options={"include_usage": True, "other": 1}, n=2, max_completion_tokens=9)
        )
    )
    assert (view.model, view.stream, view.include_usage, view.choices) == ("chat", True, True, 2)
    assert (view.max_tokens_asked, view.structured) == (9, False)
    assert (view.timeout_s, view.session, view.trace_id, view.no_retry, view.timestamp_s) == (None, "", "", False, None)
    assert view.affinity_text.startswith('[{"role":"user"')
    assert view.prompt_bytes == len(body(chat_request()["messages"]))


def test_null_is_as_if_it_was_left_out() -> None:
    fields = dict.fromkeys(("stream", "stream_options", "n", "max_tokens", "stop", "tools", "response_format"))
    view = CHAT.read(body(chat_request(**fields)))
    assert (bool(view.stream), view.include_usage, view.choices, view.structured) == (False, False, 1, False)


def test_affinity_is_the_beginning_of_the_prompt_only() -> None:
    first, second = (
        CHAT.read(body(chat_request(messages=[{"role": "system", "content": "s" * 300 + end}]))) for end in ("a", "b")
    )
    assert first.affinity_text == second.affinity_text
    assert len(first.affinity_text) == 256


@pytest.mark.parametrize("form", ["json_object", "json_schema"])
def test_structured_answers_are_known(form: str) -> None:
    assert CHAT.read(body(chat_request(response_format={"type": form}))).structured
    assert not CHAT.read(body(chat_request(response_format={"type": "text"}))).structured


def test_numbers_and_unknown_fields_of_any_size_are_no_matter() -> None:
    assert CHAT.read(body(chat_request(seed=2**80, custom={"id": -(2**64)}))).model == "chat"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [" "]}, "messages"),
        ({"messages": [{}] * 2_049}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 40}] * 2_049}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": "2"}, "n"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"tools": [{}] * 129}, "tools"),
        ({"tools": {}}, "tools"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"api_base": "http://127.0.0.1"}, "api_base"),
        ({"base_url": None}, "base_url"),
        ({"api_key": "sk-x"}, "api_key"),
    ],
)
def test_chat_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    error = refusal(CHAT, chat_request(**fields))
    assert (error.code, error.param) == ("invalid_request", param)
    assert "sk-x" not in error.message
    assert len(error.message) < 300


def test_a_missing_field_is_named() -> None:
    assert refusal(CHAT, {"model": "m"}).param == "messages"
    assert refusal(CHAT, {"messages": [{"role": "user"}]}).param == "model"
    assert refusal(COMPLETIONS, {"model": "m"}).param == "prompt"
    assert refusal(EMBEDDINGS, {"model": "m"}).param == "input"


def test_as_many_messages_as_may_be() -> None:
    messages = [{"role": "user", "content": "{"}] * 2_048
    assert CHAT.read(body(chat_request(messages=messages, stop=["a"] * 16, tools=[{}] * 128, n=8))).choices == 8


@pytest.mark.parametrize(
    ("prompt", "choices"), [("hi", 2), (["a", "b", "c"], 6), ([1, 2, 3], 2), ([[1, 2], [3]], 4), ([" "], 2)]
)
def test_completion_view(prompt: Any, choices: int) -> None:
    view = COMPLETIONS.read(body({"model": "m", "prompt": prompt, "n": 2, "max_tokens": 5}))
    assert (view.choices, view.max_tokens_asked) == (choices, 5)


@pytest.mark.parametrize("prompt", ["", [], {}, 5, None])
def test_a_completion_needs_a_prompt(prompt: Any) -> None:
    assert refusal(COMPLETIONS, {"model": "m", "prompt": prompt}).param == "prompt"


def test_completion_limits() -> None:
    assert refusal(COMPLETIONS, {"model": "m", "prompt": "x", "best_of": 9}).param == "best_of"
    assert refusal(COMPLETIONS, {"model": "m", "prompt": "x", "stop": ["a"] * 17}).param == "stop"


@pytest.mark.parametrize("given", ["hi", ["a", "b"], [1, 2], [[1], [2]]])
def test_embedding_view(given: Any) -> None:
    view = EMBEDDINGS.read(body({"model": "m", "input": given, "encoding_format": "base64"}))
    assert (view.model, bool(view.stream), view.choices) == ("m", False, 1)


@pytest.mark.parametrize(
    ("fields", "param"), [({"encoding_format": "hex"}, "encoding_format"), ({"stream": True}, "stream")]
)
def test_embedding_refusals(fields: dict[str, Any], param: str) -> None:
    assert refusal(EMBEDDINGS, {"model": "m", "input": "x", **fields}).param == param


@pytest.mark.parametrize("face", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_errors_have_openais_form(face: Face) -> None:
    error = ServerError("overloaded", "too busy", retry_after_s=2.0)
    assert face.error_body(error, "req-1") == body(
        {
            "error": {
                "message": "too busy",
                "type": "server_error",
                "code": "overloaded",
                "param": None,
                "request_id": "req-1",
            }
        }
    )
    event = face.error_event(error, "req-1", 17)
    assert event.startswith(b'data: {"error":{')
    assert event.endswith(b'"delivered_chars":17,"retryable":true}}\n\n')


def test_a_stream_that_a_stopping_server_cut_can_be_resumed() -> None:
    error = ServerError("server_draining", "the server is stopping")
    (said,) = parsed_events(ChatFace().error_event(error, "req-1", 17))
    assert said["error"]["resumable"] is True
    assert (said["error"]["retryable"], said["error"]["delivered_chars"]) == (True, 17)
