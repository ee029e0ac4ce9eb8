"""Our own protocol in JSON, with the configuration and the messages that people already have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, model
from tests.integration.speech import JSON_TEXT, TEXT, TEXT_PIECES, TOOL_ARGUMENTS, event, generate, speak
from tests.integration.upstreams import Station, Upstream, never, pieces, status

FIXTURES = ROOT / "tests" / "data" / "fixtures"
INFER: dict[str, Any] = json.loads((FIXTURES / "messages" / "infer_request.json").read_text(encoding="utf-8"))
OPCODE: dict[str, Any] = json.loads((FIXTURES / "messages" / "opcode_request.json").read_text(encoding="utf-8"))
META = {"type": "INFER_REQUEST", "payload": {"prompt": "hi"}, "meta": {"timestamp": 1_700_000_000, "retry": True}}
ROUTE = "/mcp/v1/messages"
FIXTURE_KEY = "global-access-key-123"


@pytest.fixture(scope="module")
def station(upstream: Upstream) -> Station:
    return upstream.station("glm-large")


@pytest.fixture(scope="module")
def fixture_server(station: Station, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The fixture as it stands; only ports are the test's own."""
    environ = {
        "MCP__SERVER__PORT": "0",
        "MCP__SERVER__ADMIN_PORT": "0",
        "MCP__SERVER__ADMIN_KEY": ADMIN_KEY,
        "MCP__MODELS__0__ENDPOINT": station.generate_url,
    }
    file = FIXTURES / "mcp_config.yaml"
    with RunningServer(tmp_path_factory.mktemp("fixture"), config_file=file, environ=environ) as server:
        server.http.headers["authorization"] = f"Bearer {FIXTURE_KEY}"
        yield server


def streamed(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    assert answer.text.endswith("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n")[:-1]]


def test_it_prints_the_table_of_models(fixture_server: RunningServer) -> None:
    assert fixture_server.process.stdout is not None
    lines = [fixture_server.process.stdout.readline() for _ in range(3)]
    assert "glm-large" in "".join(lines)
    assert "generate" in "".join(lines)
    assert "your-secret-token" not in fixture_server.printed + "".join(lines) + fixture_server.log()


def test_the_typed_message(fixture_server: RunningServer, station: Station) -> None:
    answer = fixture_server.ask(INFER, ROUTE)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "mcp_version": "1.0",
        "type": "INFER_RESPONSE",
        "trace_id": "req-7a8b9c0d",
        "payload": {
            "model": "glm-large",
            "text": TEXT,
            "finish_reason": "stop",
            "usage": answer.json()["payload"]["usage"],
        },
    }
    sent = station.seen[-1]
    assert sent.json["prompt"] == INFER["payload"]["data_chunk"]
    assert sent.path.endswith("/generate")
    assert sent.headers["authorization"] == "Bearer your-secret-token"
    assert int(sent.headers["x-request-timeout-ms"]) <= INFER["payload"]["timeout_ms"]


def test_the_opcode_message(fixture_server: RunningServer, station: Station) -> None:
    answer = fixture_server.ask(OPCODE, ROUTE).json()
    assert (answer["opcode"], answer["session_id"]) == (11, "sess-123abc")
    assert set(answer) == {"opcode", "session_id", "payload"}
    assert answer["payload"]["text"] == TEXT
    assert answer["payload"]["model"] == "glm-large"
    assert station.seen[-1].json["prompt"] == OPCODE["payload"]["prompt"]
    assert station.seen[-1].json["temperature"] == 0.7


@pytest.mark.parametrize(
    ("message", "chunk", "response"),
    [(INFER, ("type", "INFER_CHUNK"), ("type", "INFER_RESPONSE")), (OPCODE, ("opcode", 12), ("opcode", 11))],
    ids=["typed", "opcode"],
)
def test_streamed(
    fixture_server: RunningServer, message: dict[str, Any], chunk: tuple[str, object], response: tuple[str, object]
) -> None:
    answer = fixture_server.ask(message, ROUTE, accept="text/event-stream")
    *chunks, last = streamed(answer)
    assert [one[chunk[0]] for one in chunks] == [chunk[1]] * len(TEXT_PIECES)
    assert [one["payload"]["seq"] for one in chunks] == list(range(len(TEXT_PIECES)))
    assert tuple(one["payload"]["text"] for one in chunks) == TEXT_PIECES
    assert last[response[0]] == response[1]
    assert last["payload"]["text"] == TEXT
    for name in ("trace_id", "session_id"):
        assert all(one.get(name) == message.get(name) for one in (*chunks, last))


