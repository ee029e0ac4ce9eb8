"""A server that does with each connection what a test says, in bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

Script = Callable[["Peer"], Awaitable[None]]
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Peer:
    """One connection of a client.

    Attributes:
        number: of the connection, from 0.
        requests: heads that were read.
        gone: set when the client has closed the connection.
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Read one request and return its body.

        Raises:
            EOFError: the client has closed the connection.
        """
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            length = _LENGTH.search(head)
            return await self._reader.readexactly(int(length[1])) if length else b""
        except (OSError, EOFError):
            self.gone.set()
            raise EOFError from None

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has taken it."""
        self._writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def close(self) -> None:
        """Close after what was sent."""
        self._writer.close()

    def reset(self) -> None:
        """Close with a reset."""
        line = self._writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def wait_gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(OSError):
            while await self._reader.read(65536):
                pass
        self.gone.set()


class RawServer:
    """See the module.

    Attributes:
        port: where it listens.
        peers: every connection so far.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.peers: list[Peer] = []

    @property
    def requests(self) -> int:
        """How many requests were read, over all connections."""
        return sum(len(peer.requests) for peer in self.peers)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        task = asyncio.ensure_future(self._play(peer, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, peer: Peer, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(peer)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def raw_server(
    script: Script, tls: ssl.SSLContext | None = None, *, unix_path: str | None = None
) -> AsyncIterator[RawServer]:
    """Run a server on a free port, or a Unix socket, until the block ends."""
    server = RawServer(script)
    if unix_path is not None:
        listener = await asyncio.start_unix_server(server._accept, unix_path)
    else:
        listener = await asyncio.start_server(server._accept, "127.0.0.1", 0, ssl=tls)
        server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server._stop()
        # A closed transport is lost one turn later.
        await asyncio.sleep(0.01)


def answering(*answers: bytes) -> Script:
    """Answer request after request of a connection, the last answer for ever."""

    async def script(peer: Peer) -> None:
        number = 0
        while True:
            await peer.request()
            await peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script
