"""Members on real sockets, in one process."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from open_autoglm.cluster.member import ClusterMember, default_name
from open_autoglm.cluster.push_pull import PREFACE, STATE_BYTES_MAX, PushPull
from open_autoglm.cluster.settings import ClusterSettings, node_key
from open_autoglm.errors import ServerError
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.member import is_id, split_address
from open_autoglm.membership.seal import derive_key, seal_datagram, seal_of
from open_autoglm.membership.wire import GOSSIP, Verdict, write_message, write_verdict
from open_autoglm.secret import Secret
from open_autoglm.transport.udp import WAITING_BYTES_MAX, open_udp

SECRET = "0123456789abcdef"
Start = Callable[..., Awaitable[ClusterMember]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts members and closes them at the end."""
    members: list[ClusterMember] = []

    async def one(name: str, *join: ClusterMember, secret: str = SECRET, role: str = "node") -> ClusterMember:
        settings = ClusterSettings(
            secret=Secret(secret), join=[each.me.gossip for each in join], bind="127.0.0.1:0", name=name, interval_s=0.1
        )
        member = await ClusterMember.start(settings, role=role, address="127.0.0.1:1", models=[("m", "1")])  # type: ignore[arg-type]
        members.append(member)
        return member

    yield one
    for member in members:
        member.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 - sockets and timers of others are waited for
            await asyncio.sleep(0.01)
    assert condition(), what


async def test_members_find_each_other_by_one_address_and_notice_a_death_and_a_leave(start: Start) -> None:
    first = await start("s", role="server")
    others = [await start(f"n{number}", first) for number in range(4)]
    await until(lambda: all(len(each.members) == 4 for each in (first, *others)), "all know all")
    changes: list[tuple[str, str]] = []
    first.on_change.append(lambda member: changes.append((member.id, member.state)))
    others[0].close()
    await others[1].leave()
    await until(lambda: first.members["n0"].state == "dead", "the death")
    await until(lambda: first.members["n1"].state == "left", "the leave")
    assert ("n0", "suspect") in changes
    assert ("n1", "suspect") not in changes
    await until(lambda: first.members["n2"].delay_s is not None, "a delay")
    again = await start("n0", first)
    await until(lambda: first.members["n0"].record.start == again.me.start, "its new life")
    assert first.dropped == 0


async def test_loads_and_models_reach_the_server(start: Start) -> None:
    server = await start("s", role="server")
    node = await start("n", server)
    await until(lambda: "n" in server.members and "s" in node.members, "both")
    loads: list[LoadReport | None] = []
    server.on_load.append(lambda member: loads.append(member.load))
    node.set_load(LoadReport(running=1, slots=4))
    await until(lambda: bool(loads), "a report")
    figures = iter(range(2, 10_000))
    node.watch_load(lambda: LoadReport(running=next(figures), slots=4))
    await until(lambda: len(loads) > 3, "more of them")
    running = [load.running for load in loads if load is not None]
    assert running == sorted(running)
    node.set_models([("m", "2"), ("k", "1")])
    node.set_address("127.0.0.1:7")
    node.drain()
    await until(lambda: server.members["n"].state == "draining", "the drain")
    await until(lambda: server.members["n"].record.models == (("m", "2"), ("k", "1")), "the models")
    assert server.members["n"].record.address == "127.0.0.1:7"
    with pytest.raises(ValueError, match="at most"):
        node.set_models([(str(number), "") for number in range(65)])


