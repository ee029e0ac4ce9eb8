"""Facts that members share, on real sockets, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from open_autoglm.cluster.facts import FACTS, join_state, read_facts, split_state
from open_autoglm.cluster.member import ClusterMember
from open_autoglm.cluster.settings import ClusterSettings
from open_autoglm.dissemination import WriteConflict
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.member import split_address
from open_autoglm.membership.seal import derive_key, seal_datagram
from open_autoglm.secret import Secret
from open_autoglm.transport.udp import open_udp

SECRET = "0123456789abcdef"
Start = Callable[..., Awaitable[ClusterMember]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts members and closes them at the end."""
    members: list[ClusterMember] = []

    async def one(name: str, *join: ClusterMember, bind: str = "127.0.0.1:0", replaces: bool = False) -> ClusterMember:
        settings = ClusterSettings(
            secret=Secret(SECRET), join=[each.me.gossip for each in join], bind=bind, name=name, interval_s=0.1
        )
        members.append(await ClusterMember.start(settings, role="server", replaces=replaces))
        return members[-1]

    yield one
    for member in members:
        member.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 - sockets and timers of others are waited for
            await asyncio.sleep(0.01)
    assert condition(), what


async def test_a_fact_reaches_who_is_there_by_a_delta_and_who_comes_by_the_exchange(start: Start) -> None:
    first = await start("a")
    second = await start("b", first)
    await until(lambda: "b" in first.members and "a" in second.members, "both")
    heard: list[str] = []
    second.facts.on_change.append(heard.append)
    first.facts.write("weight/m", b"80", {})
    await until(lambda: second.facts.map.get("weight/m") == b"80", "the delta")
    assert heard == ["weight/m"]
    third = await start("c", second)
    await until(lambda: third.facts.map.get("weight/m") == b"80", "the exchange")
    third.facts.write("weight/m", b"60", third.facts.map.read("weight/m").vector)
    await until(lambda: first.facts.map.get("weight/m") == second.facts.map.get("weight/m") == b"60", "all")
    assert first.dropped == second.dropped == third.dropped == 0


async def test_writes_at_once_are_seen_by_both_and_settled_by_the_next(start: Start) -> None:
    first = await start("a")
    second = await start("b", first)
    await until(lambda: "b" in first.members and "a" in second.members, "both")
    first.facts.write("note", b"of a", {})
    second.facts.write("note", b"of b", {})
    both = (first.facts, second.facts)
    await until(lambda: all(len(facts.map.read("note").entries) == 2 for facts in both), "both writes at both")
    with pytest.raises(WriteConflict) as refused:
        first.facts.write("note", b"third", {"a": first.me.start})
    first.facts.write("note", b"third", refused.value.reading.vector)
    await until(lambda: second.facts.map.get("note") == b"third", "what settled it")
    assert not second.facts.map.conflicts.open()


async def test_a_fact_expires_at_all(start: Start) -> None:
    first = await start("a")
    second = await start("b", first)
    await until(lambda: "b" in first.members and "a" in second.members, "both")
    gone: list[str] = []
    first.facts.write("short", b"", {}, ttl_ms=600)
    await until(lambda: second.facts.map.get("short") == b"", "the delta")
    second.facts.on_change.append(gone.append)
    await until(lambda: gone == ["short"], "its end")
    assert len(second.facts.map) == 0


async def test_who_takes_a_members_place_knows_the_facts_at_once(start: Start) -> None:
    first = await start("a")
    first.facts.write("k", b"v", {})
    again = await start("a", bind=first.me.gossip, replaces=True)
    assert again.facts.map.get("k") == b"v"
    assert again.facts.write("k", b"w", again.facts.map.read("k").vector).counter >= again.me.start


async def test_a_message_of_facts_that_is_none_is_dropped_and_counted(start: Start) -> None:
    first = await start("a")
    second = await start("b", first)
    await until(lambda: "b" in first.members, "both")
    udp = await open_udp("127.0.0.1", 0, lambda data, source: None, 1400)
    key = derive_key(SECRET.encode(), "gossip")
    start_bytes = second.me.start.to_bytes(8, "big")
    bad = [bytes((FACTS,)), bytes((FACTS, 1)) + b"b" + start_bytes + b"\x09", bytes((FACTS, 1)) + b"\xff" + bytes(8)]
    before = first.dropped  # what came before the sender was known counts as well
    for number, message in enumerate(bad):
        udp.send(seal_datagram(key, 2**40 + number, message), split_address(first.me.gossip))
    await until(lambda: first.dropped >= before + 3, "all dropped")
    udp.close()


def test_a_state_comes_apart_as_it_was_joined() -> None:
    assert split_state(join_state(b"members", b"facts")) == (b"members", b"facts")
    for state in (b"", b"\0\0\0", b"\0\0\0\x09short"):
        with pytest.raises(GossipError):
            split_state(state)


def test_who_sends_facts_is_read_or_refused() -> None:
    body = bytes((FACTS, 2)) + b"n1" + (77).to_bytes(8, "big") + b"rest"
    assert read_facts(body) == ("n1", 77, b"rest")
    for wrong in (body[:1], body[:6], bytes((FACTS, 65)) + bytes(80), bytes((FACTS, 2)) + b"--" + bytes(8)):
        with pytest.raises(GossipError):
            read_facts(wrong)
