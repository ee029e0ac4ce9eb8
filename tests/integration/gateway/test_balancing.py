"""The nine strategies, each over two endpoints of one name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import RunningServer, chat_body, model
from tests.integration.speech import speak
from tests.integration.upstreams import Station, Upstream, after, never, wait_until

Pair = tuple[Station, Station]


@pytest.fixture
def pair(upstream: Upstream) -> Pair:
    return upstream.station("a"), upstream.station("b")


def choose(
    server: RunningServer,
    pair: Pair,
    strategy: str,
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
) -> str:
    """Make the two a group and return its name."""
    name = pair[0].name
    server.apply(
        model(name, pair[0].url, **(first or {})),
        model(name, pair[1].url, **(second or {})),
        routing={"strategy": strategy},
    )
    return name


def ask(server: RunningServer, name: str, count: int, **headers: str) -> None:
    for _ in range(count):
        assert server.ask(chat_body(name), **headers).status_code == 200


def counts(pair: Pair) -> tuple[int, int]:
    return len(pair[0].seen), len(pair[1].seen)


@contextmanager
def busy(server: RunningServer, pair: Pair, name: str) -> Iterator[Station]:
    """Keep one endpoint busy with a request that does not end. Yields the other one."""
    for station in pair:
        station.then(never)
    with RawClient(server) as client:
        client.send(chat_body(name))
        wait_until(lambda: pair[0].seen or pair[1].seen, "a request comes")
        idle = pair[1] if pair[0].seen else pair[0]
        idle.script.clear()
        yield idle


def test_round_robin(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "round_robin")
    ask(server, name, 20)
    assert counts(pair) == (10, 10)
    order = sorted((seen.arrived_s, at) for at, station in enumerate(pair) for seen in station.seen)
    assert all(one[1] != other[1] for one, other in pairwise(order)), "in turn"


def test_weighted(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "weighted", {"weight": 4}, {"weight": 1})
    ask(server, name, 40)
    assert counts(pair) == (32, 8)


def test_least_connections(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "least_connections")
    ask(server, name, 20)
    assert counts(pair) == (10, 10), "in turn while both are idle"
    for station in pair:
        station.seen.clear()
    with busy(server, pair, name) as idle:
        ask(server, name, 10)
        assert len(idle.seen) == 10


def test_inverse_load(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "inverse_load", {"weight": 9}, {"weight": 1})
    ask(server, name, 200)
    assert 155 <= counts(pair)[0] <= 198, "nine of ten, give or take five sigma"


def test_power_of_two(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "power_of_two")
    ask(server, name, 100)
    assert all(25 <= count <= 75 for count in counts(pair))
    for station in pair:
        station.seen.clear()
    with busy(server, pair, name) as idle:
        ask(server, name, 10)
        assert len(idle.seen) == 10


def test_latency(server: RunningServer, pair: Pair) -> None:
    pair[0].always(after(0.08, speak))
    name = choose(server, pair, "latency")
    ask(server, name, 30)
    assert 1 <= counts(pair)[0] <= 3, "tried once, and avoided"


def test_cost(server: RunningServer, pair: Pair) -> None:
    dear, cheap = {"price": {"input_per_million": 2, "output_per_million": 2}}, {"price": {"output_per_million": 3}}
    name = choose(server, pair, "cost", dear, cheap)
    ask(server, name, 10)
    assert counts(pair) == (0, 10), "three tokens in for one out: 2.00 against 0.75"


def test_ip_hash(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "ip_hash")
    ask(server, name, 8)
    assert sorted(counts(pair)) == [0, 8]
    for number in range(2, 42):
        with RawClient(server, source=f"127.0.0.{number}") as client:
            for _ in range(2):
                client.send(chat_body(name))
                client.read_until(b"}}")
                client.received = b""
    assert sum(counts(pair)) == 88
    assert all(count % 2 == 0 for count in counts(pair)), "an address stays with its endpoint"
    assert all(count >= 16 for count in counts(pair))


def test_consistent_hash(server: RunningServer, pair: Pair) -> None:
    name = choose(server, pair, "consistent_hash")
    for number in range(40):
        ask(server, name, 2, x_mcp_session=f"session-{number}")
    assert sum(counts(pair)) == 80
    assert all(count % 2 == 0 for count in counts(pair)), "a session stays with its endpoint"
    assert all(count >= 16 for count in counts(pair))
    for station in pair:
        station.seen.clear()
    ask(server, name, 6)
    assert sorted(counts(pair)) == [0, 6], "one conversation, one endpoint"


def test_a_burst_is_spread(server: RunningServer, pair: Pair) -> None:
    for station in pair:
        station.always(after(0.1, speak))
    name = choose(server, pair, "least_connections")
    with ThreadPoolExecutor(8) as pool:
        statuses = [one.status_code for one in pool.map(lambda _: server.chat(name), range(16))]
    assert statuses == [200] * 16
    assert counts(pair) == (8, 8)
