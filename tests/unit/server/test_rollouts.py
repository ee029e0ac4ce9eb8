"""Rollouts over nodes: who is told what, who is sent where, and what ends one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest
from tests.unit.routing.scripted_gate import ScriptedGate

from open_autoglm import clock
from open_autoglm.dissemination import Entry, ReplicatedMap
from open_autoglm.dissemination.entry import read_all, write_all
from open_autoglm.errors import RequestError, UpstreamError
from open_autoglm.rollout.plan import RolloutRules, State
from open_autoglm.rollout.record import RolloutRecord
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.server.rollout_facts import RolloutFacts
from open_autoglm.server.rollouts import LEAVE_S, Nodes, Rollouts, Served

RULES = RolloutRules(requests_min=10)


class LocalFacts:
    """What one server knows, without the others."""

    def __init__(self) -> None:
        self.map = ReplicatedMap("s1")
        self.hear: list[Callable[[str], None]] = []

    def write(self, key: str, value: bytes | None, expected: dict[str, int], *, ttl_ms: int | None = None) -> Entry:
        entry = self.map.write(key, value, expected, 0.0, ttl_ms=ttl_ms)
        self.say([key])
        return entry

    def take(self, other: ReplicatedMap) -> None:
        """Hear what another server knows."""
        self.say(self.map.merge(read_all(write_all(other.everything(0.0)), 64), 0.0, "s2"))

    def say(self, keys: list[str]) -> None:
        for key in keys:
            for hear in self.hear:
                hear(key)


class FakeNodes(Nodes):
    """A cluster of nodes that do as they are told, but for those in `stubborn`."""

    def __init__(self, count: int) -> None:
        self.shared = LocalFacts()
        self.on_tell: Callable[[], None] = lambda: None
        self.versions = {f"mcp://10.0.0.{number}:1": "old" for number in range(count)}
        self.made = [_endpoint(url) for url in self.versions]
        rng = random.Random(1)
        self.one = Group("m", self.made, make_balancer("round_robin", self.made, rng), rng)
        self.outcomes: dict[str, dict[str, int]] = {url: {"ok": 0} for url in self.versions}
        self.told: list[tuple[str, str]] = []
        self.stubborn: set[str] = set()
        self.shares: list[float] = []
        self.together: frozenset[str] = frozenset()

    def served(self, model: str) -> list[Served]:
        return [Served(url, version) for url, version in self.versions.items()] if model == "m" else []

    def endpoints(self, model: str) -> Iterable[Endpoint]:
        return self.made

    def group(self, model: str) -> Group | None:
        return self.one

    def counts(self, endpoint: Endpoint) -> Mapping[str, int]:
        return self.outcomes[endpoint.url]

    async def tell(self, url: str, fields: dict[str, Any]) -> dict[str, Any]:
        if url in self.stubborn:
            raise UpstreamError("upstream_error", "no link to the node is open")
        self.on_tell()
        self.shares.append(fields.get("share", 1.0))
        if fields["command"] == "weigh":
            return {}
        assert fields["command"] == "publish"
        self.told.append((url, fields["version"]))
        self.versions[url] = fields["version"]
        return {}

    def keep_together(self, models: frozenset[str]) -> None:
        self.together = models

    def facts(self) -> RolloutFacts:
        return RolloutFacts(self.shared)

    def listen(self, hear: Callable[[str], None]) -> None:
        self.shared.hear.append(hear)

    def sent(self, count: int, affinity: int = 0) -> list[str]:
        """Versions of the nodes that requests went to."""
        found = []
        for _ in range(count):
            endpoint = self.one.acquire(1.0, affinity)
            assert endpoint is not None
            found.append(self.versions[endpoint.url])
        return found


def _endpoint(url: str) -> Endpoint:
    return Endpoint(url.removeprefix("mcp://"), ScriptedGate(), model="m", url=url)


class Later:
    """Keeps what is to be done in the background."""

    def __init__(self) -> None:
        self.work: list[Awaitable[None]] = []

    def __call__(self, work: Awaitable[None]) -> None:
        self.work.append(work)


def made(count: int) -> tuple[FakeNodes, Rollouts, Later]:
    nodes, later = FakeNodes(count), Later()
    return nodes, Rollouts(nodes, random.Random(2), later), later


async def test_a_fifth_of_five_nodes_gets_a_fifth_of_the_requests() -> None:
    nodes, rollouts, _ = made(5)
    row = await rollouts.start("m", "new", 0.2, RULES)
    assert nodes.told == [("mcp://10.0.0.0:1", "new")]
    assert (row["state"], row["share"], row["candidate"]["nodes"]) == ("running", 0.2, ["mcp://10.0.0.0:1"])
    assert 150 < nodes.sent(1000).count("new") < 250
    assert nodes.together == {"m"}, "others keep what they have"


async def test_a_conversation_stays_with_its_version() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.5, RULES)
    seen = {tuple(set(nodes.sent(20, affinity))) for affinity in range(1, 40)}
    assert seen == {("old",), ("new",)}


async def test_where_no_node_of_its_version_is_left_another_serves() -> None:
    nodes, rollouts, _ = made(3)
    await rollouts.start("m", "new", 0.3, RULES)
    nodes.versions = dict.fromkeys(nodes.versions, "old")
    rollouts.renew()
    assert set(nodes.sent(50)) == {"old"}


async def test_more_share_takes_more_nodes_and_promotion_takes_all() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.25, RULES)
    await rollouts.set_share("m", 0.75)
    assert list(nodes.versions.values()).count("new") == 3
    row = await rollouts.promote("m")
    assert set(nodes.versions.values()) == {"new"}
    assert (row["state"], row["share"]) == ("promoted", 1.0)
    assert not nodes.together
    with pytest.raises(RequestError, match="promoted"):
        await rollouts.set_share("m", 0.5)


async def test_a_rollback_by_hand_brings_every_node_back() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.5, RULES)
    assert (await rollouts.rollback("m"))["state"] == "rolled_back"
    assert set(nodes.versions.values()) == {"old"}
    assert len({endpoint.url for endpoint in [nodes.one.acquire(1.0) for _ in range(8)] if endpoint}) == 4


async def test_a_rise_of_errors_takes_the_candidate_away_at_once() -> None:
    nodes, rollouts, later = made(4)
    await rollouts.start("m", "new", 0.25, RULES)
    bad = next(url for url, version in nodes.versions.items() if version == "new")
    rollouts.sweep(1.0)
    for url in nodes.versions:
        nodes.outcomes[url] = {"ok": 5, "failed": 5} if url == bad else {"ok": 30, "cancelled": 9}
    rollouts.sweep(2.0)
    assert set(nodes.sent(40)) <= {"old", "new"}
    assert rollouts.row("m")["state"] == "rolled_back"
    assert "5 of 10 requests failed" in rollouts.row("m")["history"][-1]["why"]
    for work in later.work:
        await work
    assert set(nodes.versions.values()) == {"old"}


async def test_errors_before_the_start_do_not_count() -> None:
    nodes, rollouts, _ = made(2)
    for url in nodes.versions:
        nodes.outcomes[url] = {"ok": 0, "failed": 1000}
    await rollouts.start("m", "new", 0.5, RULES)
    rollouts.sweep(1.0)
    assert rollouts.row("m")["state"] == "running"


async def test_a_node_that_refuses_ends_the_start_and_the_others_go_back() -> None:
    nodes, rollouts, _ = made(4)
    nodes.stubborn = {"mcp://10.0.0.1:1"}
    with pytest.raises(RequestError, match=r"10\.0\.0\.1"):
        await rollouts.start("m", "new", 0.5, RULES)
    assert set(nodes.versions.values()) == {"old"}
    assert rollouts.rows() == []


async def test_a_node_that_does_not_go_back_is_named() -> None:
    nodes, rollouts, _ = made(2)
    await rollouts.start("m", "new", 0.5, RULES)
    nodes.stubborn = set(nodes.versions)
    with pytest.raises(RequestError, match="try again"):
        await rollouts.rollback("m")
    assert rollouts.row("m")["state"] == "rolled_back"
    nodes.stubborn = set()
    await rollouts.rollback("m")
    assert set(nodes.versions.values()) == {"old"}


@pytest.mark.parametrize(
    ("model", "candidate", "share", "code"),
    [("x", "new", 0.5, "not_found"), ("m", "old", 0.5, "conflict"), ("m", "new", 1.5, "invalid_request")],
)
async def test_what_cannot_be_started_says_so(model: str, candidate: str, share: float, code: str) -> None:
    nodes, rollouts, _ = made(2)
    with pytest.raises(RequestError) as caught:
        await rollouts.start(model, candidate, share, RULES)
    assert caught.value.code == code
    assert nodes.told == []


async def test_one_node_serves_both_versions_and_then_one() -> None:
    nodes, rollouts, _ = made(1)
    await rollouts.start("m", "new", 0.2, RULES)
    await rollouts.set_share("m", 0.5)
    assert (nodes.told, nodes.shares) == ([("mcp://10.0.0.0:1", "new")], [0.2, 0.5])
    await rollouts.promote("m")
    assert nodes.shares[-1] == 1.0
    await rollouts.rollback("m")
    assert set(nodes.versions.values()) == {"old"}


async def test_of_two_that_are_begun_in_one_turn_the_second_is_refused() -> None:
    nodes, rollouts, _ = made(5)
    starts = (rollouts.start("m", version, 0.2, RULES) for version in ("new", "newer"))
    told = await asyncio.gather(*starts, return_exceptions=True)
    assert [isinstance(each, RequestError) for each in told] == [False, True]
    assert {version for _, version in nodes.told} == {"new"}


async def test_endpoints_that_come_and_go_are_not_remembered() -> None:
    nodes, rollouts, _ = made(3)
    await rollouts.start("m", "new", 0.4, RULES)
    for number in range(50):
        url = f"mcp://10.0.1.{number}:1"
        nodes.versions[url] = "old"
        nodes.made[2:] = [_endpoint(url)]
        nodes.outcomes[url] = {"ok": 5}
        rollouts.sweep(clock.monotonic())
    assert {name for seen in rollouts._seen.values() for name in seen} == {each.name for each in nodes.made}


async def test_two_rollouts_of_one_model_do_not_run_at_once() -> None:
    _, rollouts, _ = made(2)
    await rollouts.start("m", "new", 1.0, RULES)
    with pytest.raises(RequestError, match="already"):
        await rollouts.start("m", "newer", 1.0, RULES)
    for action in (rollouts.promote, rollouts.rollback):
        with pytest.raises(RequestError, match="no rollout"):
            await action("x")


def elsewhere(nodes: FakeNodes) -> RolloutFacts:
    """Another server that knows what this one knows."""
    facts = LocalFacts()
    facts.map = ReplicatedMap("s2")
    facts.map.merge(nodes.shared.map.everything(0.0), 0.0)
    return RolloutFacts(facts)


def told_by(other: RolloutFacts) -> ReplicatedMap:
    return other._facts.map


def step(facts: RolloutFacts, state: State, share: float, why: str = "by hand") -> None:
    """Write a step of the model's rollout."""
    agreed = facts.read("m")
    assert agreed.record is not None
    facts.write("m", agreed.record.with_step(state, share, why), agreed.seen)


