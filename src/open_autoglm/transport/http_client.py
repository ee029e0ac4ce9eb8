"""The HTTP/1.1 client shell: pools of kept-alive connections to one origin.

A request goes out in one write and its answer comes back through callbacks; no task is made unless a connection
must be opened. Invariants: a connection carries one request at a time; it goes back to the pool only when its answer
ended cleanly, with nothing after it, and the server keeps it; the newest idle connection is used first; an answer
that ends before its framing says so is `lost`, never `end`; every transfer hears `on_end` or `on_lost` once, unless it
was cancelled; `open` counts connecting, busy, idle and closing connections, each once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Literal, Protocol, cast

import httptools

from open_autoglm import clock
from open_autoglm.transport.settings import PoolLimits

Loss = Literal["stale", "connect", "reset", "malformed"]
"""Why an exchange of bytes failed: a kept connection was closed before a byte of the answer; none could be opened;
closed or cut later; not HTTP."""

_JOIN_BYTES_MAX = 16 * 1024
_WAITING_MAX = 10_000
"""Requests that wait for a connection; as many as the server has clients, by default."""
_TLS_SHUTDOWN_S = 2.0


class Headers:
    """The headers of an answer, as sent; asked for by name. Trailers are added to them as they come."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: dict[bytes, bytes] = {}

    def get(self, lower: bytes, title: bytes) -> str:
        """Return a header's value, empty when there is none.

        Args:
            lower, title: its name in the two usual spellings; any other is found too, more slowly.
        """
        raw = self.raw
        value = raw.get(title)
        if value is None:
            value = raw.get(lower)
            if value is None:
                value = next((found for name, found in raw.items() if name.lower() == lower), b"")
        return value.decode("latin-1").strip(" \t")


class AnswerSink(Protocol):
    """Who takes an answer. None of these may raise or block."""

    def on_sent(self, reused: bool) -> None:
        """The request was written, on a connection that had (not) served before."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The head has come."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, without its framing."""

    def on_end(self) -> None:
        """The body is whole."""

    def on_lost(self, loss: Loss, detail: str) -> None:
        """There will be no (more) answer."""


class Transfer:
    """One request on its way; `cancel`, `pause` and `resume` act on the connection that carries it."""

    __slots__ = ("_pool", "body", "connection", "head", "sink", "waits_until_s")

    def __init__(self, pool: HttpPool, head: bytes, body: bytes, sink: AnswerSink) -> None:
        self._pool = pool
        self.head = head
        self.body = body
        self.sink: AnswerSink | None = sink
        self.connection: UpstreamConnection | None = None
        self.waits_until_s = 0.0

    def cancel(self) -> None:
        """Stop: the connection is closed at once, and the sink hears no more. Idempotent."""
        self.sink = None
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.abandon()

    def pause(self) -> None:
        """Read no more of the answer for now."""
        if self.connection is not None:
            self.connection.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.connection.resume_reading()


