"""The client's shell against servers of bytes, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.transport.conftest import Tls
from tests.wire.raw_client import until
from tests.wire.raw_server import Peer, answering, raw_server
from tests.wire.recording_sink import RecordingSink

from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.settings import PoolLimits

SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def pool_to(
    port: int,
    *,
    host: str = "127.0.0.1",
    limits: PoolLimits | None = None,
    tls: ssl.SSLContext | None = None,
    connect_timeout_s: float = 1.0,
    unix_path: str | None = None,
) -> AsyncIterator[HttpPool]:
    """A pool of connections to a port; every connection is forgotten at the end."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    pool = HttpPool(
        host,
        port,
        limits=limits or PoolLimits(),
        connect_timeout_s=connect_timeout_s,
        loop=loop,
        tls=tls,
        unix_path=unix_path,
    )
    yield pool
    pool.close()
    await until(lambda: pool.open == 0)
    assert not complaints


def post(pool: HttpPool, body: bytes = b"") -> RecordingSink:
    """Send a request; its sink."""
    sink = RecordingSink()
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
    sink.transfer = pool.send(head, body, sink)
    return sink


async def ended(sink: RecordingSink, timeout_s: float = 5.0) -> RecordingSink:
    """Wait until an answer has ended or was lost."""
    await asyncio.wait_for(sink.done.wait(), timeout_s)
    return sink


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def contexts(request: pytest.FixtureRequest, tls: Tls) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Of server and client, or none."""
    return (tls.server, tls.client) if request.param else (None, None)


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


async def test_connections_are_used_again(contexts: Contexts) -> None:
    answers = (SIZED, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED)
    async with (
        raw_server(answering(*answers), contexts[0]) as server,
        pool_to(server.port, host="localhost", tls=contexts[1]) as pool,
    ):
        for number in range(5):
            sink = await ended(post(pool, b"x" * number))
            assert sink.heard == (200, b"hello", "end")
            assert sink.reused == (number > 0)
        assert pool.open == 1
        assert len(server.peers) == 1
        assert server.requests == 5


async def test_the_newest_idle_connection_is_used_first() -> None:
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await hold.wait()
            # The first connection answers last, and is the newest idle one.
            await asyncio.sleep(0.05 * (2 - peer.number) if len(peer.requests) == 1 else 0)
            await peer.send(SIZED)

    async with raw_server(script) as server, pool_to(server.port) as pool:
        sinks = [post(pool) for _ in range(3)]
        await until(lambda: server.requests == 3)
        hold.set()
        for sink in sinks:
            await ended(sink)
        for _ in range(4):
            await ended(post(pool))
        assert [len(peer.requests) for peer in server.peers] == [5, 1, 1]


async def test_answers_until_the_close_end_with_it(contexts: Contexts) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nhel")
        await asyncio.sleep(0.01)
        await peer.send(b"lo")

    async with (
        raw_server(script, contexts[0]) as server,
        pool_to(server.port, host="localhost", tls=contexts[1]) as pool,
    ):
        assert (await ended(post(pool))).heard == (200, b"hello", "end")
        assert (await ended(post(pool))).reused is False


@pytest.mark.parametrize(
    ("sent", "loss"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-ty", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "reset"),
        (CHUNKED + b"5\r\nhello\r\n", "reset"),
        (b"220 smtp.test ESMTP\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 30_000, "malformed"),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_broken_answers_are_lost(sent: bytes, loss: str, reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await asyncio.sleep(0.02)
        if reset:
            peer.reset()

    async with raw_server(script) as server, pool_to(server.port) as pool:
        sink = await ended(post(pool))
        assert sink.end == loss
        assert sink.reused is False


async def test_a_reset_is_no_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await asyncio.sleep(0.05)
        peer.reset()

    async with raw_server(script) as server, pool_to(server.port) as pool:
        assert (await ended(post(pool))).end == "reset"


class TestStale:
    async def test_a_connection_that_the_server_has_closed_is_not_used(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(SIZED)

        async with raw_server(script) as server, pool_to(server.port) as pool:
            await ended(post(pool))
            await until(lambda: pool.open == 0)
            assert (await ended(post(pool))).reused is False

    async def test_one_that_closes_as_the_request_arrives_is_stale(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(SIZED)
            await peer.request()

        async with raw_server(script) as server, pool_to(server.port) as pool:
            await ended(post(pool))
            sink = await ended(post(pool))
            assert sink.end == "stale"
            assert sink.reused is True
            assert (await ended(post(pool))).heard == (200, b"hello", "end")

    async def test_what_nobody_asked_for_ends_it(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(SIZED)
            await asyncio.sleep(0.05)
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            await peer.wait_gone()

        async with raw_server(script) as server, pool_to(server.port) as pool:
            await ended(post(pool))
            await until(lambda: pool.open == 0)
            assert server.peers[0].gone.is_set() or await asyncio.wait_for(server.peers[0].gone.wait(), 1.0)
            assert (await ended(post(pool))).heard == (200, b"hello", "end")


class TestConnecting:
    async def test_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        async with pool_to(port) as pool:
            sink = await ended(post(pool))
            assert sink.end == "connect"
            assert sink.detail == "connection refused"
            assert sink.reused is None

    async def test_nobody_answers(self) -> None:
        # A full backlog takes no handshake further: the last SYN stays unanswered.
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            async with pool_to(full.getsockname()[1], connect_timeout_s=0.2) as pool:
                sink = await ended(post(pool), 2.0)
                assert sink.end == "connect"
                assert "0.2 s" in sink.detail

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", ".."])
    async def test_a_name_that_nobody_has(self, host: str) -> None:
        async with pool_to(1, host=host, connect_timeout_s=5.0) as pool:
            assert (await ended(post(pool), 10.0)).end == "connect"

    async def test_a_handshake_that_never_ends(self, tls: Tls) -> None:
        async with (
            raw_server(Peer.wait_gone) as server,
            pool_to(server.port, host="localhost", tls=tls.client, connect_timeout_s=0.2) as pool,
        ):
            assert (await ended(post(pool), 2.0)).end == "connect"
            await asyncio.wait_for(server.peers[0].gone.wait(), 2.0)

    async def test_a_certificate_that_is_not_trusted(self, tls: Tls) -> None:
        async with (
            raw_server(answering(SIZED), tls.server) as server,
            pool_to(server.port, host="localhost", tls=tls.stranger) as pool,
        ):
            sink = await ended(post(pool))
            assert sink.end == "connect"
            assert "certificate" in sink.detail
            assert server.requests == 0

    async def test_a_certificate_of_another_name(self, tls: Tls) -> None:
        async with (
            raw_server(answering(SIZED), tls.server) as server,
            pool_to(server.port, host="127.0.0.1", tls=tls.client) as pool,
        ):
            assert (await ended(post(pool))).end == "connect"
            assert server.requests == 0

    async def test_a_server_without_tls(self, tls: Tls) -> None:
        async with (
            raw_server(answering(SIZED)) as server,
            pool_to(server.port, host="localhost", tls=tls.client) as pool,
        ):
            server.peers.clear()
            assert (await ended(post(pool))).end == "connect"

    async def test_a_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "socket")
        async with raw_server(answering(SIZED), unix_path=path), pool_to(0, unix_path=path) as pool:
            assert (await ended(post(pool))).heard == (200, b"hello", "end")

    async def test_one_that_fails_lets_the_next_try(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        async with pool_to(port, limits=PoolLimits(connections=1)) as pool:
            sinks = [post(pool) for _ in range(5)]
            for sink in sinks:
                assert (await ended(sink, 1.0)).detail == "connection refused"

    async def test_one_that_was_cancelled_serves_another(self) -> None:
        async with (
            raw_server(answering(SIZED)) as server,
            pool_to(server.port, limits=PoolLimits(connections=1)) as pool,
        ):
            first, second = post(pool), post(pool)
            assert first.transfer is not None
            first.transfer.cancel()
            assert (await ended(second)).heard == (200, b"hello", "end")
            assert len(server.peers) == 1
            assert server.requests == 1
            assert not first.end


async def test_cancelling_closes_the_socket_within_100_ms(contexts: Contexts) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number % 2:
            await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.wait_gone()

    async with (
        raw_server(script, contexts[0]) as server,
        pool_to(server.port, host="localhost", tls=contexts[1]) as pool,
    ):
        loop = asyncio.get_running_loop()
        waits_s = []
        for number in range(9):
            sink = post(pool)
            await until(lambda number=number: server.requests == number + 1)
            if number % 2:
                await until(lambda sink=sink: sink.body)
            assert sink.transfer is not None
            left_s = loop.time()
            sink.transfer.cancel()
            await asyncio.wait_for(server.peers[number].gone.wait(), 5.0)
            waits_s.append(loop.time() - left_s)
            assert not sink.end
        # The middle one: a busy machine may hold up some.
        assert sorted(waits_s)[4] < 0.1


async def test_requests_wait_for_a_connection_and_are_all_served() -> None:
    async with raw_server(answering(SIZED)) as server, pool_to(server.port, limits=PoolLimits(connections=3)) as pool:
        sinks = [post(pool, b"x" * 1000) for _ in range(200)]
        for sink in sinks:
            assert (await ended(sink)).heard == (200, b"hello", "end")
        assert len(server.peers) == 3
        assert pool.open == 3


async def test_closing_lets_a_running_answer_end() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await go_on.wait()
        await peer.send(b"0\r\n\r\n")
        await peer.wait_gone()

    async with raw_server(script) as server, pool_to(server.port) as pool:
        sink = post(pool)
        await until(lambda: sink.body)
        pool.close()
        go_on.set()
        assert (await ended(sink)).heard == (200, b"hello", "end")
        await asyncio.wait_for(server.peers[0].gone.wait(), 1.0)
        late = post(pool)
        assert (await ended(late)).heard == (200, b"hello", "end"), "begun before, sent after"
        await asyncio.wait_for(server.peers[1].gone.wait(), 1.0)


async def test_a_paused_answer_is_not_read_and_stops_its_server(contexts: Contexts) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(500):
            await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 1
        await peer.send(b"0\r\n\r\n")
        await peer.wait_gone()

    async with (
        raw_server(script, contexts[0]) as server,
        pool_to(server.port, host="localhost", tls=contexts[1]) as pool,
    ):
        sink = post(pool)
        await until(lambda: sink.body)
        assert sink.transfer is not None
        sink.transfer.pause()
        await asyncio.sleep(0.05)
        taken, passed = len(sink.body), sent
        await asyncio.sleep(0.3)
        assert len(sink.body) == taken
        assert sent <= passed + 200
        assert sent < 500
        sink.transfer.resume()
        await ended(sink, 20.0)
        assert len(sink.body) == 500 * 65536


async def test_a_large_request_is_sent_whole(contexts: Contexts) -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            bodies.append(await peer.request())
            await peer.send(SIZED)

    async with (
        raw_server(script, contexts[0]) as server,
        pool_to(server.port, host="localhost", tls=contexts[1]) as pool,
    ):
        body = bytes(range(256)) * 40_000
        assert (await ended(post(pool, body), 20.0)).end == "end"
        assert bodies == [body]
        assert (await ended(post(pool))).reused is True


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (SIZED, 200),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nx", 200),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0),
        (b"", 0),
    ],
)
async def test_a_status_is_asked_for_on_a_connection_of_its_own(sent: bytes, status: int) -> None:
    async with raw_server(answering(sent, sent)) as server, pool_to(server.port) as pool:
        assert await pool.ask_status(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 0.3) == status
        assert pool.open == 0


async def test_whoever_is_not_there_has_no_status() -> None:
    async with raw_server(answering(SIZED)) as server, pool_to(server.port) as pool:
        pass
    assert await pool.ask_status(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 0.3) == 0
