"""Our own messages: every form is understood, and every answer takes the form of its request."""

import json
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.dialects import Event, Finish, McpFace, ReasoningDelta, RequestView, TextDelta, ToolCallDelta, Usage
from open_autoglm.dialects.mcp import McpView
from open_autoglm.errors import RequestError, ServerError
from tests.unit.dialects.wire import body, parsed_events

FACE = McpFace()
FIXTURES = Path(__file__).parents[2] / "data" / "fixtures" / "messages"
TYPED = {"mcp_version": "1.0", "type": "INFER_REQUEST", "trace_id": "t-1", "payload": {"data_chunk": "hi"}}
CODED = {"opcode": 10, "session_id": "s-1", "payload": {"prompt": "hi"}}
META = {"type": "INFER_REQUEST", "payload": {"prompt": "hi"}, "meta": {"timestamp": 1_700_000_000, "retry": False}}
EVENTS: list[Event] = [TextDelta("Hel"), TextDelta("lo"), Finish("stop"), Usage(3, 2)]


def read(value: Any) -> RequestView:
    return FACE.read(value if isinstance(value, bytes) else body(value))


def whole(value: Any, events: list[Event] = EVENTS) -> Any:
    return json.loads(FACE.encoder(read(value), "req-1", "chat", 99).whole(events))