class HttpPool:
    """Connections to one origin.

    Args:
        host, port: where to connect; `unix_path` instead for a Unix socket.
        tls: context for https, else None. `server_name` is what its certificate must show.
        limits: of connections.
        connect_timeout_s: to open one, handshake included; also how long a request waits for its turn.
        loop: where it runs.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        limits: PoolLimits,
        connect_timeout_s: float,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
        unix_path: str | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits
        self.connect_timeout_s = connect_timeout_s
        self.open = 0
        self.closed = False
        self._loop = loop
        self._tls = tls
        self._unix_path = unix_path
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[Transfer] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, head: bytes, body: bytes, sink: AnswerSink) -> Transfer:
        """Send a request; the sink hears of its answer, never before this returns, unless it is lost at once."""
        transfer = Transfer(self, head, body, sink)
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                connection.carry(transfer, reused=True)
                return transfer
        if self.closed:
            self._give_up(transfer, "the endpoint was removed")
        elif self.open < self.limits.connections:
            self._connect(transfer)
        elif len(self._waiting) >= _WAITING_MAX:
            self._give_up(transfer, f"{_WAITING_MAX} requests wait for a connection already")
        else:
            transfer.waits_until_s = clock.monotonic() + self.connect_timeout_s
            self._waiting.append(transfer)
        return transfer

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take back a usable connection whose answer has ended cleanly."""
        while self._waiting:
            transfer = self._waiting.popleft()
            if transfer.sink is not None:
                connection.carry(transfer, reused=True)
                return
        if len(self._idle) < self.limits.idle and not self.closed:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """Note that a connection has closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._release()

    def _release(self) -> None:
        """One connection less: whoever waits may open another."""
        self.open -= 1
        while self._waiting and self.open < self.limits.connections and not self.closed:
            transfer = self._waiting.popleft()
            if transfer.sink is not None:
                self._connect(transfer)

    def sweep(self, now_s: float) -> None:
        """Close connections that were idle too long, and give up on requests that waited too long. Call each second."""
        limit_s = now_s - self.limits.idle_timeout_s
        while self._idle and self._idle[0].idle_since_s < limit_s:
            self._idle.pop(0).close()
        while self._waiting and self._waiting[0].waits_until_s < now_s:
            self._give_up(self._waiting.popleft(), f"all {self.limits.connections} connections are busy")

    def close(self) -> None:
        """Open no more connections; idle ones close now, busy ones after their answer."""
        self.closed = True
        while self._idle:
            self._idle.pop().close()
        while self._waiting:
            self._give_up(self._waiting.popleft(), "the endpoint was removed")

    @staticmethod
    def _give_up(transfer: Transfer, detail: str) -> None:
        sink = transfer.sink
        transfer.sink = None
        if sink is not None:
            sink.on_lost("connect", detail)

    def _connect(self, transfer: Transfer) -> None:
        self.open += 1
        task = self._loop.create_task(self._connect_and_carry(transfer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect_and_carry(self, transfer: Transfer) -> None:
        try:
            connection = await asyncio.wait_for(self._open_connection(), self.connect_timeout_s)
        except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors; a bad name is a ValueError
            self._give_up(transfer, self._describe(error))
            self._release()
            return
        except asyncio.CancelledError:
            self.open -= 1
            raise
        if not connection.usable():
            self._give_up(transfer, "the connection was closed as soon as it was open")
            self._release()
            return
        connection.counted = True
        if transfer.sink is not None:
            connection.carry(transfer, reused=False)
        else:
            connection.idle_since_s = clock.monotonic()
            self.give_back(connection)

    async def try_connect(self, timeout_s: float) -> bool:
        """Open a connection and close it again; whether that worked, handshake included."""
        try:
            connection = await asyncio.wait_for(self._open_connection(), timeout_s)
        except (OSError, ValueError):
            return False
        connection.close()
        return True

    async def _open_connection(self) -> UpstreamConnection:
        def factory() -> UpstreamConnection:
            return UpstreamConnection(self)

        if self._unix_path is not None:
            _, connection = await self._loop.create_unix_connection(factory, self._unix_path)
        else:
            tls = self._tls
            _, connection = await self._loop.create_connection(
                factory,
                self.host,
                self.port,
                ssl=tls,
                server_hostname=self.host if tls is not None else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S if tls is not None else None,
            )
        return connection

    def _describe(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no connection within {self.connect_timeout_s:g} s"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"TLS failed: {error.verify_message or 'the certificate is not accepted'}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or error.__class__.__name__}"
        return f"connection failed: {error.__class__.__name__}"


class _StrangeError(Exception):
    """What the parser lets pass and we do not: a status below 100, an interim answer with a body, bytes after the end
    of an answer."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an origin.

    Attributes:
        counted: the pool has taken it over and counts it until it is closed.
        idle_since_s: monotonic seconds when it was last given back.
    """

    __slots__ = (
        "_complete",
        "_feed",
        "_has_head",
        "_head_ready",
        "_headers",
        "_keep",
        "_mute_bytes",
        "_parser",
        "_parts",
        "_paused",
        "_pool",
        "_reused",
        "_touched",
        "_transfer",
        "_transport",
        "counted",
        "idle_since_s",
        "on_body",
        "on_header",
    )

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._transfer: Transfer | None = None
        self._parts: list[bytes] = []
        self._headers = Headers()
        # Both callbacks are the containers' own methods: no Python runs per header or chunk. A header that
        # comes twice keeps its last value; those that frame the body are the parser's to check.
        self.on_body = self._parts.append
        self.on_header = self._headers.raw.__setitem__
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._mute_bytes = 0
        self._head_ready = False
        self._keep = False
        self._complete = False
        self._has_head = False
        self._touched = False
        self._paused = False
        self._reused = False
        self.counted = False
        self.idle_since_s = 0.0

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have another base

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.counted:
            self._pool.forget(self)
        transfer = self._transfer
        self._transfer = None
        if transfer is None or transfer.sink is None:
            return
        sink = transfer.sink
        transfer.connection = None
        transfer.sink = None
        if not self._touched:
            sink.on_lost("stale" if self._reused else "reset", "closed before the answer")
        elif exc is None and self._has_head and self._ends_with_close():
            # Without a length the close is the end; whether that is whole is for the reader of the body to say.
            sink.on_end()
        else:
            sink.on_lost("reset", "closed in the middle of the answer")

    def data_received(self, data: bytes) -> None:
        transfer = self._transfer
        if transfer is None:
            # Nobody asked: an answer to nothing would be taken for the next request's.
            self.close()
            return
        self._touched = True
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._lose(transfer, "malformed", f"not HTTP: {error.__class__.__name__}")
                return
            # The answer is whole; what came after it is nobody's.
            self._keep = False
        parts = self._parts
        sink = transfer.sink
        if self._head_ready:
            self._head_ready = False
            if sink is not None:
                sink.on_head(self._parser.get_status_code(), self._headers)
                sink = transfer.sink
        elif not parts and not self._complete:
            # Heads, interim answers, chunk extensions and trailers have no limit of their own.
            self._mute_bytes += len(data)
            if self._mute_bytes > self._pool.limits.head_bytes:
                self._lose(transfer, "malformed", "the answer's head is too large")
            return
        if parts:
            self._mute_bytes = 0
            payload = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if sink is not None:
                sink.on_data(payload)
                sink = transfer.sink
        if self._complete and self._transfer is transfer:
            self._end(transfer, sink)

    # httptools calls these.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _StrangeError

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or not self._ends_with_close():
                # It has a body, or says so: that would come without a head.
                raise _StrangeError
            self._headers.raw.clear()
            return
        self._head_ready = self._has_head = True
        # Asked here, since the parser forgets it with the end of the message.
        self._keep = parser.should_keep_alive()

    def on_message_complete(self) -> None:
        # An interim answer (1xx) has no head that counts, and is followed by the real one.
        self._complete = self._has_head

    # The pool and the transfer call these.

    def usable(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, transfer: Transfer, reused: bool) -> None:
        """Write a request and expect its answer."""
        transport = self._transport
        assert transport is not None
        self._transfer = transfer
        self._headers.raw.clear()
        self._has_head = False
        self._mute_bytes = 0
        self._complete = False
        self._touched = False
        self._reused = reused
        transfer.connection = self
        if len(transfer.body) <= _JOIN_BYTES_MAX:
            transport.write(transfer.head + transfer.body)
        else:
            transport.writelines((transfer.head, transfer.body))
        if transfer.sink is not None:
            transfer.sink.on_sent(reused)

    def abandon(self) -> None:
        """The request was cancelled: close at once, so that the upstream stops working for it."""
        self._transfer = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close; a request that was answered before it was sent whole is not sent on."""
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size():
                transport.abort()
            else:
                transport.close()

    def pause_reading(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _ends_with_close(self) -> bool:
        headers = self._headers
        return not headers.get(b"content-length", b"Content-Length") and not headers.get(
            b"transfer-encoding", b"Transfer-Encoding"
        )

    def _end(self, transfer: Transfer, sink: AnswerSink | None) -> None:
        self._transfer = None
        transfer.connection = None
        transfer.sink = None
        transport = self._transport
        if (
            self._keep
            and transport is not None
            and not transport.is_closing()
            and (len(transfer.body) <= _JOIN_BYTES_MAX or not transport.get_write_buffer_size())
        ):
            self.resume_reading()
            self.idle_since_s = clock.monotonic()
            self._pool.give_back(self)
        else:
            self.close()
        if sink is not None:
            sink.on_end()

    def _lose(self, transfer: Transfer, loss: Loss, detail: str) -> None:
        self._transfer = None
        transfer.connection = None
        sink = transfer.sink
        transfer.sink = None
        if self._transport is not None:
            self._transport.abort()
        if sink is not None:
            sink.on_lost(loss, detail)
