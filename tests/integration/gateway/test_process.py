"""The process around the gateway: other people's configurations, the standard loop, stopping."""

from __future__ import annotations

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import TEXT, delta
from tests.integration.upstreams import Upstream, pieces, wait_until

FIXTURES = ROOT / "tests" / "data" / "fixtures"
PORTS = ("--port", "0", "--admin-port", "0")
ADMIN = {"MCP__SERVER__ADMIN_KEY": ADMIN_KEY}
# What each of them asks for and this version does not have; the start must say so by name.
NOT_THERE = {
    "application.yaml": (),
    "cooperation.json": (),
    "service.json": ("service.registry",),
    "sync.yaml": ("sync_mode",),
}


@pytest.mark.parametrize("name", NOT_THERE)
def test_every_fixture_starts_or_says_what_is_not_there(tmp_path: Path, name: str) -> None:
    with RunningServer(tmp_path, config_file=FIXTURES / name, words=PORTS, environ=ADMIN) as server:
        context = server.url.partition("//")[2].partition("/")[2]
        path = f"/{context}/healthz" if context else "/healthz"
        origin = server.url.partition("//")[2].partition("/")[0]
        assert httpx2.get(f"http://{origin}{path}").status_code == 200
        for word in NOT_THERE[name]:
            wait_until(lambda word=word: word in server.log(), f"{name} asks for {word}")


def test_the_fixtures_are_all_there() -> None:
    assert {path.name for path in FIXTURES.iterdir() if path.is_file()} == {*NOT_THERE, "mcp_config.yaml"}


def test_the_standard_loop(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    with RunningServer(tmp_path, {"models": [model("chat", station.url)]}, words=("--standard-loop",)) as server:
        assert server.chat().json()["choices"][0]["message"]["content"] == TEXT
        assert streamed_text(events(server.chat(stream=True))) == TEXT
        for leave in (RawClient.close, RawClient.reset):
            station.then(pieces(delta("one"), end="stall"))
            with RawClient(server) as client:
                client.send(chat_body(stream=True))
                client.read_until(b'"one"')
                leave(client)
            station.wait_gone()
        assert server.chat().status_code == 200


class TestStopping:
    def test_what_runs_ends_well(self, upstream: Upstream, tmp_path: Path) -> None:
        station = upstream.station()
        station.always(station.held(station.usual))
        with RunningServer(tmp_path, {"models": [model("chat", station.url)]}) as server:
            with ThreadPoolExecutor(2) as pool:
                running = [pool.submit(server.chat, "chat", stream) for stream in (False, True)]
                station.wait_seen(2)
                server.process.send_signal(signal.SIGTERM)
                with pytest.raises(subprocess.TimeoutExpired):
                    server.process.wait(0.3)
                station.let_go()
                whole, streamed = (one.result() for one in running)
            assert whole.status_code == 200
            assert streamed_text(events(streamed)) == TEXT
            assert streamed.text.endswith("data: [DONE]\n\n")
            assert server.process.wait(10.0) == 0

    def test_a_second_signal_ends_it_at_once(self, upstream: Upstream, tmp_path: Path) -> None:
        station = upstream.station().always(pieces(delta("one"), end="stall"))
        with RunningServer(tmp_path, {"models": [model("chat", station.url)]}) as server:
            with RawClient(server) as client:
                client.send(chat_body(stream=True))
                client.read_until(b'"one"')
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(5.0) == 130
            station.wait_gone()