def refusal(value: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(value)
    return caught.value


def with_payload(**fields: Any) -> dict[str, Any]:
    return {"type": "INFER_REQUEST", "payload": {"prompt": "hi", **fields}}


def test_the_fixtures() -> None:
    view = read((FIXTURES / "infer_request.json").read_bytes())
    assert (view.model, view.trace_id, view.session, view.timeout_s) == ("glm-large", "req-7a8b9c0d", "", 3.0)
    view = read((FIXTURES / "opcode_request.json").read_bytes())
    assert (view.model, view.trace_id, view.session, view.timeout_s) == ("", "", "sess-123abc", None)
    request = FACE.infer(b"", view)
    assert (request.messages[0].role, request.messages[0].text()) == ("user", "生成一份天气报告")
    assert (request.temperature, request.extra, request.stream) == (0.7, {}, False)


@pytest.mark.parametrize("form", [TYPED, CODED, META])
def test_a_version_vector_and_a_time_to_live_are_taken(form: dict[str, Any]) -> None:
    told = {"vector": {"node-1": 3, "node-2": 0, "n" * 64: 2**53 - 1}, "ttl": 1}
    view = read({**form, **told})
    assert isinstance(view, McpView)
    assert (view.envelope.vector, view.envelope.ttl) == (told["vector"], told["ttl"])
    assert whole({**form, **told}) == whole(form)
    assert read({**form, "vector": {}, "ttl": 2**32 - 1}).stream is read(form).stream


def test_an_expired_message_says_so_in_its_own_form() -> None:
    expired = refusal({**CODED, "ttl": 0})
    assert "expired" in expired.message
    assert not expired.retryable


def test_answers_in_the_typed_form() -> None:
    payload = {
        "model": "chat",
        "text": "Hello",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    assert whole(TYPED) == {"mcp_version": "1.0", "type": "INFER_RESPONSE", "trace_id": "t-1", "payload": payload}
    assert whole({**TYPED, "trace_id": None})["trace_id"] == "req-1"
    assert whole({**TYPED, "session_id": "s"})["session_id"] == "s"


def test_answers_in_the_opcode_form() -> None:
    answer = whole(CODED)
    assert {**answer, "payload": 0} == {"opcode": 11, "session_id": "s-1", "payload": 0}
    assert whole({**CODED, "trace_id": "t"})["trace_id"] == "t"
    assert "session_id" not in whole({"opcode": 10, "payload": {"prompt": "x"}})


def test_answers_in_the_meta_form() -> None:
    answer = whole(META)
    assert {**answer, "payload": 0} == {
        "type": "INFER_RESPONSE",
        "payload": 0,
        "meta": {"timestamp": 99, "retry": False},
    }


@pytest.mark.parametrize(
    ("form", "chunk", "response"),
    [
        (TYPED, {"mcp_version": "1.0", "type": "INFER_CHUNK", "trace_id": "t-1"}, "INFER_RESPONSE"),
        (CODED, {"opcode": 12, "session_id": "s-1"}, 11),
    ],
)
def test_streams(form: Any, chunk: dict[str, Any], response: Any) -> None:
    encoder = FACE.encoder(read(form), "req-1", "chat", 99)
    first, second, last = parsed_events(encoder.stream(EVENTS[:1]) + encoder.stream(EVENTS[1:]) + encoder.end())
    assert first == {**chunk, "payload": {"seq": 0, "text": "Hel"}}
    assert second == {**chunk, "payload": {"seq": 1, "text": "lo"}}
    assert (last.get("type") or last.get("opcode"), last["payload"]["text"]) == (response, "Hello")
    assert last["payload"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}


def test_thinking_and_tool_calls() -> None:
    events = [
        ReasoningDelta("hm"),
        ToolCallDelta(0, "c", "f", "{"),
        ToolCallDelta(0, arguments="}"),
        Finish("tool_calls"),
    ]
    payload = whole(CODED, list(events))["payload"]
    assert (payload["reasoning"], payload["text"], payload["finish_reason"]) == ("hm", "", "tool_calls")
    assert payload["tool_calls"] == [{"id": "c", "name": "f", "arguments": "{}"}]
    assert payload["usage"]["estimated"] is True
    encoder = FACE.encoder(read(CODED), "r", "m", 1)
    (chunk,) = parsed_events(encoder.stream(list(events)))
    assert chunk["payload"] == {"seq": 0, "text": "", "reasoning": "hm"}


@pytest.mark.parametrize(
    ("payload", "text"),
    [({"data_chunk": "a"}, "a"), ({"prompt": "b"}, "b"), ({"messages": [{"role": "user", "content": "c"}]}, "c")],
)
@pytest.mark.parametrize("form", [TYPED, CODED, META])
def test_each_prompt_in_each_form(payload: dict[str, Any], text: str, form: dict[str, Any]) -> None:
    view = read({**form, "payload": {**payload, "model": "m", "max_tokens": 5, "custom": 2**70}})
    request = FACE.infer(b"", view)
    assert (request.kind, request.model, request.max_tokens, request.prefix) == ("chat", "m", 5, "payload.")
    assert [message.text() for message in request.messages] == [text]
    assert {name: bytes(raw) for name, raw in request.extra.items()} == {"custom": str(2**70).encode()}
    assert view.affinity_text
    assert view.max_tokens_asked == 5


def test_streaming_is_what_the_gateway_says() -> None:
    view = read(with_payload(stream=True))
    assert not view.stream
    view.stream = True
    assert FACE.infer(b"", view).stream


def test_views() -> None:
    assert read(META).no_retry
    assert not read({**META, "meta": {"retry": True}}).no_retry
    assert not read(TYPED).no_retry
    assert read(with_payload(timeout_ms=1.5)).timeout_s == 0.0015
    assert read(with_payload(model_hint="a", model="a")).model == "a"
    assert read(with_payload(response_format={"type": "json_object"})).structured
    assert not read(with_payload()).structured


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (1_700_000_000, 1.7e9),
        (1_700_000_000_500, 1_700_000_000.5),
        (1.5, 1.5),
        ("2023-11-14T22:13:20+00:00", 1.7e9),
        ("2023-11-14T22:13:20", 1.7e9),
        (None, None),
    ],
)
def test_timestamps(timestamp: Any, seconds: float | None) -> None:
    assert read({**META, "meta": {"timestamp": timestamp}}).timestamp_s == seconds


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"payload": {"prompt": "x"}}, "type"),
        ({**TYPED, "type": "INFER_RESPONSE"}, "type"),
        ({**TYPED, "type": 5}, "type"),
        ({**CODED, "opcode": 11}, "opcode"),
        ({**TYPED, "opcode": 12}, "opcode"),
        ({**CODED, "opcode": "10"}, "opcode"),
        ({**TYPED, "mcp_version": "2.0"}, "mcp_version"),
        ({**TYPED, "trace_id": "x" * 257}, "trace_id"),
        ({**TYPED, "session_id": 5}, "session_id"),
        ({**TYPED, "payload": 5}, "payload"),
        ({"type": "INFER_REQUEST"}, "payload"),
        (with_payload(data_chunk="y"), "payload"),
        ({**TYPED, "payload": {}}, "payload"),
        ({**TYPED, "payload": {"prompt": ""}}, "payload.prompt"),
        ({**TYPED, "payload": {"prompt": ["x"]}}, "payload.prompt"),
        ({**TYPED, "payload": {"messages": "x"}}, "payload.messages"),
        ({**TYPED, "payload": {"messages": []}}, "payload.messages"),
        ({**TYPED, "payload": {"messages": [{}] * 2_049}}, "payload.messages"),
        (with_payload(timeout_ms=0), "payload.timeout_ms"),
        (with_payload(timeout_ms=10**12), "payload.timeout_ms"),
        (with_payload(timeout_ms="5"), "payload.timeout_ms"),
        (with_payload(n=2), "payload.n"),
        (with_payload(stop=["x"] * 17), "payload.stop"),
        (with_payload(tools=[{}] * 129), "payload.tools"),
        (with_payload(model_hint="a", model="b"), "payload.model"),
        (with_payload(model_hint="a" * 300), "payload.model_hint"),
        (with_payload(api_key="x"), "payload.api_key"),
        (with_payload(base_url="x"), "payload.base_url"),
        ({**META, "meta": {"timestamp": "yesterday"}}, "meta.timestamp"),
        ({**META, "meta": {"timestamp": -1}}, "meta.timestamp"),
        ({**META, "meta": {"timestamp": 10**400}}, "meta.timestamp"),
        ({**META, "meta": {"retry": 0}}, "meta.retry"),
        ({**TYPED, "ttl": 0}, "ttl"),
        ({**TYPED, "ttl": -1}, "ttl"),
        ({**TYPED, "ttl": 2**32}, "ttl"),
        ({**CODED, "ttl": 1.5}, "ttl"),
        ({**CODED, "ttl": True}, "ttl"),
        ({**TYPED, "vector": ["a"]}, "vector"),
        ({**TYPED, "vector": {"a": 1.5}}, "vector[]"),
        ({**TYPED, "vector": {"a": -1}}, "vector"),
        ({**TYPED, "vector": {"a": 2**53}}, "vector"),
        ({**META, "vector": {"": 1}}, "vector"),
        ({**META, "vector": {"m" * 65: 1}}, "vector"),
        ({**META, "vector": {f"m{number}": 1 for number in range(65)}}, "vector"),
        (body(TYPED)[:-1] + b',"type":"INFER_REQUEST"}', "type"),
        (b'{"opcode":10,"payload":{"prompt":"a","prompt":"b"}}', "payload.prompt"),
        (b'{"opcode":10,"payload":{"prompt":"a","model":"a","mod\\u0065l":"b"}}', "payload.model"),
        (b'{"opcode":10,"payload":{"prompt":"a"},"payload":{"prompt":"b"}}', "payload"),
    ],
)
def test_refusals_name_the_field(value: Any, param: str) -> None:
    error = refusal(value)
    assert (error.code, error.param) == ("invalid_request", param)