async def run(later: Later) -> None:
    for work in later.work:
        await work


async def test_what_another_server_decides_is_followed_here() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.25, RULES)
    other = elsewhere(nodes)
    step(other, "running", 0.75)
    nodes.shared.take(told_by(other))
    assert rollouts.row("m")["share"] == 0.75
    assert rollouts.row("m")["by"] == "s2"
    assert nodes.sent(400).count("new") > 150, "by the other's share, on the nodes that there are"
    step(other, "rolled_back", 0.0)
    nodes.shared.take(told_by(other))
    assert (rollouts.row("m")["state"], nodes.together) == ("rolled_back", frozenset())
    assert rollouts.row("m")["history"][-1]["why"] == "by hand at s2"


async def test_nodes_that_nobody_told_are_told_some_seconds_later() -> None:
    nodes, rollouts, later = made(4)
    await rollouts.start("m", "new", 0.5, RULES)
    other = elsewhere(nodes)
    step(other, "rolled_back", 0.0)
    nodes.shared.take(told_by(other))
    now_s = clock.monotonic()
    rollouts.sweep(now_s)
    assert later.work == [], "who has decided it tells them"
    rollouts.sweep(now_s + 2 * LEAVE_S + 1.0)
    await run(later)
    assert set(nodes.versions.values()) == {"old"}


