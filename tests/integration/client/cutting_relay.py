"""A relay between a client and a server that breaks each connection after so many bytes of the server's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 4096


class CuttingRelay:
    """See the module; use as a context.

    Args:
        port: of the server.
        cuts: bytes after which the first, second, … connection is broken; those after them are not.

    Attributes:
        address: as clients write it.
        broken: connections that were.
    """

    def __init__(self, port: int, cuts: Iterable[int]) -> None:
        self._port = port
        self._cuts: Iterator[int] = iter(cuts)
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.broken = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"mcp://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
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
        left = next(self._cuts, None)
        ends = [writer]
        asking: asyncio.Task[None] | None = None
        try:
            above_reader, above = await asyncio.open_connection("127.0.0.1", self._port)
            ends.append(above)
            asking = asyncio.create_task(_ask(reader, above))
            if await _copy(above_reader, writer, left):
                self.broken += 1
        except OSError:
            pass  # either end has gone: so does the other
        finally:
            if asking is not None:
                asking.cancel()
            for end in ends:
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> bool:
    """Copy until the end, or so many bytes; returns whether it was these that ended it."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_BLOCK_BYTES):
            if left is not None:
                data, left = data[:left], left - len(data)
            writer.write(data)
            await writer.drain()
            if left is not None and left <= 0:
                await asyncio.sleep(0.001)
                return True
    return False


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _copy(reader, writer, None)
    writer.transport.abort()
