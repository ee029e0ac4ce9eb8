"""When not everybody fits: turns, classes, lines, sources, stages, descriptors. Judged by who was served, not when."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import RunningServer, chat_body, model
from tests.integration.speech import TEXT
from tests.integration.upstreams import Station, Upstream, after, wait_until

PATIENT: dict[str, Any] = {"queue_age": "20s"}


def keys(**entries: dict[str, Any]) -> dict[str, Any]:
    """`auth` with keys of these names; each is `NAME-key`."""
    return {"api_keys": [{"name": name, "key": f"{name}-key", **more} for name, more in entries.items()]}


def ask(server: RunningServer, key: str, prompt: str = "x", **headers: str) -> httpx2.Response:
    body = chat_body() | {"messages": [{"role": "user", "content": prompt}]}
    return server.ask(body, authorization=f"Bearer {key}-key", **headers)


def room(limit: int) -> dict[str, int]:
    """`concurrency` that never moves."""
    return {"start": limit, "min": limit, "max": limit}


def waiting(server: RunningServer) -> int:
    return int(sum(server.admin_get("/admin/v1/status")["waiting"].values()))


def prompts(station: Station) -> list[str]:
    return [seen.json["messages"][0]["content"] for seen in station.seen]


@pytest.fixture
def station(upstream: Upstream) -> Station:
    return upstream.station()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(48) as pool:
        yield pool


class TestRoom:
    def test_keys_take_turns_whatever_one_of_them_sends(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        station.always(station.held(station.usual))
        server.apply(model("chat", station.url), auth=keys(many={}, one={}), concurrency=room(4), admission=PATIENT)
        running = [pool.submit(ask, server, "many", f"running {number}") for number in range(4)]
        station.wait_seen(4)
        for number in range(6):
            running.append(pool.submit(ask, server, "many", f"many {number}"))
            wait_until(lambda number=number: waiting(server) == number + 1, "it waits")  # type: ignore[misc]
        other = pool.submit(ask, server, "one", "one")
        wait_until(lambda: waiting(server) == 7, "the other key waits too")
        station.let_go()
        answers = [each.result() for each in running]
        assert {answer.status_code for answer in answers} == {200}
        assert "x-mcp-queue-position" not in answers[0].headers
        positions = [int(answer.headers["x-mcp-queue-position"]) for answer in answers[4:]]
        # In the order of their coming, or else, once the first has stood for 0.1 s, each newest one is the next.
        assert all(position in (1, place) for place, position in enumerate(positions, 1)), positions
        assert other.result().headers["x-mcp-queue-position"] == "2"
        assert prompts(station).index("one") <= 4 + 4, "at most the requests of the first two rounds came before it"
        assert waiting(server) == 0

    def test_what_is_critical_is_served_while_others_are_refused(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        station.always(after(0.1, station.usual))
        auth = keys(batch={"priority": "sheddable"}, person={})
        server.apply(model("chat", station.url), auth=auth, concurrency=room(4), admission=PATIENT)
        batch = [pool.submit(ask, server, "batch") for _ in range(32)]
        people = [pool.submit(ask, server, "person") for _ in range(8)]
        assert {each.result().status_code for each in people} == {200}
        counts = Counter(each.result().status_code for each in batch)
        assert counts[503] >= 16
        assert set(counts) <= {200, 503}
        refused = next(each.result() for each in batch if each.result().status_code == 503)
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-should-retry"] == "true"

    def test_one_that_leaves_the_line_is_not_sent_on(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        station.always(station.held(station.usual))
        server.apply(model("chat", station.url), concurrency=room(4), admission=PATIENT)
        running = [pool.submit(server.chat) for _ in range(4)]
        station.wait_seen(4)
        with RawClient(server) as client:
            client.send(chat_body())
            wait_until(lambda: waiting(server) == 1, "it waits")
        wait_until(lambda: waiting(server) == 0, "it has left the line")
        station.let_go()
        assert {each.result().status_code for each in running} == {200}
        assert len(station.seen) == 4


class TestKeys:
    def test_a_key_may_wait_for_its_rate(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        limits = {"requests_per_second": 20, "burst": 1, "when_exceeded": "wait"}
        server.apply(model("chat", station.url), auth=keys(slow={"limits": limits}))
        answers = [each.result() for each in [pool.submit(ask, server, "slow") for _ in range(8)]]
        assert {answer.status_code for answer in answers} == {200}
        positions = sorted(int(answer.headers.get("x-mcp-queue-position", 0)) for answer in answers)
        assert positions[0] == 0
        assert positions[-1] >= 1

    def test_its_line_has_an_end(self, server: RunningServer, station: Station, pool: ThreadPoolExecutor) -> None:
        station.always(station.held(station.usual))
        limits = {"concurrency": 1, "when_exceeded": "wait"}
        server.apply(model("chat", station.url), auth=keys(one={"limits": limits}), admission={"key_queue": 2})
        running = [pool.submit(ask, server, "one")]
        station.wait_seen(1)
        for count in (1, 2):
            running.append(pool.submit(ask, server, "one"))
            wait_until(lambda count=count: waiting(server) == count, "it waits")  # type: ignore[misc]
        refused = ask(server, "one")
        assert refused.status_code == 429
        station.let_go()
        assert [each.result().status_code for each in running] == [200] * 3

    def test_those_who_wait_are_counted_by_their_class(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        station.always(station.held(station.usual))
        limits = {"concurrency": 1, "when_exceeded": "wait"}
        server.apply(model("chat", station.url), auth=keys(one={"limits": limits, "priority": "sheddable_plus"}))
        running = [pool.submit(ask, server, "one")]
        station.wait_seen(1)
        for count, headers in ((1, {}), (2, {"x-mcp-priority": "sheddable"})):
            running.append(pool.submit(ask, server, "one", **headers))
            wait_until(lambda count=count: waiting(server) == count, "it waits")  # type: ignore[misc]
        depths = server.admin_get("/admin/v1/status")["waiting"]
        assert depths == {"sheddable": 1, "sheddable_plus": 1, "critical": 0, "critical_plus": 0}
        station.let_go()
        assert [each.result().status_code for each in running] == [200] * 3

    def test_one_waits_no_longer_than_its_age(
        self, server: RunningServer, station: Station, pool: ThreadPoolExecutor
    ) -> None:
        station.always(station.held(station.usual))
        limits = {"concurrency": 1, "when_exceeded": "wait"}
        server.apply(model("chat", station.url), auth=keys(one={"limits": limits}), admission={"key_age": "100ms"})
        running = pool.submit(ask, server, "one")
        station.wait_seen(1)
        refused = ask(server, "one")
        assert (refused.status_code, refused.headers["x-mcp-queue-position"]) == (429, "1")
        station.let_go()
        assert running.result().status_code == 200
        assert len(station.seen) == 1

    def test_a_priority_that_is_none(self, server: RunningServer, station: Station) -> None:
        server.apply(model("chat", station.url), auth=keys(one={"priority": "sheddable"}))
        for value, status in (("sheddable", 200), ("CRITICAL_PLUS", 200), ("high", 400), ("", 400)):
            assert ask(server, "one", **{"x-mcp-priority": value}).status_code == status


class TestSources:
    def test_an_address_that_guesses_keys_has_to_wait(self, server: RunningServer, station: Station) -> None:
        guesser, other = {"x-forwarded-for": "203.0.113.9"}, {"x-forwarded-for": "203.0.113.10"}
        server.apply(model("chat", station.url), auth=keys(right={}), server={"trusted_proxies": ["127.0.0.1"]})
        guesses = [ask(server, f"wrong {number}", **guesser) for number in range(12)]
        assert [answer.status_code for answer in guesses] == [401] * 10 + [429] * 2
        assert int(guesses[-1].headers["retry-after"]) >= 9
        assert ask(server, "right", **other).status_code == 200
        flagged = server.admin_get("/admin/v1/status")["sources"]
        assert [(row["kind"], row["name"]) for row in flagged] == [("address", "203.0.113.9")]
        assert 'mcp_source_flags_total{kind="address"} 1' in server.admin_get("/metrics")
        wait_until(lambda: "source flagged: address 203.0.113.9" in server.log(), "the log tells it")

    def test_nobody_else_is_believed_to_speak_for_others(self, server: RunningServer, station: Station) -> None:
        server.apply(model("chat", station.url), auth=keys(right={}))
        answer = ask(server, "right", **{"x-forwarded-for": "198.51.100.7"})
        explained = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
        assert explained["client"] == "127.0.0.1"


def test_at_stage_two_only_critical_requests_are_served(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url))
    assert server.chat().status_code == 200
    [used] = [line.split()[1] for line in server.admin_get("/metrics").splitlines() if line.startswith("process_resi")]
    server.apply(model("chat", station.url), overload={"memory": int(float(used) / 0.6), "hard": 0.3, "soft": 0.2})
    try:
        wait_until(lambda: server.admin_get("/admin/v1/status")["overload"]["stage"] == 2, "the stage is seen")
        answer = server.ask(chat_body(), **{"x-mcp-priority": "sheddable_plus"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        assert answer.headers["x-should-retry"] == "false"
        answer = server.chat()
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert "mcp_overload_stage 2" in server.admin_get("/metrics")
    finally:
        server.apply(model("chat", station.url))
        wait_until(lambda: server.admin_get("/admin/v1/status")["overload"]["stage"] == 0, "the stage is left")
    assert "connection" not in server.chat().headers


def test_a_flood_of_connections_leaves_running_requests_and_the_admin_listener_their_descriptors(
    upstream: Upstream, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nulimit -n 256\nexec {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    station = upstream.station()
    station.always(station.held(station.usual))
    with (
        RunningServer(tmp_path, {"models": [model("chat", station.url)]}, program=str(program)) as server,
        ThreadPoolExecutor(8) as pool,
        contextlib.ExitStack() as flood,
    ):
        running = [pool.submit(server.chat, "chat", number % 2 == 0) for number in range(8)]
        station.wait_seen(8)
        host, _, port = server.url.partition("//")[2].partition(":")
        for _ in range(1000):
            with contextlib.suppress(OSError):
                flood.enter_context(socket.create_connection((host, int(port)), timeout=5.0))
        status = server.admin_get("/admin/v1/status")
        assert 100 <= status["connections"] <= 224
        station.let_go()
        answers = [each.result() for each in running]
        assert {answer.status_code for answer in answers} == {200}
        assert all(TEXT in answer.text or "[DONE]" in answer.text for answer in answers)
        flood.close()
        wait_until(lambda: server.admin_get("/admin/v1/status")["overload"]["stage"] == 0, "there is room again")
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        assert server.log().count("\n") < 50, "the log is not flooded either"
        assert "Traceback" not in server.log()
