"""A relay in front of a node that breaks connections whose first bytes have a word in them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class RefusingRelay:
    """See the module; use as a context.

    Args:
        port: of the node.
        word: that is not let through; empty lets everything through.

    Attributes:
        refused: connections that were broken.
    """

    def __init__(self, port: int, word: bytes) -> None:
        self._node = port
        self.word = word
        self.port = 0
        self.refused = 0
        self._tasks: set[asyncio.Task[None]] = set()

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
        if self.word and self.word in first:
            self.refused += 1
            writer.transport.abort()
            return
        above_reader, above = await asyncio.open_connection("127.0.0.1", self._node)
        above.write(first)
        try:
            await asyncio.gather(_copy(reader, above), _copy(above_reader, writer))
        except OSError:
            pass  # either end has gone: so does the other
        finally:
            writer.transport.abort()
            above.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()
