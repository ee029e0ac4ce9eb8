"""A client of the framed protocol over a socket, with nothing between it and the protocol's state."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from tests.unit.inference.wired import Heard, greeting

from open_autoglm import clock
from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.preambles import ResponsePreamble, write_request
from open_autoglm.protocol.settings import ConnectionSettings

WAIT_S = 30.0


class RawClient:
    """One connection; made by `connect`.

    Attributes:
        heard: what the node said.
        connection: the protocol's side.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str | None) -> None:
        self._reader = reader
        self._writer = writer
        self.heard = Heard()
        self.connection = ClientConnection(
            greeting(key=key), self.heard, self._wake, ConnectionSettings(), clock.monotonic()
        )
        self.heard.connection = self.connection
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())
        self._write()

    @classmethod
    async def connect(cls, port: int, key: str | None = None) -> Self:
        """Connect and shake hands, or be turned away."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port), key)
        await client.until(lambda: client.heard.welcome is not None or client.heard.closed is not None)
        return client

    def ask(self, model: str, body: dict[str, Any], flags: int = 0, remaining_ms: int = 0) -> int:
        """Send a request and return its stream."""
        stream = self.connection.request(write_request(model) + self.connection.codec.encode(body), flags, remaining_ms)
        assert stream
        return stream

    async def answer(self, stream: int) -> tuple[ResponsePreamble, dict[str, Any]]:
        """Wait for an answer."""
        await self.until(lambda: stream in self.heard.answers or stream in self.heard.errors)
        return self.heard.answers[stream]

    async def until(self, over: Any) -> None:
        """Wait until something was heard."""
        async with asyncio.timeout(WAIT_S):
            while not over():
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        """Leave without a word."""
        self._task.cancel()
        self._writer.close()
        await asyncio.gather(self._task, return_exceptions=True)

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        if data := b"".join(self.connection.take()):
            self._writer.write(data)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self.connection.receive(data, clock.monotonic())
                self._changed.set()
        except ConnectionError:
            pass
        self.connection.lose(clock.monotonic())
        self._changed.set()
