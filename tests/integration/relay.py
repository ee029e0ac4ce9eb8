"""A relay between two ends of a connection, for tests that listen to it or break it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Relay:
    """Passes everything on; use as a context.

    Args:
        above: port on this machine that connections are passed on to.

    Attributes:
        port: where it listens.
    """

    def __init__(self, above: int) -> None:
        self._above = above
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def admits(self, first: bytes) -> bool:
        """Whether a connection that begins so is passed on; it is broken otherwise."""
        return True

    def heard(self, data: bytes) -> None:
        """Told of all that is passed on, in both directions."""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        first = await reader.read(65536)
        if not self.admits(first):
            writer.transport.abort()
            return
        above_reader, above = await asyncio.open_connection("127.0.0.1", self._above)
        self.heard(first)
        above.write(first)
        try:
            await asyncio.gather(self._copy(reader, above), self._copy(above_reader, writer))
        except OSError:
            pass  # either end has gone: so does the other
        finally:
            writer.transport.abort()
            above.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.heard(data)
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
