"""Stopping a real server by signals: who is told what, who may finish, and when it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import TEXT, delta
from tests.integration.upstreams import Upstream, never, pieces, wait_until

LONG_S = 60
END_S = 20.0
"""Less than LONG_S: who ends within this has not waited for that."""


def drain(accept: float, unary: float = LONG_S, stream: float = LONG_S) -> dict[str, Any]:
    return {"accept": accept, "unary": unary, "stream": stream}


def phases(server: RunningServer) -> list[str]:
    words = (str(line.get("message", "")).split(":")[0] for line in server.log_lines())
    return [word.removeprefix("draining, ") for word in words if word.startswith("draining, ")]


def refused(url: str) -> bool:
    try:
        httpx2.get(f"{url}/healthz")
    except httpx2.ConnectError:
        return True
    return False


def test_balancers_are_told_before_the_door_closes(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    config = {"models": [model("chat", station.url)], "drain": drain(2.0)}
    with RunningServer(tmp_path, config) as server, RawClient(server) as kept, RawClient(server) as idle:
        idle.send(chat_body())
        idle.read_until(b'"total_tokens"')
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 503, "it says that it leaves")
        assert httpx2.get(f"{server.url}/readyz").json()["error"]["code"] == "server_draining"
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        assert httpx2.get(f"{server.admin}/readyz").json()["ready"] is False
        assert "mcp_draining 1" in server.admin_get("/metrics")
        answer = httpx2.post(
            f"{server.url}/v1/chat/completions", headers=server.http.headers, content=json.dumps(chat_body())
        )
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        kept.send(chat_body())
        assert b"connection: close" in kept.read_all()
        assert server.process.wait(END_S) == 0
        assert idle.read_all().count(b"HTTP/1.1 200 ") == 1
        assert refused(server.url)
        assert phases(server) == ["accepting", "closing", "streams", "over"]


def test_what_does_not_end_in_time_is_told(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station().then(pieces(delta("one"), end="stall"), never)
    config = {"models": [model("chat", station.url)], "drain": drain(0, 0.5, 1.5)}
    with (
        RunningServer(tmp_path, config) as server,
        RawClient(server) as stream,
        RawClient(server) as unary,
        RawClient(server) as half,
    ):
        stream.send(chat_body(stream=True))
        stream.read_until(b'"one"')
        unary.send(chat_body())
        station.wait_seen(2)
        half.socket.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
        server.process.send_signal(signal.SIGTERM)
        for client in (unary, half):
            head, _, body = client.read_all().partition(b"\r\n\r\n")
            if client is unary:
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: " in head
                assert json.loads(body)["error"]["code"] == "server_draining"
            else:
                assert head.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 401 "))
        last = stream.broken_events()[-1]["error"]
        assert last["code"] == "server_draining"
        assert last["resumable"] is True
        assert last["delivered_chars"] == len("one")
        assert server.process.wait(END_S) == 0
        station.wait_gone(0)
        station.wait_gone(1)
        codes = [line["code"] for line in server.log_lines() if line.get("event") == "request"]
        assert codes.count("server_draining") >= 2
        assert "Traceback" not in server.log()


def test_streams_may_last_longer_than_unary_requests(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    station.always(station.held(station.usual))
    config = {"models": [model("chat", station.url)], "drain": drain(0, 0.2)}
    with RunningServer(tmp_path, config) as server, RawClient(server) as stream:
        stream.send(chat_body(stream=True))
        station.wait_seen()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: phases(server)[-1:] == ["streams"], "only a stream is left")
        station.let_go()
        assert stream.read_all().endswith(b"0\r\n\r\n")
        assert b"data: [DONE]" in stream.received
        assert server.process.wait(END_S) == 0


def test_ctrl_c_waits_for_requests_and_for_nothing_else(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    station.always(station.held(station.usual))
    config = {"models": [model("chat", station.url)], "drain": drain(LONG_S)}
    with RunningServer(tmp_path, config) as server, RawClient(server) as busy, RawClient(server) as idle:
        busy.send(chat_body(stream=True))
        station.wait_seen()
        server.process.send_signal(signal.SIGINT)
        assert idle.read_all() == b""
        assert refused(server.url)
        station.let_go()
        assert busy.read_all().endswith(b"0\r\n\r\n")
        assert server.process.wait(END_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_and_the_log_is_whole(
    upstream: Upstream, tmp_path: Path, number: signal.Signals
) -> None:
    config = {"models": [model("chat", upstream.station().url)], "drain": drain(LONG_S)}
    with RunningServer(tmp_path, config) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 503, "it says that it leaves")
        answer = server.chat(stream=True)
        assert streamed_text(events(answer)) == TEXT
        server.process.send_signal(number)
        assert server.process.wait(END_S) == 130
        ids = [line["request_id"] for line in server.log_lines() if line.get("event") == "request"]
        assert answer.headers["x-request-id"] in ids