def test_wrong_fields_of_the_chat_parameters_are_named_when_they_are_read() -> None:
    view = read(with_payload(temperature="hot"))
    with pytest.raises(RequestError) as caught:
        FACE.infer(b"", view)
    assert caught.value.param == "payload.temperature"
    view = read({**TYPED, "payload": {"messages": [{"role": "user", "content": 5}]}})
    with pytest.raises(RequestError) as caught:
        FACE.infer(b"", view)
    assert (caught.value.param or "").startswith("payload.messages[0]")


@pytest.mark.parametrize(
    ("request_body", "head"),
    [
        (body(TYPED), {"mcp_version": "1.0", "type": "ERROR", "trace_id": "t-1"}),
        (body(CODED), {"opcode": 14, "session_id": "s-1"}),
        (body(META), {"type": "ERROR"}),
        (b'{"opcode":10,"payload":{"temperature":"hot"}}', {"opcode": 14}),
        (b"not json", {"mcp_version": "1.0", "type": "ERROR", "opcode": 14, "trace_id": "req-1"}),
        (b"", {"mcp_version": "1.0", "type": "ERROR", "opcode": 14, "trace_id": "req-1"}),
    ],
)
def test_errors_take_the_form_of_the_request(request_body: bytes, head: dict[str, Any]) -> None:
    error = ServerError("overloaded", "too busy", retry_after_s=1.5)
    expected = {
        "code": "overloaded",
        "message": "too busy",
        "retryable": True,
        "retry_after_ms": 1500,
        "param": None,
        "request_id": "req-1",
    }
    assert json.loads(FACE.error_body(error, "req-1", request_body)) == {**head, "payload": expected}
    (last,) = parsed_events(FACE.error_event(error, "req-1", 9, request_body))
    assert last == {**head, "payload": {**expected, "delivered_chars": 9}}


def test_a_stream_that_a_stopping_server_cut_can_be_resumed() -> None:
    error = ServerError("server_draining", "the server is stopping")
    (said,) = parsed_events(FACE.error_event(error, "req-1", 17))
    assert said["payload"]["resumable"] is True
    assert (said["payload"]["retryable"], said["payload"]["delivered_chars"]) == (True, 17)
