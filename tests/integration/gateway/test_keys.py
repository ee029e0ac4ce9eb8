"""API keys on the path: who may use what, how much of it, and what a reload changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import KEY, RunningServer, chat_body, model
from tests.integration.speech import speak
from tests.integration.upstreams import Station, Upstream, never, reset, status, wait_until


def keys(**entries: dict[str, Any]) -> dict[str, Any]:
    """`auth` with keys of these names; each is `NAME-key`."""
    return {"api_keys": [{"name": name, "key": f"{name}-key", **more} for name, more in entries.items()]}


def ask(server: RunningServer, key: str, name: str, **headers: str) -> httpx2.Response:
    return server.ask(chat_body(name), authorization=f"Bearer {key}-key", **headers)


@pytest.fixture
def station(upstream: Upstream) -> Station:
    return upstream.station()


def test_a_key_may_be_shown_in_two_ways(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url))
    url = f"{server.url}/v1/chat/completions"
    for headers in ({"x-api-key": KEY}, {"authorization": f"bearer {KEY}"}, {"authorization": f"Bearer  {KEY}"}):
        assert httpx2.post(url, json=chat_body(), headers=headers).status_code == 200
    for headers in ({}, {"authorization": f"Basic {KEY}"}, {"x-api-key": ""}, {"authorization": "Bearer"}):
        answer = httpx2.post(url, json=chat_body(), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(station.seen) == 3


def test_models_of_a_key(server: RunningServer, station: Station) -> None:
    server.apply(
        model("a", station.url),
        model("b", station.url),
        auth=keys(all={}, first={"models": ["a"]}, none={"models": []}),
    )
    assert ask(server, "first", "a").status_code == 200
    assert ask(server, "first", "b").status_code == 404
    assert ask(server, "none", "a").status_code == 404
    for key, names in (("all", ["a", "b"]), ("first", ["a"]), ("none", [])):
        listed = server.http.get("/v1/models", headers={"authorization": f"Bearer {key}-key"}).json()
        assert [one["id"] for one in listed["data"]] == names
    message = {"opcode": 10, "payload": {"prompt": "x", "model": "b"}}
    answer = server.ask(message, "/mcp/v1/messages", authorization="Bearer first-key").json()
    assert (answer["opcode"], answer["payload"]["code"]) == (14, "model_not_found")


def test_rates_are_per_key(server: RunningServer, station: Station) -> None:
    limits = {"requests_per_second": 0.5, "burst": 3}
    server.apply(model("chat", station.url), auth=keys(small={"limits": limits}, large={}))
    answers = [ask(server, "small", "chat") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"3"}
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 4
    assert len(station.seen) == 3
    assert all(ask(server, "large", "chat").status_code == 200 for _ in range(10))


def test_no_limit_is_not_announced_as_nothing_left(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url))
    answer = server.chat()
    assert "x-ratelimit-limit-requests" not in answer.headers
    assert "x-ratelimit-remaining-requests" not in answer.headers


def test_requests_a_minute(server: RunningServer, station: Station) -> None:
    limits = {"requests_per_second": 0, "requests_per_minute": 4}
    server.apply(model("chat", station.url), auth=keys(minute={"limits": limits}))
    statuses = [ask(server, "minute", "chat").status_code for _ in range(6)]
    assert statuses == [200, 200, 200, 200, 429, 429]


def test_concurrency(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url), auth=keys(two={"limits": {"requests_per_second": 0, "concurrency": 2}}))
    station.always(station.held(speak))
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask, server, "two", "chat") for _ in range(2)]
        station.wait_seen(2)
        refused = ask(server, "two", "chat")
        assert refused.status_code == 429
        assert "retry-after" in refused.headers
        assert "concurrency" in refused.json()["error"]["message"]
        station.let_go()
        assert [one.result().status_code for one in running] == [200, 200]
    assert ask(server, "two", "chat").status_code == 200


def test_places_are_freed_however_requests_end(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    auth = keys(one={"limits": {"requests_per_second": 0, "concurrency": 1}})
    server.apply(model("chat", station.url, max_retries=0), auth=auth)
    for behaviour in (status(503), reset, status(400), speak):
        station.then(behaviour)
        assert ask(server, "one", "chat").status_code != 429
    for leave in ("close", "reset"):
        station.then(never)
        count = len(station.seen)
        with RawClient(server) as client:
            client.send(chat_body(stream=True), authorization="Bearer one-key")
            station.wait_seen(count + 1)
            getattr(client, leave)()
        station.wait_gone(count)
        wait_until(lambda: ask(server, "one", "chat").status_code == 200, "the place is free")
    assert ask(server, "one", "none").status_code == 404
    assert server.ask(b"{", authorization="Bearer one-key").status_code == 400
    assert ask(server, "one", "chat").status_code == 200


def test_rotated_keys(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url), auth=keys(old={}))
    with httpx2.Client(base_url=server.url) as kept_alive:

        def status_of(key: str) -> int:
            headers = {"authorization": f"Bearer {key}-key"}
            return kept_alive.post("/v1/chat/completions", json=chat_body(), headers=headers).status_code

        assert (status_of("old"), status_of("new")) == (200, 401)
        server.apply(model("chat", station.url), auth=keys(old={}, new={}))
        assert (status_of("old"), status_of("new")) == (200, 200)
        server.apply(model("chat", station.url), auth=keys(new={}))
        assert (status_of("old"), status_of("new")) == (401, 200)


def test_a_limit_outlives_a_reload(server: RunningServer, station: Station) -> None:
    auth = keys(slow={"limits": {"requests_per_second": 0.01, "burst": 2}})
    server.apply(model("chat", station.url), auth=auth)
    assert [ask(server, "slow", "chat").status_code for _ in range(3)] == [200, 200, 429]
    server.apply(model("chat", station.url, weight=2), auth=auth)
    assert ask(server, "slow", "chat").status_code == 429


def test_a_request_in_flight_survives_that_its_model_is_removed(server: RunningServer, upstream: Upstream) -> None:
    old, new = upstream.station("old"), upstream.station("new")
    old.always(old.held(speak))
    server.apply(model("chat", old.url))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, "chat", True)
        old.wait_seen()
        server.apply(model("chat", new.url))
        assert server.chat().status_code == 200
        assert len(new.seen) == 1
        old.let_go()
        answer = running.result()
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")


def test_refusals_cost_the_upstream_nothing(server: RunningServer, station: Station) -> None:
    server.apply(model("chat", station.url))
    for _ in range(50):
        assert server.ask(chat_body(), authorization="Bearer wrong").status_code == 401
    assert station.seen == []


def test_keys_are_listed_with_their_class_and_what_happens_beyond_their_limits(
    server: RunningServer, station: Station
) -> None:
    auth = keys(night={"priority": "sheddable", "limits": {"concurrency": 2, "when_exceeded": "wait"}}, day={})
    server.apply(model("chat", station.url), auth=auth)
    rows = server.admin_get("/admin/v1/keys")["keys"]
    assert [(row["name"], row["priority"], row["when_exceeded"]) for row in rows] == [
        ("night", "sheddable", "wait"),
        ("day", "critical", "refuse"),
    ]
    assert "night-key" not in str(rows)
