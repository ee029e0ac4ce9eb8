"""A node that answers at once: the least that a node can cost, so that what is measured is the server.

It answers INFER_REQUEST by a response of one short text; with the flag STREAM by as many chunks as it is told.
"""

from __future__ import annotations

import asyncio
from typing import cast

from open_autoglm import clock
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import write_response
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_shell import Flusher, FramedShell

_CHUNK = b"four"


class EchoPeer:
    """One connection to the node; see `protocol.sinks.ServerSink` and `transport.framed_shell.ShellOwner`."""

    def __init__(self, flusher: Flusher, chunks: int) -> None:
        self.shell = FramedShell(flusher)
        self.connection = ServerConnection(self, self.shell.wake, ConnectionSettings(), clock.monotonic())
        self.shell.connection, self.shell.owner = self.connection, self
        self._chunks = chunks
        self._whole = self._rest = b""

    def on_hello(self, hello: Hello) -> None:
        self.connection.accept("echo")
        codec = CODECS[self.connection.codec.name]
        preamble = write_response(5, 7, "stop", 0, "v1", "echo")
        self._whole = preamble + codec.encode({"text": "an answer of a few words"})
        self._rest = preamble + codec.encode({})

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        if not flags & STREAM:
            self.connection.respond(stream, self._whole)
            return
        for _ in range(self._chunks):
            self.connection.chunk(stream, _CHUNK)
        self.connection.respond(stream, self._rest)

    def on_message(self, stream: int, payload: bytes) -> None:
        self.connection.message(stream, payload)

    def on_cancel(self, stream: int) -> None:
        pass

    def on_credit(self, stream: int, released: int) -> None:
        pass

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        pass

    def on_closed(self, code: str, message: str) -> None:
        self.shell.wake()

    def on_pause(self) -> None:
        pass

    def on_resume(self) -> None:
        pass

    def on_gone(self) -> None:
        pass


async def serve_echo(loop: asyncio.AbstractEventLoop, chunks: int = 100) -> int:
    """Listen on a free port and return it."""
    flusher = Flusher(loop)
    listener = await loop.create_server(lambda: cast(asyncio.Protocol, EchoPeer(flusher, chunks).shell), "127.0.0.1", 0)
    return int(listener.sockets[0].getsockname()[1])
