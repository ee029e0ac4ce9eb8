"""The virtual network: bytes in order whatever the seed, windows, half-closed ways, and each fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.network import Link, Network
from open_autoglm.testing.pipe import PipeEnd

TEXT = "你好，wörld 🙂 ".encode() * 50


class Peer(asyncio.Protocol):
    """Notes what it hears; an echoing one sends it back."""

    def __init__(self, echo: bool = False, keeps_open: bool = False) -> None:
        self.echo = echo
        self.keeps_open = keeps_open
        self.heard = b""
        self.pieces = 0
        self.said: list[str] = []
        self.error: Exception | None = None
        self.transport: PipeEnd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, PipeEnd)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.pieces += 1
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.said.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")
        self.error = exc


Story = Callable[[Network, list[Peer]], Awaitable[Any]]


def play(story: Story, seed: int = 0, link: Link | None = None, **server: bool) -> tuple[Any, list[Peer]]:
    """Run a story with a listener on `up:80`; return what it returns, and the listener's peers."""
    loop = VirtualLoop(seed)
    peers: list[Peer] = []

    def make() -> Peer:
        peers.append(Peer(**server))
        return peers[-1]

    async def main() -> Any:
        network = Network(loop, link)
        with network.at("up"):
            await loop.create_server(make, "0.0.0.0", 80)
        with network.at("here"):
            return await story(network, peers)

    result = loop.run(main())
    assert loop.failures == []
    return result, peers


async def connected(host: str = "up", port: int = 80) -> Peer:
    _, peer = await asyncio.get_running_loop().create_connection(Peer, host, port)
    return peer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.binary(min_size=1, max_size=5000), max_size=20), st.booleans())
def test_bytes_arrive_whole_and_in_order(seed: int, writes: list[bytes], lossy: bool) -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        for data in writes:
            peer.transport.write(data)
            await asyncio.sleep(network.loop.rng.random() * 0.001)
        await asyncio.sleep(60.0)
        return peer

    link = Link(cuts=0.9, jitter_s=0.05, loss=0.3 if lossy else 0.0, window_bytes=4096)
    peer, peers = play(story, seed, link, echo=True)
    assert peers[0].heard == peer.heard == b"".join(writes)


def test_cuts_fall_within_characters_and_the_seed_decides_them() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        peer.transport.write(TEXT)
        await asyncio.sleep(1)
        return peer

    counts = [play(story, seed, Link(cuts=1.0))[1][0].pieces for seed in range(20)]
    assert len(set(counts)) > 1
    assert min(counts) > 1
    assert play(story, 3, Link(cuts=1.0))[1][0].pieces == counts[3]


def test_a_reader_that_pauses_fills_the_window_then_the_buffer() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        await asyncio.sleep(0.01)
        peers[0].transport.pause_reading()
        peer.transport.set_write_buffer_limits(high=1000)
        peer.transport.write(bytes(65_536))
        assert peer.said == []
        peer.transport.write(bytes(1001))
        assert peer.said == ["pause"]
        assert peer.transport.get_write_buffer_size() == 1001
        await asyncio.sleep(5)
        assert peers[0].heard == b""
        peers[0].transport.resume_reading()
        await asyncio.sleep(1)
        return peer

    peer, peers = play(story)
    assert peer.said == ["pause", "resume"]
    assert len(peers[0].heard) == 66_537


def test_close_sends_what_is_buffered_and_then_the_end() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        peer.transport.write(bytes(200_000))
        peer.transport.close()
        await asyncio.sleep(1)
        return peer

    peer, peers = play(story)
    assert len(peers[0].heard) == 200_000
    assert (peers[0].said, peers[0].error) == (["eof", "lost"], None)
    assert (peer.said[-1], peer.error) == ("lost", None)


def test_a_half_closed_way_leaves_the_other_open() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        peer.transport.write(b"question")
        peer.transport.write_eof()
        await asyncio.sleep(1)
        peers[0].transport.write(b"answer")
        peers[0].transport.close()
        await asyncio.sleep(1)
        return peer

    peer, peers = play(story, keeps_open=True)
    assert (peers[0].heard, peer.heard) == (b"question", b"answer")
    assert peer.said == ["eof", "lost"]