async def test_another_secret_is_no_way_in(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    first = await start("s", role="server")
    with caplog.at_level(logging.WARNING):
        stranger = await start("x", first, secret="another-secret-of-nobody")
        await until(lambda: stranger.refused > 0, "a refusal")
    assert "does not know the cluster's secret" in caplog.text
    assert SECRET not in caplog.text
    assert first.members == stranger.members == {}


async def test_forged_replayed_and_broken_datagrams_change_nothing(start: Start) -> None:
    first = await start("s", role="server")
    node = await start("n", first)
    await until(lambda: "n" in first.members, "the node")
    death = write_message(GOSSIP, ("z", 1), 0, "", [write_verdict(Verdict("left", "n", node.me.start, 99, "z"))])
    host, port = split_address(first.me.gossip)
    key = derive_key(SECRET.encode(), "gossip")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.connect((host, port))
        before = first.dropped
        raw.send(seal_datagram(bytes(32), 1, death))
        raw.send(b"noise")
        raw.send(bytes(1401))
        raw.send(seal_datagram(key, 1, b"\xff" + death))
        await until(lambda: first.dropped >= before + 3, "all of them")
        assert first.members["n"].state == "alive"
        harmless = seal_datagram(key, 5, write_message(GOSSIP, ("z", 1), 0, "", []))
        raw.send(harmless)
        raw.send(harmless)
        await until(lambda: first.dropped >= before + 4, "the second of two that are the same")


async def test_a_name_that_is_taken_twice_silences_the_elder(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    first = await start("s", role="server")
    elder = await start("n", first)
    await until(lambda: "n" in first.members, "the elder")
    younger = await start("n", first)
    await until(lambda: elder.swim.roster.displaced, "the elder to give way")
    assert "give each its cluster.name" in caplog.text
    assert first.members["n"].record.start == younger.me.start


async def test_what_cannot_be_started(start: Start) -> None:
    with pytest.raises(ServerError, match=r"set cluster\.secret"):
        await ClusterMember.start(ClusterSettings(), role="node")
    taken = await start("s")
    settings = ClusterSettings(secret=Secret(SECRET), bind=taken.me.gossip)
    told = rf"127\.0\.0\.1:\d+ is taken by .*\(pid {os.getpid()}\); choose another one "
    with pytest.raises(ServerError, match=told + r"by `cluster\.bind`"):
        await ClusterMember.start(settings, role="server")
    with pytest.raises(ServerError, match=told + "with --gossip-port"):
        await ClusterMember.start(settings, role="node", port_option="gossip-port")
    bind = ClusterSettings(secret=Secret(SECRET), bind="127.0.0.1:0")
    with pytest.raises(ValueError, match="too long"):
        await ClusterMember.start(bind, role="node", models=[("x" * 500, "")])


def test_a_name_of_its_own() -> None:
    assert is_id(default_name(65535))
    assert default_name(7) != default_name(8)


def test_the_key_of_nodes_does_not_tell_the_secret() -> None:
    key = node_key(Secret(SECRET))
    assert SECRET not in key.reveal()
    assert key == node_key(Secret(SECRET))
    assert key != node_key(Secret(SECRET + "x"))


class Ends:
    """Two ends of exchanges of state."""

    def __init__(self, limit_s: float = 5.0) -> None:
        self.taken: list[tuple[bytes, str]] = []
        self.called = PushPull(
            b"secret",
            lambda: b"state of the called",
            lambda data, asked: self.taken.append((data, asked)),
            limit_s,
        )

    async def listen(self) -> tuple[str, int]:
        """Open the listener; return its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        await self.called.listen("127.0.0.1", port)
        return "127.0.0.1", port


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    ends.called.close()


async def test_both_sides_get_the_state_of_the_other(ends: Ends) -> None:
    host, port = await ends.listen()
    mine: list[tuple[bytes, str]] = []
    caller = PushPull(b"secret", lambda: b"state of the caller", lambda data, asked: mine.append((data, asked)))
    await caller.call(f"{host}:{port}")
    assert mine == [(b"state of the called", f"{host}:{port}")]
    assert ends.taken == [(b"state of the caller", "")]


async def test_nothing_is_told_to_who_does_not_know_the_secret(ends: Ends) -> None:
    host, port = await ends.listen()
    for words in (
        b"GET / HTTP/1.1\r\n" + bytes(16),
        PREFACE + bytes(16) + bytes(16) + (2**31).to_bytes(4, "big"),
        PREFACE + bytes(16) + seal_of(bytes(32), b"caller"),
    ):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(words)
        told = b""
        with suppress(ConnectionError):
            told = await reader.read()
        assert len(told) in (0, 32), "its number and its proof, and no state"
        writer.close()
    assert ends.taken == []
    assert ends.called.refused == 3


async def test_a_state_beyond_the_limit_is_not_read(ends: Ends) -> None:
    host, port = await ends.listen()
    caller = PushPull(b"secret", lambda: bytes(STATE_BYTES_MAX + 1), lambda data, asked: None)
    with pytest.raises((GossipError, OSError)):
        await caller.call(f"{host}:{port}")
    await until(lambda: ends.called.refused == 1, "the refusal")
    assert ends.taken == []


async def test_who_says_nothing_does_not_wait_for_ever() -> None:
    ends = Ends(limit_s=0.1)
    host, port = await ends.listen()
    reader, writer = await asyncio.open_connection(host, port)
    assert await asyncio.wait_for(reader.read(), 10.0) == b""
    writer.close()
    caller = PushPull(b"secret", lambda: b"", lambda data, asked: None, limit_s=0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        await caller.call(f"127.0.0.1:{silent.getsockname()[1]}")
    ends.called.close()


async def test_a_datagram_that_is_too_long_or_goes_nowhere_is_dropped() -> None:
    got: list[bytes] = []
    one = await open_udp("127.0.0.1", 0, lambda data, source: got.append(data), 100)
    other = await open_udp("127.0.0.1", 0, lambda data, source: got.append(data), 200)
    other.send(b"x" * 100, one.address)
    other.send(b"y" * 101, one.address)
    other.send(b"z" * 201, one.address)
    other.send(b"a", ("not an address", 1))
    await until(lambda: len(got) == 1 and one.dropped == 1, "one of them")
    assert got == [b"x" * 100]
    assert other.dropped == 2
    other.close()
    other.send(b"x", one.address)
    assert other.dropped == 3
    assert WAITING_BYTES_MAX > 100
    one.close()
