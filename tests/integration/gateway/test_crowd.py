"""Many requests at once, and several on one connection."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import TEXT, speak
from tests.integration.upstreams import Upstream, after, never


def test_requests_wait_their_turn_for_a_connection(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(after(0.03, speak))
    server.apply(model(station.name, station.url), limits={"upstream": {"connections": 2}})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.chat(station.name, number % 2 == 0), range(16)))
    assert [answer.status_code for answer in answers] == [200] * 16
    assert len({seen.connection for seen in station.seen}) == 2


def test_who_waits_too_long_for_a_connection_is_told(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().then(never)
    server.apply(
        model(station.name, station.url, max_retries=0),
        limits={"upstream": {"connections": 1}},
        timeouts={"connect": "300ms"},
    )
    with RawClient(server) as client:
        client.send(chat_body(station.name))
        station.wait_seen()
        answer = server.chat(station.name)
    assert answer.status_code == 502
    assert len(station.seen) == 1
    station.wait_gone()
    assert server.chat(station.name).status_code == 200


@pytest.mark.parametrize("kind", ["openai", "generate", "embedded"])
def test_a_hundred_streams_at_once(server: RunningServer, upstream: Upstream, kind: str) -> None:
    station = upstream.station().always(after(0.02, speak))
    endpoint = {"openai": station.url, "generate": station.generate_url, "embedded": "embedded:glm-nano"}[kind]
    server.apply(model("many", endpoint))
    clients = [RawClient(server) for _ in range(100)]
    for client in clients:
        client.send(chat_body("many", stream=True), connection="close")
    texts = set()
    for client in clients:
        with client:
            client.read_until(b"[DONE]")
            lines = [line for line in client.read_all().split(b"\n") if line.startswith(b"data: {")]
            texts.add(streamed_text([json.loads(line.removeprefix(b"data: ")) for line in lines]))
    assert len(texts) == 1, "nobody got a piece of somebody else's"
    assert texts == {TEXT} or kind == "embedded"


def test_requests_sent_ahead_are_answered_in_order(server: RunningServer, upstream: Upstream) -> None:
    slow, fast = upstream.station("slow").always(after(0.1, speak)), upstream.station("fast")
    server.apply(model(slow.name, slow.url), model(fast.name, fast.url))
    with RawClient(server) as client:
        client.send(chat_body(slow.name), x_request_id="first")
        client.send(chat_body(fast.name), x_request_id="second")
        client.send(chat_body("none"), x_request_id="third", connection="close")
        answers = client.read_all()
    assert answers.index(b"x-request-id: first") < answers.index(b"x-request-id: second")
    assert answers.index(b"x-request-id: second") < answers.index(b"x-request-id: third")
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"HTTP/1.1 404 ") == 1


def test_a_client_that_asks_before_it_sends_a_body(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    body = json.dumps(chat_body(station.name)).encode()
    with RawClient(server) as client:
        client.send(b"", expect="100-continue", content_length=str(len(body)))
        client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.socket.sendall(body)
        client.read_until(b"HTTP/1.1 200 OK")
    with RawClient(server) as client:
        client.send(b"", expect="100-continue", content_length=str(len(body)), authorization="Bearer wrong")
        assert b"100 Continue" not in client.read_until(b"HTTP/1.1 401 ")


def test_answers_go_to_whom_asked(server: RunningServer, upstream: Upstream) -> None:
    names = [f"model-{number}" for number in range(8)]
    station = upstream.station()
    server.apply(*[model(name, station.url, upstream_model=f"upstream-of-{name}") for name in names])

    def ask(number: int) -> bool:
        name = names[number % len(names)]
        if number % 3:
            return bool(server.chat(name).json()["model"] == f"upstream-of-{name}")
        found = events(server.chat(name, stream=True))
        return {one["model"] for one in found[:-1]} == {f"upstream-of-{name}"}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