def test_abort_and_reset_are_errors_for_the_other_end() -> None:
    async def story(network: Network, peers: list[Peer]) -> tuple[Peer, Peer]:
        one, other = await connected(), await connected()
        one.transport.abort()
        await asyncio.sleep(1)
        network.reset("up")
        await asyncio.sleep(1)
        return one, other

    (one, other), peers = play(story)
    assert (one.said, one.error) == (["lost"], None)
    assert isinstance(peers[0].error, ConnectionResetError)
    assert isinstance(other.error, ConnectionResetError)


def test_what_is_sent_to_a_closed_end_comes_back_as_a_reset() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        await asyncio.sleep(0.1)
        peer.transport.close()
        await asyncio.sleep(0.1)
        peers[0].transport.write(b"too late")
        await asyncio.sleep(0.1)
        return peer

    peer, peers = play(story, keeps_open=True)
    assert peer.heard == b""
    assert isinstance(peers[0].error, ConnectionResetError)


def test_nobody_listens_or_a_host_refuses() -> None:
    async def story(network: Network, peers: list[Peer]) -> None:
        with pytest.raises(ConnectionRefusedError):
            await connected(port=81)
        network.refuse("up")
        with pytest.raises(ConnectionRefusedError):
            await connected()
        network.refuse("up", False)
        await connected()
        with pytest.raises(OSError, match="nowhere"):
            await connected("nowhere")

    play(story)


def test_a_killed_host_resets_and_refuses_until_it_is_revived() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        network.kill("up")
        with pytest.raises(ConnectionRefusedError):
            await connected()
        network.revive("up")
        await connected()
        return peer

    peer, _ = play(story)
    assert isinstance(peer.error, ConnectionResetError)


def test_a_frozen_host_takes_connections_and_answers_when_it_thaws() -> None:
    async def story(network: Network, peers: list[Peer]) -> float:
        old = await connected()
        await asyncio.sleep(0.1)
        network.freeze("up")
        new = await connected()
        for peer in (old, new):
            peer.transport.write(b"anybody?")
        await asyncio.sleep(10)
        assert len(peers) == 1
        assert (old.heard, new.heard) == (b"", b"")
        network.thaw("up")
        await asyncio.sleep(1)
        assert (old.heard, new.heard) == (b"anybody?", b"anybody?")
        return network.loop.elapsed_s()

    play(story, echo=True)


def test_a_black_hole_lets_nothing_through_until_it_ends() -> None:
    async def story(network: Network, peers: list[Peer]) -> None:
        peer = await connected()
        network.black_hole("up")
        peer.transport.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connected(), 5.0)
        assert peers[0].heard == b""
        network.black_hole("up", False)
        await asyncio.sleep(1)
        assert peer.heard == b"hello"

    play(story, echo=True)


def test_a_cut_holds_one_way() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        await asyncio.sleep(0.1)
        network.cut("up", "here")
        peer.transport.write(b"there")
        await asyncio.sleep(5)
        assert (peers[0].heard, peer.heard) == (b"there", b"")
        network.heal("up", "here")
        await asyncio.sleep(1)
        return peer

    peer, _ = play(story, echo=True)
    assert peer.heard == b"there"


def test_lost_pieces_come_late() -> None:
    async def story(network: Network, peers: list[Peer]) -> int:
        peer = await connected()
        await asyncio.sleep(5.0)
        for _ in range(50):
            peer.transport.write(b"x")
        await asyncio.sleep(0.1)
        return len(peers[0].heard)

    assert play(story, link=Link(loss=0.2))[0] < 50
    assert play(story, link=Link())[0] == 50


def test_where_connections_come_from() -> None:
    async def story(network: Network, peers: list[Peer]) -> Peer:
        peer = await connected()
        await asyncio.sleep(0.1)
        return peer

    peer, peers = play(story)
    assert peer.transport.get_extra_info("peername")[1] == 80
    assert peers[0].transport.get_extra_info("peername") == peer.transport.get_extra_info("sockname")