async def test_a_rollout_is_known_to_a_server_that_comes_later() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.25, RULES)
    later_one = Rollouts(nodes, random.Random(3), Later())
    assert later_one.row("m")["candidate"]["version"] == "new"
    await later_one.rollback("m")
    assert set(nodes.versions.values()) == {"old"}
    assert rollouts.row("m")["state"] == "rolled_back"


async def test_a_rollback_counts_before_a_step_at_the_same_time_and_the_conflict_is_told() -> None:
    nodes, rollouts, later = made(4)
    await rollouts.start("m", "new", 0.25, RULES)
    other = elsewhere(nodes)
    step(other, "rolled_back", 0.0)
    await rollouts.set_share("m", 0.5)
    await rollouts.promote("m")  # of a higher clock, and yet
    nodes.shared.take(told_by(other))
    row = rollouts.row("m")
    assert (row["state"], row["by"]) == ("rolled_back", "s2")
    assert {(each["kept"]["state"], each["lost"]["state"]) for each in row["conflicts"]} == {
        ("rolled_back", "promoted")
    }
    rollouts.sweep(clock.monotonic() + 2 * LEAVE_S + 1.0)
    await run(later)
    assert set(nodes.versions.values()) == {"old"}
    back = elsewhere(nodes)
    assert back.read("m").record == RolloutFacts(nodes.shared).read("m").record, "and so it does elsewhere"


