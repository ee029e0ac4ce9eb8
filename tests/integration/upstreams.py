"""Servers of models for tests, on real sockets: one listener, any number of stations behind it.

A station is an endpoint with an address of its own. It answers each request with the next behaviour of its script, or
with its usual one, and keeps what it saw. Everything runs on a loop in a thread of its own, so that a test may block.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

RESET = struct.pack("ii", 1, 0)
"""Linger for zero seconds: closing sends RST."""


class Seen:
    """A request that reached a station.

    Attributes:
        path, headers, body: as sent; header names in lower case.
        connection: number of the connection that carried it.
        arrived_s: monotonic seconds.
        gone_s: when its connection was lost while its answer was not over; 0.0 otherwise.
        sent_bytes: of the answer, handed to the socket so far.
    """

    def __init__(self, path: str, headers: dict[str, str], body: bytes, connection: int) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.connection = connection
        self.arrived_s = time.monotonic()
        self.gone_s = 0.0
        self.sent_bytes = 0

    @property
    def json(self) -> dict[str, Any]:
        """The body, decoded."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class Wire:
    """An answer being given: what behaviours act on."""

    def __init__(self, connection: _Connection, seen: Seen) -> None:
        self._connection = connection
        self.seen = seen

    async def send(self, data: bytes) -> None:
        """Write bytes, and wait while the reader is slow."""
        self.seen.sent_bytes += len(data)
        self._connection.transport.write(data)
        await self._connection.writable.wait()
        await asyncio.sleep(0)  # or a reader that keeps up would leave no turn to anybody else

    async def respond(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        """Give a whole answer."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        await self.send(head.encode() + body)

    async def start_stream(self, kind: str = "text/event-stream") -> None:
        """Send the head of a chunked answer."""
        await self.send(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """Send a piece of it."""
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end_stream(self) -> None:
        """End it."""
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """Close the connection in order."""
        self._connection.transport.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        sock = self._connection.transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._connection.transport.abort()

    async def wait_gone(self) -> None:
        """Wait until the peer has closed the connection."""
        await self._connection.lost.wait()


Behaviour = Callable[[Wire], Awaitable[None]]


class Station:
    """One endpoint; see the module.

    Attributes:
        url: of the endpoint in the openai dialect, `generate_url` in the generate dialect.
        script: behaviours for the next requests, in order.
        usual: the behaviour when the script is empty.
        seen: every request so far.
    """

    def __init__(self, upstream: Upstream, name: str, usual: Behaviour) -> None:
        self._upstream = upstream
        self.name = name
        self.url = f"{upstream.origin}/{name}/v1"
        self.generate_url = f"{upstream.origin}/{name}/generate"
        self.script: deque[Behaviour] = deque()
        self.usual = usual
        self.seen: list[Seen] = []
        self._open = asyncio.Event()

    def then(self, *behaviours: Behaviour) -> Station:
        """Add to the script."""
        self.script.extend(behaviours)
        return self

    def always(self, behaviour: Behaviour) -> Station:
        """Change the usual behaviour."""
        self.usual = behaviour
        return self

    def let_go(self) -> None:
        """Let every request go on that waits in `held`."""
        self._upstream.loop.call_soon_threadsafe(self._open.set)

    def held(self, behaviour: Behaviour) -> Behaviour:
        """A behaviour that begins with `let_go`."""

        async def wait(wire: Wire) -> None:
            await self._open.wait()
            await behaviour(wire)

        return wait

    def wait_seen(self, count: int = 1, timeout_s: float = 10.0) -> list[Seen]:
        """Wait until so many requests have come."""
        wait_until(lambda: len(self.seen) >= count, f"{count} requests at {self.name}, not {len(self.seen)}", timeout_s)
        return self.seen

    def wait_gone(self, number: int = -1, timeout_s: float = 10.0) -> float:
        """Wait until the connection of a request is lost, and say when."""
        wait_until(lambda: self.seen[number].gone_s > 0.0, f"the connection to {self.name} closes", timeout_s)
        return self.seen[number].gone_s


class Upstream:
    """A listener with stations, while its context is open.

    Args:
        usual: what stations do.
        tls: context of its side, when it speaks TLS.
        unix_path: where to listen instead of loopback.
    """

    def __init__(self, usual: Behaviour, *, tls: ssl.SSLContext | None = None, unix_path: str = "") -> None:
        self._usual = usual
        self._tls = tls
        self._unix_path = unix_path
        self._stations: dict[str, Station] = {}
        self._numbers = itertools.count(1)
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._stopped: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self.origin = f"unix:{unix_path}:" if unix_path else ""
        self.connections_made = 0

    def station(self, name: str = "") -> Station:
        """Make a station; `name` is for messages only."""
        name = f"{name or 'station'}-{next(self._numbers)}"
        station = self._stations[name] = Station(self, name, self._usual)
        return station

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._ready.wait(10), "the scripted upstream did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def find(self, path: str) -> Station | None:
        """The station that a path belongs to."""
        return self._stations.get(path.split("/")[1])

    def enter(self, connection: _Connection) -> int:
        """Count a connection and keep it until the end."""
        self._connections.add(connection)
        self.connections_made += 1
        return self.connections_made

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        if self._unix_path:
            server = await self.loop.create_unix_server(lambda: _Connection(self), self._unix_path)
        else:
            server = await self.loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls)
            scheme, host = ("https", "localhost") if self._tls else ("http", "127.0.0.1")
            self.origin = f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0.01)


class _Connection(asyncio.Protocol):
    """One connection: a request, its behaviour, the next request."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._seen: Seen | None = None
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._number = self._upstream.enter(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._seen is not None:
            self._seen.gone_s = time.monotonic()
        self._upstream._connections.discard(self)
        self.lost.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _next(self) -> None:
        if self._task is not None:
            return
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return
        self._buffer = rest[size:]
        seen = Seen(first.split(" ")[1], headers, rest[:size], self._number)
        if first.startswith("GET "):
            # A look at who is there, which no script knows of.
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b'{"data":[]}')
            self._next()
            return
        self._seen = seen
        self._task = asyncio.ensure_future(self._answer(seen))

    async def _answer(self, seen: Seen) -> None:
        wire = Wire(self, seen)
        station = self._upstream.find(seen.path)
        if station is None:
            await wire.respond(b'{"error":{"message":"no such station"}}', 404)
        else:
            station.seen.append(seen)
            await (station.script.popleft() if station.script else station.usual)(wire)
        self._seen = None
        self._task = None
        if not self.lost.is_set():
            self._next()


def closed_url() -> str:
    """An address of loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


def wait_until(reached: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Wait for a condition, and fail when it is not reached in time."""
    until_s = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < until_s, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.002)


