"""A node that takes updates over real sockets, and the line to it, which tests can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError
from open_autoglm.inference.update_desk import UpdateDesk
from open_autoglm.inference.update_receiver import UpdateReceiver
from open_autoglm.inference.update_sender import Connect, FramedLine, Line, framed_line
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_shell import Flusher, FramedShell

HELLO = Hello(versions=["1.0"], codecs=["json"], agent="update")


class NodeConnection:
    """One connection, of which only updates are taken: its `ServerSink` and its shell's owner."""

    def __init__(self, desk: UpdateDesk, flusher: Flusher, refusal: AutoGLMError | None = None) -> None:
        self._desk = desk
        self._refusal = refusal
        self.answers: AutoGLMError | None = None  # instead of the desk
        self.shell = FramedShell(flusher)
        self.connection = ServerConnection(self, self.shell.wake, ConnectionSettings(), clock.monotonic())
        self.shell.connection, self.shell.owner = self.connection, self

    def on_hello(self, hello: Hello) -> None:
        if self._refusal is not None:
            self.connection.refuse(self._refusal)
        else:
            self.connection.accept("test")

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if self.answers is not None:
            self.connection.fail(stream, self.answers)
        else:
            self._desk.on_message(self.connection, opcode, flags, aux, stream, payload)

    def on_cancel(self, stream: int) -> None:
        self._desk.gone(self.connection, stream)

    def on_closed(self, code: str, message: str) -> None:
        self._desk.gone(self.connection)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_: None


@asynccontextmanager
async def listening(
    receiver: UpdateReceiver, refusal: AutoGLMError | None = None
) -> AsyncIterator[tuple[int, list[NodeConnection]]]:
    """A node on a free port, which may turn everybody away; gives the port and the connections that were made to it."""
    loop, made = asyncio.get_running_loop(), cast(list[NodeConnection], [])
    desk, flusher = UpdateDesk(receiver), Flusher(loop)

    def factory() -> asyncio.Protocol:
        made.append(NodeConnection(desk, flusher, refusal))
        return cast(asyncio.Protocol, made[-1].shell)

    server = await loop.create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], made
    finally:
        server.close()
        for connection in made:
            connection.shell.abort()
        await asyncio.to_thread(desk.close)


def to(port: int, cuts: list[int] | None = None) -> Connect:
    """How to reach the node; the first connections are cut after so many chunks each."""
    flusher = Flusher(asyncio.get_running_loop())
    left = list(cuts or [])

    @asynccontextmanager
    async def connect() -> AsyncIterator[Line]:
        async with framed_line(HELLO, "127.0.0.1", port, flusher) as line:
            assert isinstance(line, FramedLine)
            if left:
                _cut_after(line, left.pop(0))
            yield line

    return connect


def _cut_after(line: FramedLine, chunks: int) -> None:
    sent, told = line.chunk, [0]

    def chunk(what: Any) -> None:
        told[0] += 1
        if told[0] > chunks:
            line.shell.abort()
        else:
            sent(what)

    line.chunk = chunk  # type: ignore[method-assign]