@pytest.mark.parametrize("command", ["promote", "set_share", "start"])
async def test_a_rollback_while_nodes_are_told_ends_the_step_and_they_go_back(command: str) -> None:
    nodes, rollouts, _ = made(4)
    if command != "start":
        await rollouts.start("m", "new", 0.25, RULES)

    def taken_back() -> None:
        nodes.on_tell = lambda: None
        other = elsewhere(nodes)
        step(other, "rolled_back", 0.0)
        nodes.shared.take(told_by(other))

    nodes.on_tell = taken_back
    commands = {
        "promote": lambda: rollouts.promote("m"),
        "set_share": lambda: rollouts.set_share("m", 0.75),
        "start": lambda: rollouts.start("m", "new", 0.5, RULES),
    }
    with pytest.raises(RequestError, match="rolled back by another server") as caught:
        await commands[command]()
    assert caught.value.code == "conflict"
    assert set(nodes.versions.values()) == {"old"}
    assert rollouts.row("m")["state"] == "rolled_back"


async def test_a_share_that_another_server_set_meanwhile_is_not_written_over() -> None:
    nodes, rollouts, _ = made(4)
    await rollouts.start("m", "new", 0.25, RULES)

    def set_elsewhere() -> None:
        nodes.on_tell = lambda: None
        other = elsewhere(nodes)
        step(other, "running", 0.3)
        nodes.shared.take(told_by(other))

    nodes.on_tell = set_elsewhere
    with pytest.raises(RequestError, match="changed by s2 meanwhile"):
        await rollouts.set_share("m", 0.75)
    assert rollouts.row("m")["share"] == 0.3
    assert (await rollouts.promote("m"))["state"] == "promoted"


async def test_of_two_rollouts_begun_at_once_one_is_left_and_the_others_nodes_follow() -> None:
    nodes, rollouts, later = made(4)
    other = elsewhere(nodes)
    record = RolloutRecord(model="m", run=1, state="running", stable="old", candidate="newer", share=0.25)
    other.write("m", record, {})
    await rollouts.start("m", "new", 0.25, RULES)
    nodes.shared.take(told_by(other))
    row = rollouts.row("m")
    assert (row["by"], row["candidate"]["version"]) == ("s2", "newer"), "of equal clocks the later name"
    assert row["conflicts"][0]["lost"]["candidate"] == "new"
    rollouts.sweep(clock.monotonic() + 2 * LEAVE_S + 1.0)
    await run(later)
    assert set(nodes.versions.values()) == {"old"}


async def test_a_rollout_of_which_nobody_knows_more_is_forgotten_here() -> None:
    nodes, rollouts, _ = made(2)
    await rollouts.start("m", "new", 0.5, RULES)
    other = elsewhere(nodes)
    other.write("m", None, other.read("m").seen)
    nodes.shared.take(told_by(other))
    assert (rollouts.rows(), nodes.together) == ([], frozenset())
    assert len(set(nodes.sent(20))) == 2, "all nodes, as before"
