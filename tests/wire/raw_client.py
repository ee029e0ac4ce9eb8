"""A client that sends bytes and reads bytes, over TCP or TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until a condition holds that nobody announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class RawClient:
    """A connection; `async with` closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None, *, buffer_bytes: int = 1 << 20) -> RawClient:
        """Connect to a port of this machine."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None, limit=buffer_bytes
        )
        return cls(reader, writer)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has taken it."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, timeout_s: float = 5.0) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers in lower case, body without its framing."""
        return await asyncio.wait_for(self._answer(), timeout_s)

    async def rest(self, timeout_s: float = 5.0) -> bytes:
        """Read until the server closes its side.

        Raises:
            ConnectionResetError: it did so with a reset.
            TimeoutError: it did not.
        """
        return await asyncio.wait_for(self._reader.read(), timeout_s)

    async def some(self, size: int, timeout_s: float = 5.0) -> bytes:
        """Read so many bytes."""
        return await asyncio.wait_for(self._reader.readexactly(size), timeout_s)

    def abort(self) -> None:
        """Go without a goodbye."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), 2.0)
        except (OSError, ssl.SSLError):
            self._writer.transport.abort()

    async def _answer(self) -> tuple[int, dict[str, str], bytes]:
        reader = self._reader
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        if status < 200:
            return status, headers, b""
        if "content-length" in headers:
            return status, headers, await reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return status, headers, await reader.read()
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        return status, headers, body
