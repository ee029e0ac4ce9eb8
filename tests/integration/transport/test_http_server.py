"""The server's shell on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import time
import tracemalloc

import pytest
from tests.integration.transport.conftest import Serve, Tls
from tests.wire.raw_client import RawClient, until
from tests.wire.recording_application import RecordingApplication, answer, leave

from open_autoglm.transport.http_request import ServerRequest
from open_autoglm.transport.settings import WireLimits

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
HUGE = POST % 10**12


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def both(request: pytest.FixtureRequest, tls: Tls) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Contexts of server and client, or none."""
    return (tls.server, tls.client) if request.param else (None, None)


Both = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


async def test_a_kept_connection_serves_whatever_comes(serve: Serve, both: Both) -> None:
    running = await serve(context=both[0])
    async with await RawClient.open(running.port, both[1]) as client:
        for number in range(3):
            await client.send(GET % number)
            status, headers, _ = await client.answer()
            assert status == 200
            assert headers["date"].endswith("GMT")
        await client.send(GET % 0 + POST % 5 + b"hello" + GET % 1)
        assert [(await client.answer())[2] for _ in range(3)] == [b"4 0", b"5 5", b"6 0"]
        await client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert (await client.answer())[0] == 100
        await client.send(b"hello")
        assert (await client.answer())[2] == b"7 5"
        await client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (b"5\r\nhel", b"lo\r\n", b"0\r\n\r", b"\n"):
            await client.send(piece)
            await asyncio.sleep(0.005)
        assert (await client.answer())[2] == b"8 5"
        assert running.server.connections == 1
    await until(lambda: running.server.connections == 0)


async def test_a_large_body_and_a_large_answer_pass(serve: Serve, both: Both) -> None:
    size = 20 * 2**20
    running = await serve(RecordingApplication(size=size), context=both[0])
    async with await RawClient.open(running.port, both[1]) as client:
        await client.send(POST % size + b"x" * size)
        _, _, body = await client.answer(30.0)
    assert len(body) == size
    assert body.startswith(b"1 %d." % size)


async def test_a_stream_passes_as_it_is_written(serve: Serve, both: Both) -> None:
    application = RecordingApplication(leave, leave)
    running = await serve(application, context=both[0])
    async with await RawClient.open(running.port, both[1]) as client:
        await client.send(GET % 0)
        await until(lambda: application.bodies)
        request = application.bodies[0]
        application.start(request, b"one")
        head = await client.some(len(b"HTTP/1.1 200 OK"))
        assert head == b"HTTP/1.1 200 OK"
        request.connection.write(request, b"two")
        request.connection.end(request, b"three")
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await until(lambda: len(application.bodies) == 2)
        application.respond(application.bodies[1])
        rest = await client.rest()
    assert rest.count(b"HTTP/1.1 200") == 1
    assert b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n" in rest


@pytest.mark.parametrize("kind", ["too large", "broken", "refused early"])
async def test_a_client_that_goes_on_sending_reads_its_refusal(serve: Serve, both: Both, kind: str) -> None:
    """As clients do that send all before they read."""
    application = RecordingApplication(answer if kind == "refused early" else leave)
    running = await serve(application, WireLimits(body_bytes=10**9), context=both[0])
    head = {"too large": HUGE, "broken": b"junk\r\n\r\n", "refused early": POST % 10**8}[kind]
    expected = {"too large": 413, "broken": 400, "refused early": 200}[kind]

    def talk() -> bytes:
        # In a thread and blocking: nothing is read before all is sent.
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10.0))
            line = stack.enter_context(both[1].wrap_socket(plain, server_hostname="localhost")) if both[1] else plain
            line.sendall(head)
            for _ in range(20):
                line.sendall(b"x" * 100_000)
                time.sleep(0.002)
            received = line.recv(65536)
            assert received
            return received

    received = await asyncio.to_thread(talk)
    assert received.startswith(b"HTTP/1.1 %d " % expected)
    assert b"connection: close" in received


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 600_000, 431),
        (HUGE, 413),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n" + b"x" * 4096 + b"f" * 99, 400),
    ],
)
async def test_bad_requests_are_answered_within_a_second_and_closed(serve: Serve, data: bytes, status: int) -> None:
    running = await serve()
    async with await RawClient.open(running.port) as client:
        await client.send(data)
        got, headers, _ = await client.answer(1.0)
        assert got == status
        assert headers["connection"] == "close"
        assert await client.rest(1.0) == b""