@pytest.mark.parametrize("form", ["text", "response", "generated_text", "vllm", "sglang"])
@pytest.mark.parametrize("stream", [False, True], ids=["single", "streamed"])
def test_every_form_of_the_generate_dialect(server: RunningServer, upstream: Upstream, form: str, stream: bool) -> None:
    server.apply(model("glm-large", upstream.station(form).always(generate(form)).generate_url))
    if not stream:
        assert server.ask(INFER, ROUTE).json()["payload"]["text"] == TEXT
        return
    *chunks, last = streamed(server.ask(INFER, ROUTE, accept="text/event-stream"))
    assert "".join(one["payload"]["text"] for one in chunks) == last["payload"]["text"] == TEXT
    assert len(chunks) == len(TEXT_PIECES)


@pytest.mark.parametrize("kind", ["openai", "generate", "embedded"])
def test_the_meta_form_reaches_every_dialect(server: RunningServer, upstream: Upstream, kind: str) -> None:
    station = upstream.station()
    endpoint = {"openai": station.url, "generate": station.generate_url, "embedded": "embedded:glm-nano"}[kind]
    server.apply(model("only", endpoint))
    answer = server.ask(META, ROUTE).json()
    assert answer["type"] == "INFER_RESPONSE"
    assert answer["payload"]["model"] == "only"
    assert answer["payload"]["text"]
    last = streamed(server.ask(META, ROUTE, accept="text/event-stream"))[-1]
    assert last["payload"]["text"] == answer["payload"]["text"]


def test_retry_false_forbids_a_second_attempt(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(status(503))
    server.apply(model("retry-false", station.url, max_retries=3))
    message = META | {"meta": {"retry": False}}
    assert server.ask(message, ROUTE).status_code == 502
    assert len(station.seen) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["single", "streamed"])
class TestErrors:
    """Errors come in the form of the request."""

    def check(self, answer: httpx2.Response, message: dict[str, Any], http_status: int, code: str) -> dict[str, Any]:
        assert answer.status_code == http_status, answer.text
        told = answer.json()
        if "opcode" in message:
            assert (told["opcode"], told["session_id"]) == (14, message["session_id"])
        else:
            assert (told["type"], told["trace_id"], told["mcp_version"]) == ("ERROR", message["trace_id"], "1.0")
        payload: dict[str, Any] = told["payload"]
        assert payload["code"] == code
        assert payload["message"]
        return payload

    @pytest.mark.parametrize("message", [INFER, OPCODE], ids=["typed", "opcode"])
    def test_each_code(self, server: RunningServer, upstream: Upstream, stream: bool, message: dict[str, Any]) -> None:
        accept = {"accept": "text/event-stream"} if stream else {}
        station = upstream.station()
        name = "glm-large" if message is INFER else station.name
        server.apply(model(name, station.generate_url, max_retries=0))
        ask = message if message is INFER else OPCODE | {"payload": OPCODE["payload"] | {"model": name}}
        early = server.ask(ask, ROUTE, authorization="Bearer no", **accept)
        assert (early.status_code, early.json()["payload"]["code"]) == (401, "invalid_api_key")
        assert early.json()["payload"]["retryable"] is False
        # Refused before its body was read, so in a form that either kind of client understands.
        word, value = ("opcode", 14) if "opcode" in ask else ("type", "ERROR")
        assert early.json()[word] == value
        other = ask | {"payload": ask["payload"] | {"model_hint": "none", "model": "none"}}
        self.check(server.ask(other, ROUTE, **accept), ask, 404, "model_not_found")
        wrong = ask | {"payload": ask["payload"] | {"top_p": 0.5}}
        payload = self.check(server.ask(wrong, ROUTE, **accept), ask, 400, "unsupported_parameter")
        assert payload["param"] == "payload.top_p"
        station.then(status(503))
        payload = self.check(server.ask(ask, ROUTE, **accept), ask, 502, "upstream_error")
        assert payload["retryable"] is True
        station.then(status(429, retry_after="7"))
        payload = self.check(server.ask(ask, ROUTE, **accept), ask, 429, "rate_limit_exceeded")
        assert payload["retry_after_ms"] == 7000

    def test_time_runs_out(self, server: RunningServer, upstream: Upstream, stream: bool) -> None:
        server.apply(model("glm-large", upstream.station().always(never).generate_url, max_retries=0))
        accept = {"accept": "text/event-stream"} if stream else {}
        ask = INFER | {"payload": INFER["payload"] | {"timeout_ms": 300}}
        self.check(server.ask(ask, ROUTE, **accept), ask, 504, "deadline_exceeded")

    def test_not_a_message(self, server: RunningServer, stream: bool) -> None:
        accept = {"accept": "text/event-stream"} if stream else {}
        for body in (b"[]", b"{", b'{"type": "INFER_REQUEST"}', b'{"opcode": 99, "payload": {"prompt": "x"}}'):
            answer = server.ask(body, ROUTE, **accept)
            assert answer.status_code == 400
            told = answer.json()
            assert told.get("type") == "ERROR" or told.get("opcode") == 14
            assert told["payload"]["code"] == "invalid_request"