# Behaviours.


def status(code: int, message: str = "scripted", kind: str = "application/json", **headers: str) -> Behaviour:
    """Answer with an error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "scripted", "code": None}}).encode()
    return whole(body, code, kind, **headers)


def whole(body: bytes, code: int = 200, kind: str = "application/json", **headers: str) -> Behaviour:
    """Answer with these bytes."""

    async def behave(wire: Wire) -> None:
        await wire.respond(body, code, kind, **headers)

    return behave


def raw(data: bytes) -> Behaviour:
    """Send bytes that need not be HTTP, and close."""

    async def behave(wire: Wire) -> None:
        await wire.send(data)
        wire.close()

    return behave


async def reset(wire: Wire) -> None:
    """RST before a byte of the answer."""
    wire.reset()


async def never(wire: Wire) -> None:
    """Say nothing, until the client leaves."""
    await wire.wait_gone()


def pieces(
    *parts: bytes, end: str = "whole", pause_s: float = 0.0, kind: str = "text/event-stream", cut_at: int = 0
) -> Behaviour:
    """Answer with a chunked stream.

    Args:
        parts: each becomes a chunk.
        end: `whole`, `cut` (close without the last chunk), `reset`, or `stall` (until the client leaves).
        pause_s: before each part.
        kind: content type.
        cut_at: cut the parts anew into chunks of so many bytes.
    """
    if cut_at:
        joined = b"".join(parts)
        parts = tuple(joined[at : at + cut_at] for at in range(0, len(joined), cut_at))

    async def behave(wire: Wire) -> None:
        await wire.start_stream(kind)
        for part in parts:
            if pause_s:
                await asyncio.sleep(pause_s)
            await wire.chunk(part)
        match end:
            case "whole":
                await wire.end_stream()
            case "cut":
                wire.close()
            case "reset":
                await asyncio.sleep(0.02)
                wire.reset()
            case _:
                await wire.wait_gone()

    return behave


def after(pause_s: float, behaviour: Behaviour) -> Behaviour:
    """Begin later."""

    async def behave(wire: Wire) -> None:
        await asyncio.sleep(pause_s)
        await behaviour(wire)

    return behave
