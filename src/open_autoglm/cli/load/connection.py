"""One keep-alive connection that asks one question after another: HTTP/1.1 written by hand on asyncio streams.

Invariant: an answer counts as whole only when its framing says so and, for a stream, when it ends with `[DONE]`;
nothing is read beyond `ANSWER_BYTES_MAX`, nothing is waited for beyond the time given.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from typing import Final

from open_autoglm import clock

HEAD_BYTES_MAX: Final = 64 * 2**10
ANSWER_BYTES_MAX: Final = 64 * 2**20
_TAIL_BYTES: Final = 1024
"""Of an answer's end, where its usage and `[DONE]` stand."""

_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')


@dataclass(frozen=True, slots=True)
class Sample:
    """One question and its answer.

    Attributes:
        status: of HTTP; 0 when there was no whole answer.
        failure: why there was none, in a word; empty when there was.
        start_s, first_s, end_s: monotonic seconds; `first_s` is when the first byte of the body came.
        tokens: of the answer, 0 when it did not tell.
    """

    status: int
    failure: str
    start_s: float
    first_s: float
    end_s: float
    tokens: int = 0

    @property
    def good(self) -> bool:
        """Whether it is a whole answer that says what was asked for."""
        return not self.failure and self.status == 200


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, and where.

    Attributes:
        host, port: where.
        tls: context for https; None for http.
        data: the request, head and body.
        streamed: whether the answer is a stream.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    data: bytes
    streamed: bool


class Connection:
    """See the module. Reconnects by itself when the server has closed.

    Args:
        question: asked again and again.
        timeout_s: for one answer, connection included.
    """

    def __init__(self, question: Question, timeout_s: float) -> None:
        self._question = question
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> Sample:
        """Ask once. Never raises for what the server or the network does."""
        start_s = clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(start_s)
        except TimeoutError:
            failure = "timeout"
        except (asyncio.IncompleteReadError, ConnectionError):
            failure = "connection lost"
        except (asyncio.LimitOverrunError, ValueError):
            failure = "not HTTP"
        except OSError:
            failure = "no connection"
        await self.close()
        end_s = clock.monotonic()
        return Sample(0, failure, start_s, end_s, end_s)

    async def close(self) -> None:
        """Close the connection, without waiting for what was not sent; the next question opens another."""
        writer = self._writer
        self._reader = self._writer = None
        if writer is not None:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, start_s: float) -> Sample:
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or writer.is_closing():
            where = self._question
            reader, writer = await asyncio.open_connection(where.host, where.port, ssl=where.tls, limit=HEAD_BYTES_MAX)
            self._reader, self._writer = reader, writer
        writer.write(self._question.data)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status, length, chunked, close = read_head(head)
        body = _Body(reader)
        await body.read(length, chunked)
        if close or (length is None and not chunked):
            await self.close()
        broken = self._question.streamed and status == 200 and b"[DONE]" not in body.tail[-32:]
        tokens = _TOKENS.findall(body.tail)
        return Sample(
            status,
            "stream broken" if broken else "",
            start_s,
            body.first_s or clock.monotonic(),
            clock.monotonic(),
            int(tokens[-1]) if tokens else 0,
        )


class _Body:
    """Reads a body; keeps its end only."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._bytes = 0
        self.first_s = 0.0
        self.tail = b""

    async def read(self, length: int | None, chunked: bool) -> None:
        if chunked:
            await self._read_chunks()
        elif length is not None:
            await self._read_exactly(length)
        else:
            while data := await self._reader.read(HEAD_BYTES_MAX):
                self._take(data)

    async def _read_chunks(self) -> None:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            await self._read_exactly(size)
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            self._take(b"\r\n")

    async def _read_exactly(self, length: int) -> None:
        left = length
        while left:
            data = await self._reader.read(min(left, HEAD_BYTES_MAX))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.first_s = self.first_s or clock.monotonic()
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too long")
        self.tail = (self.tail + data)[-_TAIL_BYTES:]


def read_head(head: bytes) -> tuple[int, int | None, bool, bool]:
    """Read an answer's head.

    Returns:
        Status, content length (None when it is not given), whether it is chunked, whether the connection closes.

    Raises:
        ValueError: it is no head of HTTP/1.1.
    """
    lines = head.split(b"\r\n")
    version, status, *_ = lines[0].split(b" ", 2)
    if not version.startswith(b"HTTP/1.") or len(status) != 3:
        raise ValueError("not HTTP")
    headers = dict(_header(line) for line in lines[1:] if line)
    chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
    length = headers.get(b"content-length")
    if length is not None and not length.isdigit():
        raise ValueError("not HTTP")
    close = headers.get(b"connection", b"").lower() == b"close" or version == b"HTTP/1.0"
    return int(status), None if length is None or chunked else int(length), chunked, close


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()
