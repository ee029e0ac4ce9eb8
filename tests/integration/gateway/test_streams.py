"""Streams: as they come, broken in every way, to clients of each form."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import DONE, TEXT, USAGE, delta, event, finish, generate
from tests.integration.upstreams import Behaviour, Upstream, after, pieces, wait_until

MALFORMED = b"data: {nonsense\n\n"
IN_BAND = event({"error": {"message": "the engine died", "type": "server_error"}})

BREAKS: dict[str, Behaviour] = {
    "cut": pieces(delta("half"), delta(" an"), end="cut"),
    "RST": pieces(delta("half"), delta(" an"), end="reset"),
    "ends without finish": pieces(delta("half"), delta(" an")),
    "DONE without finish": pieces(delta("half"), delta(" an"), DONE),
    "malformed": pieces(delta("half"), delta(" an"), MALFORMED, delta(" answer"), finish(), DONE),
    "in-band error": pieces(delta("half"), delta(" an"), IN_BAND, DONE),
    "stall": pieces(delta("half"), delta(" an"), end="stall"),
    "cut within an event": pieces(delta("half"), delta(" an"), delta(" answer")[:40], end="cut"),
    "no chunked framing": pieces(delta("half") + delta(" an"), b"", delta("more")),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_after_content(server: RunningServer, upstream: Upstream, name: str) -> None:
    bad, good = upstream.station("bad").always(BREAKS[name]), upstream.station("good")
    server.apply(
        model(bad.name, bad.url, timeouts={"gap": "400ms"}),
        model(good.name, good.url),
        routing={"fallbacks": {bad.name: [good.name]}},
    )
    with RawClient(server) as client:
        client.send(chat_body(bad.name, stream=True))
        *chunks, last = client.broken_events()
    assert streamed_text(chunks) == "half an"
    error = last["error"]
    assert error["code"] == "stream_interrupted"
    assert error["delivered_chars"] == len("half an")
    assert error["retryable"] is True
    assert error["request_id"]
    assert (len(bad.seen), len(good.seen)) == (1, 0), "no second voice after content"
    story = server.admin_get(f"/admin/v1/requests/{error['request_id']}/explain")
    assert story["attempts"][0]["outcome"] == "interrupted"


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_completions_and_generate_break_alike(server: RunningServer, upstream: Upstream, end: str) -> None:
    station = upstream.station().always(pieces(event({"text": "half"}), event({"text": " an"}), end=end))
    server.apply(model(station.name, station.generate_url))
    for path, prompt in (("chat/completions", {"messages": [{"role": "user", "content": "x"}]}), ("completions", {})):
        with RawClient(server) as client:
            client.send({"model": station.name, "stream": True, "prompt": "x", **prompt}, f"/v1/{path}")
            *chunks, last = client.broken_events()
        said = [choice.get("text", choice.get("delta", {}).get("content")) for c in chunks for choice in c["choices"]]
        assert "".join(part or "" for part in said) == "half an"
        assert last["error"]["delivered_chars"] == len("half an")


def test_the_deadline_ends_a_stream_too(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(pieces(delta("half"), end="stall"))
    server.apply(model(station.name, station.url))
    with RawClient(server) as client:
        client.send(chat_body(station.name, stream=True), x_request_timeout_ms="400")
        *chunks, last = client.broken_events()
    assert streamed_text(chunks) == "half"
    assert last["error"]["code"] == "deadline_exceeded"
    station.wait_gone()


def test_one_long_event_is_refused(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(pieces(delta("ok"), b"data: " + b"x" * 1_200_000, end="stall"))
    server.apply(model(station.name, station.url))
    with RawClient(server) as client:
        client.send(chat_body(station.name, stream=True))
        last = client.broken_events()[-1]
    assert last["error"]["code"] == "stream_interrupted"
    station.wait_gone()


def test_a_missing_done_is_supplied(server: RunningServer, upstream: Upstream) -> None:
    parts = (delta("a"), delta("b"), finish())
    station = upstream.station().always(pieces(*parts))
    server.apply(model(station.name, station.url))
    assert server.chat(station.name, stream=True).content == b"".join(parts) + DONE


@pytest.mark.parametrize("asked", [False, True], ids=["not asked", "asked"])
def test_an_event_with_usage_only_is_passed_on_if_asked_for(
    server: RunningServer, upstream: Upstream, asked: bool
) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    more = {"stream_options": {"include_usage": True}} if asked else {}
    found = events(server.chat(station.name, stream=True, **more))
    assert station.seen[0].json["stream_options"] == {"include_usage": True}
    assert streamed_text(found) == TEXT
    assert found[-1] == "[DONE]"
    assert [one["usage"] for one in found[:-1] if one.get("usage")] == ([USAGE] if asked else [])


def test_usage_is_not_asked_for_where_the_configuration_says_so(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url, stream_usage=False))
    assert events(server.chat(station.name, stream=True))[-1] == "[DONE]"
    assert "stream_options" not in station.seen[0].json


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["openai", "generate"])
def test_characters_may_be_cut_anywhere(server: RunningServer, upstream: Upstream, size: int, kind: str) -> None:
    text = "🙂汉字é"
    if kind == "openai":
        parts = (delta(text[0]), delta(text[1:3]), delta(text[3:]), finish(), DONE)
    else:
        parts = tuple(event({"text": part}) for part in text)
    station = upstream.station().always(pieces(*parts, cut_at=size))
    server.apply(model(station.name, station.url if kind == "openai" else station.generate_url))
    found = events(server.chat(station.name, stream=True))
    assert streamed_text(found) == text
    assert found[-1] == "[DONE]"


@pytest.mark.parametrize(
    "stream",
    [
        delta("a").replace(b"\n", b"\r\n") + finish().replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n",
        b": keep-alive\n\n" + delta("a") + b": x\n\n" + finish() + DONE,
        b"event: message\nid: 1\n" + delta("a") + b"retry: 5\n" + finish() + DONE,
        delta("a").replace(b"data: ", b"data:") + finish() + b"data:[DONE]\n\n",
        b"\xef\xbb\xbf" + delta("a") + finish() + DONE,
        delta("a") + finish() + DONE.rstrip(),
    ],
    ids=["CRLF", "comments", "other fields", "no space", "byte order mark", "no last blank line"],
)
def test_odd_but_legal_streams(server: RunningServer, upstream: Upstream, stream: bytes) -> None:
    station = upstream.station().always(pieces(stream))
    server.apply(model(station.name, station.url))
    found = events(server.chat(station.name, stream=True))
    assert streamed_text(found) == "a"
    assert found[-1] == "[DONE]"


def test_pieces_arrive_as_they_are_made(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    parts = [delta(f"{number}") for number in range(3)]
    gates = [threading.Event() for _ in parts]

    async def behave(wire: Any) -> None:
        await wire.start_stream()
        for part, gate in zip(parts, gates, strict=True):
            while not gate.is_set():
                await after(0.002, _nothing)(wire)
            await wire.chunk(part)
        await wire.chunk(finish() + DONE)
        await wire.end_stream()

    server.apply(model(station.name, station.always(behave).url))
    with RawClient(server) as client:
        client.send(chat_body(station.name, stream=True))
        for part, gate in zip(parts, gates, strict=True):
            gate.set()
            client.read_until(part)
        assert client.read_until(b"0\r\n\r\n").count(b"data: ") == 5


async def _nothing(wire: Any) -> None:
    pass


def test_200_is_held_back_until_the_first_content(server: RunningServer, upstream: Upstream) -> None:
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})
    station = upstream.station().always(pieces(role, end="stall"))
    server.apply(model(station.name, station.url, max_retries=0, timeouts={"first_token": "300ms"}))
    answer = server.chat(station.name, stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


class TestSlowReaders:
    def test_the_upstream_is_not_read_on_and_memory_does_not_grow(
        self, server: RunningServer, upstream: Upstream
    ) -> None:
        total = 64 * 2**20
        part = delta("x" * 60_000)
        station = upstream.station().always(pieces(*[part] * (total // len(part)), finish(), DONE))
        server.apply(model(station.name, station.url))
        before = server.resident_bytes()
        with RawClient(server, receive_buffer=64 * 2**10) as client:
            client.send(chat_body(station.name, stream=True))
            client.read_until(part[:100])
            seen = station.seen[0]
            held = -1
            while held != seen.sent_bytes:
                held = seen.sent_bytes
                time.sleep(0.3)
            assert held < 24 * 2**20, "the upstream's writer is stopped"
            assert server.resident_bytes() - before < 24 * 2**20
            size = len(client.received)
            while not client.received.endswith(b"0\r\n\r\n"):
                client.received = client.received[-10:] + client.socket.recv(2**20)
                size += len(client.received)
            assert size > total * 0.99, "and goes on when the client reads"
        assert server.resident_bytes() - before < 32 * 2**20

    def test_a_client_that_takes_nothing_is_closed(self, server: RunningServer, upstream: Upstream) -> None:
        part = delta("x" * 60_000)
        station = upstream.station().always(pieces(*[part] * 500, end="stall"))
        server.apply(model(station.name, station.url), limits={"wire": {"write_timeout": "1s"}})
        with RawClient(server, receive_buffer=16 * 2**10) as client:
            client.send(chat_body(station.name, stream=True))
            station.wait_seen()
            station.wait_gone(timeout_s=20.0)
        server.apply(model(station.name, station.url))


@pytest.mark.parametrize("form", ["text", "response", "generated_text", "vllm", "sglang"])
def test_forms_of_generate_as_chat(server: RunningServer, upstream: Upstream, form: str) -> None:
    station = upstream.station(form).always(generate(form))
    server.apply(model(station.name, station.generate_url))
    whole = server.chat(station.name).json()
    assert whole["choices"][0]["message"]["content"] == TEXT
    assert whole["usage"].get("estimated", False) == (form not in ("response", "sglang"))
    found = events(server.chat(station.name, stream=True, stream_options={"include_usage": True}))
    assert streamed_text(found) == TEXT
    assert found[-1] == "[DONE]"
    assert found[-2]["usage"]["total_tokens"] > 0


def test_the_log_says_how_streams_ended(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().then(BREAKS["cut"])
    server.apply(model(station.name, station.url))
    with RawClient(server) as client:
        client.send(chat_body(station.name, stream=True), x_request_id="cut-1")
        client.broken_stream()
    assert server.ask(chat_body(station.name, stream=True), x_request_id="whole-1").status_code == 200

    def lines() -> dict[str, Any]:
        return {line["request_id"]: line for line in server.log_lines() if "request_id" in line}

    wait_until(lambda: "whole-1" in lines(), "the log has the request")
    assert json.dumps(lines()["cut-1"]).count("stream_interrupted") >= 1
    assert "stream_interrupted" not in json.dumps(lines()["whole-1"])