@pytest.mark.parametrize("message", [INFER, OPCODE | {"payload": {"prompt": "x"}}], ids=["typed", "opcode"])
def test_a_stream_that_breaks_ends_with_an_error_message(
    server: RunningServer, upstream: Upstream, message: dict[str, Any]
) -> None:
    broken = pieces(event({"text": "half"}), event({"text": " an"}), end="reset")
    server.apply(model("glm-large", upstream.station().then(broken).always(speak).generate_url))
    with RawClient(server) as client:
        client.send(message, ROUTE, accept="text/event-stream")
        *chunks, last = client.broken_events()
    assert "".join(one["payload"]["text"] for one in chunks) == "half an"
    assert last.get("type") == "ERROR" or last.get("opcode") == 14
    assert last["payload"]["code"] == "stream_interrupted"
    assert last["payload"]["delivered_chars"] == len("half an")


def test_fixture_messages_are_what_they_are() -> None:
    assert Path(FIXTURES / "mcp_config.yaml").exists()
    assert (INFER["payload"]["model_hint"], OPCODE["opcode"]) == ("glm-large", 10)


class TestPayloads:
    """What a payload may hold beside a prompt: the fields of a chat completion."""

    TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}

    def ask(self, server: RunningServer, stream: bool, **payload: Any) -> dict[str, Any]:
        accept = {"accept": "text/event-stream"} if stream else {}
        answer = server.ask({"opcode": 10, "payload": payload}, ROUTE, **accept)
        told: dict[str, Any] = streamed(answer)[-1] if stream and answer.status_code == 200 else answer.json()
        return told

    @pytest.mark.parametrize("stream", [False, True], ids=["single", "streamed"])
    def test_tools(self, server: RunningServer, upstream: Upstream, stream: bool) -> None:
        server.apply(model("only", upstream.station().url))
        told = self.ask(server, stream, prompt="天气?", tools=[self.TOOL])
        assert told["opcode"] == 11
        (call,) = told["payload"]["tool_calls"]
        assert (call["name"], call["arguments"]) == ("weather", TOOL_ARGUMENTS)
        assert told["payload"]["finish_reason"] == "tool_calls"

    @pytest.mark.parametrize("stream", [False, True], ids=["single", "streamed"])
    def test_a_conversation_with_a_schema(self, server: RunningServer, upstream: Upstream, stream: bool) -> None:
        station = upstream.station()
        server.apply(model("only", station.url))
        said = [{"role": "system", "content": "JSON"}, {"role": "user", "content": "北京"}]
        told = self.ask(server, stream, messages=said, response_format={"type": "json_object"})
        assert told["payload"]["text"] == JSON_TEXT
        assert station.seen[0].json["messages"] == said
        assert station.seen[0].json["response_format"] == {"type": "json_object"}
        assert told["payload"]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5}

    @pytest.mark.parametrize(
        ("payload", "param"),
        [
            ({"prompt": "x", "n": 2}, "payload.n"),
            ({"prompt": "x", "messages": []}, "payload"),
            ({}, "payload"),
            ({"prompt": "x", "api_base": "http://a"}, "payload.api_base"),
            ({"prompt": "x", "timeout_ms": 0}, "payload.timeout_ms"),
            ({"prompt": ["x"]}, "payload.prompt"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, server: RunningServer, upstream: Upstream, payload: dict[str, Any], param: str
    ) -> None:
        station = upstream.station()
        server.apply(model("only", station.url))
        told = self.ask(server, False, **payload)
        assert (told["opcode"], told["payload"]["code"]) == (14, "invalid_request")
        assert told["payload"]["param"] == param
        assert station.seen == []