async def test_chunks_beyond_the_limit_are_refused(serve: Serve) -> None:
    running = await serve(limits=WireLimits(body_bytes=100_000))
    async with await RawClient.open(running.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        await client.send((b"2710\r\n" + b"x" * 10_000 + b"\r\n") * 11)
        assert (await client.answer(1.0))[0] == 413


class TestTimers:
    LIMITS = WireLimits(
        header_timeout_s=0.3, idle_timeout_s=0.5, body_grace_s=0.3, body_rate=100_000, write_timeout_s=0.4
    )

    async def test_no_byte_at_all(self, serve: Serve, both: Both) -> None:
        running = await serve(limits=self.LIMITS, context=both[0])
        async with await RawClient.open(running.port, both[1]) as client:
            assert await client.rest(2.0) == b""

    async def test_an_idle_connection(self, serve: Serve, both: Both) -> None:
        running = await serve(limits=self.LIMITS, context=both[0])
        async with await RawClient.open(running.port, both[1]) as client:
            await client.send(GET % 0)
            await client.answer()
            assert await client.rest(2.0) == b""

    async def test_half_a_head(self, serve: Serve, both: Both) -> None:
        running = await serve(limits=self.LIMITS, context=both[0])
        async with await RawClient.open(running.port, both[1]) as client:
            await client.send(b"GET / HTTP/1.1\r\n")
            for _ in range(4):
                await asyncio.sleep(0.05)
                await client.send(b"x: y\r\n")
            assert (await client.answer(2.0))[0] == 408

    async def test_half_a_body(self, serve: Serve, both: Both) -> None:
        running = await serve(limits=self.LIMITS, context=both[0])
        async with await RawClient.open(running.port, both[1]) as client:
            await client.send(POST % 1_000_000 + b"x" * 1000)
            assert (await client.answer(2.0))[0] == 408

    async def test_a_slow_body_of_good_pace(self, serve: Serve) -> None:
        running = await serve(limits=self.LIMITS)
        async with await RawClient.open(running.port) as client:
            await client.send(POST % 300_000)
            for _ in range(10):
                await client.send(b"x" * 30_000)
                await asyncio.sleep(0.06)
            assert (await client.answer())[2] == b"1 300000"

    async def test_a_reader_that_takes_nothing(self, serve: Serve, both: Both) -> None:
        application = RecordingApplication(size=30 * 2**20)
        running = await serve(application, self.LIMITS, both[0])
        async with await RawClient.open(running.port, both[1], buffer_bytes=1024) as client:
            await client.send(GET % 0)
            await until(lambda: application.answered)
            assert running.server.connections == 1
            await until(lambda: running.server.connections == 0)

    async def test_a_slow_reader_that_takes_a_little(self, serve: Serve) -> None:
        size = 12 * 2**20
        running = await serve(RecordingApplication(size=size), self.LIMITS)
        async with await RawClient.open(running.port, buffer_bytes=1024) as client:
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            received = b""
            for _ in range(12):
                received += await client.some(2**20)
                await asyncio.sleep(0.1)
            received += await client.rest()
        assert len(received.partition(b"\r\n\r\n")[2]) == size


async def test_connections_over_the_limit_are_told_so(serve: Serve, both: Both) -> None:
    running = await serve(limits=WireLimits(connections=2), context=both[0])
    async with await RawClient.open(running.port, both[1]) as one, await RawClient.open(running.port, both[1]) as two:
        for client in (one, two):
            await client.send(GET % 0)
            assert (await client.answer())[0] == 200
        async with await RawClient.open(running.port, both[1]) as third:
            await third.send(GET % 0)
            assert (await third.answer())[0] == 503
        await one.send(GET % 1)
        assert (await one.answer())[0] == 200
        await two.close()
        await until(lambda: running.server.connections == 1)
        async with await RawClient.open(running.port, both[1]) as again:
            await again.send(GET % 0)
            assert (await again.answer())[0] == 200


class TestBackPressure:
    async def test_a_slow_reader_pauses_its_application_and_no_other(self, serve: Serve, both: Both) -> None:
        application = RecordingApplication(leave, leave, connections=2)
        running = await serve(application, WireLimits(write_buffer_bytes=100_000), both[0])
        async with await RawClient.open(running.port, both[1], buffer_bytes=1024) as client:
            await client.send(GET % 0)
            await until(lambda: application.bodies)
            request = application.bodies[0]
            application.start(request)
            written = 5
            while not application.paused:
                while len(application.paused) == len(application.resumed):
                    request.connection.write(request, b"x" * 10_000)
                    written += 10_000
                    await asyncio.sleep(0)
                    assert written < 60_000_000
                await asyncio.sleep(0.3)  # the kernel may take more, a little later
                if application.resumed:
                    application.paused.clear()
                    application.resumed.clear()
            async with await RawClient.open(running.port, both[1]) as other:
                await other.send(GET % 1)
                await until(lambda: len(application.bodies) == 2)
                application.respond(application.bodies[1])
                assert (await other.answer())[0] == 200
            assert not application.resumed
            reading = asyncio.ensure_future(client.answer(20.0))
            await until(lambda: application.resumed)
            request.connection.end(request)
            _, _, body = await reading
        assert len(body) == written

    async def test_who_sends_ahead_is_not_read_without_end(self, serve: Serve) -> None:
        application = RecordingApplication(leave, leave)
        running = await serve(application, WireLimits(pipeline_bytes=10_000))
        async with await RawClient.open(running.port) as client:
            await client.send(GET % 0)
            await until(lambda: application.bodies)
            sending = asyncio.ensure_future(client.send(GET % 1 * 1_000_000))
            await asyncio.sleep(0.3)
            assert not sending.done(), "a client that is not read cannot send"
            sending.cancel()
            client.abort()


class TestLeaving:
    @pytest.mark.parametrize("way", ["close", "abort"])
    @pytest.mark.parametrize("when", ["waiting", "streaming", "after sending ahead"])
    async def test_the_application_hears_of_it_within_100_ms(
        self, serve: Serve, both: Both, way: str, when: str
    ) -> None:
        application = RecordingApplication(leave, leave, connections=20)
        running = await serve(application, context=both[0])
        loop = asyncio.get_running_loop()
        waits_s = []
        for number in range(5):
            client = await RawClient.open(running.port, both[1])
            await client.send(GET % 0)
            await until(lambda number=number: len(application.bodies) > number)
            if when == "streaming":
                application.start(application.bodies[-1])
            elif when == "after sending ahead":
                await client.send(GET % 1 * 20)
                await asyncio.sleep(0.01)
            left_s = loop.time()
            if way == "abort":
                client.abort()
            else:
                await client.close()
            await until(lambda number=number: len(application.gone) > number)
            waits_s.append(loop.time() - left_s)
        # The middle one: a busy machine may hold up one or two.
        assert sorted(waits_s)[2] < 0.1


class Echo(RecordingApplication):
    """Answers at once and remembers nothing."""

    def __init__(self) -> None:
        super().__init__(connections=100_000)
        self.count = 0

    def on_head(self, request: ServerRequest) -> None:
        request.call = self

    def on_body(self, request: ServerRequest) -> None:
        self.count += 1
        request.connection.respond(request, 200, "", b"ok")

    def on_gone(self, request: ServerRequest) -> None:
        pass


async def test_two_thousand_hostile_sockets_leave_others_alone(serve: Serve) -> None:
    limits = WireLimits(header_timeout_s=1.0, idle_timeout_s=1.0, body_grace_s=1.0)
    application = Echo()
    running = await serve(application, limits)
    loop = asyncio.get_running_loop()
    attacks = [b"", b"GET / HTTP/1.1\r\nx: ", POST % 1000 + b"x", b"GET / HTTP/1.1\nbroken\n\n", b"\r\n" * 10, HUGE]
    sockets = []
    try:
        for number in range(2000):
            hostile = socket.socket()
            hostile.setblocking(False)
            await loop.sock_connect(hostile, ("127.0.0.1", running.port))
            await loop.sock_sendall(hostile, attacks[number % len(attacks)])
            sockets.append(hostile)
        good = 0
        async with await RawClient.open(running.port) as client:
            while running.server.connections > 1:
                await client.send(GET % good)
                assert (await client.answer())[0] == 200
                good += 1
                if good % 50 == 0:
                    await asyncio.sleep(0.01)
        assert good > 100
        assert application.count >= good
    finally:
        for hostile in sockets:
            hostile.close()


async def test_idle_connections_cost_little_memory(serve: Serve) -> None:
    running = await serve(Echo())
    loop = asyncio.get_running_loop()
    count = 300
    sockets = [socket.socket() for _ in range(2 * count)]
    for idle in sockets:
        idle.setblocking(False)

    async def connect(some: list[socket.socket]) -> None:
        for idle in some:
            await loop.sock_connect(idle, ("127.0.0.1", running.port))
            await loop.sock_sendall(idle, GET % 0)
            await loop.sock_recv(idle, 1000)

    try:
        await connect(sockets[:count])
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await connect(sockets[count:])
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
    finally:
        for idle in sockets:
            idle.close()
    assert each < 3000, "of Python's memory, the loop's transport included"


async def test_the_clients_address_is_known(serve: Serve) -> None:
    application = RecordingApplication(connections=2)
    running = await serve(application)
    async with await RawClient.open(running.port) as client:
        await client.send(GET % 0)
        await client.answer()
        assert application.begun[0].connection.address() == "127.0.0.1"


async def test_stopping_serves_what_was_begun(serve: Serve, both: Both) -> None:
    application = RecordingApplication(leave, leave, connections=3)
    running = await serve(application, context=both[0])
    async with await RawClient.open(running.port, both[1]) as busy, await RawClient.open(running.port, both[1]) as idle:
        await idle.send(GET % 0)
        await until(lambda: application.bodies)
        application.respond(application.bodies[0])
        await idle.answer()
        await busy.send(GET % 1)
        await until(lambda: len(application.bodies) == 2)
        running.server.close_listeners()
        running.server.close_idle()
        assert await idle.rest() == b""
        application.respond(application.bodies[1])
        _, headers, _ = await busy.answer()
        assert headers["connection"] == "close"
        assert await busy.rest(10.0) == b""
        with pytest.raises(OSError):
            await RawClient.open(running.port)
