"""The HTTP/1.1 server shell: connections, their limits and timers, and the writing of answers.

It makes no task and no future for a request: bytes arrive in `data_received`, the application's callbacks run,
bytes leave. Invariants: one request of a connection is served at a time, in order; an answer is written whole or
the connection is closed; after an answer that left part of a body unread the connection is closed; nothing is
read from a client that has sent ahead, and `pause`/`resume` reach the application when a client reads slowly.

| a connection is | until | then |
|---|---|---|
| idle | a first byte | reading a head |
| reading a head | the blank line | reading a body; `on_head` was called |
| reading a body | its last byte | serving; `on_body` was called |
| serving | the answer's end | idle, or closed |
| lingering | the client's end, or 2 s | closed: an early answer is not cut off by a reset |
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.transport.http_request import RequestReader, ServerRequest
from open_autoglm.transport.settings import WireLimits

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus} | {
    529: "HTTP/1.1 529 Overloaded\r\n"
}
_JOIN_BYTES_MAX = 32 * 1024
"""Head and body up to this size are joined; beyond it the copy costs more than a second buffer."""
_PATROL_BEATS = 10
"""Connections are looked at in turns, so that a sweep over many of them never holds the loop for long."""
_PATROL_BEAT_S = 0.5
_LINGER_S = 2.0
_READERS_SPARE_MAX = 1024
_QUEUE_PAUSE = 1


class Application(Protocol):
    """What the shell calls. None of these may raise or block."""

    def on_head(self, request: ServerRequest) -> None:
        """A head has arrived. The application may refuse by answering at once."""

    def on_body(self, request: ServerRequest) -> None:
        """The body is complete and nothing has been answered yet."""

    def on_gone(self, request: ServerRequest) -> None:
        """The client has left before the answer's end."""

    def on_pause(self, request: ServerRequest) -> None:
        """The client reads slowly: write no more for now."""

    def on_resume(self, request: ServerRequest) -> None:
        """The client reads again."""

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        """Return extra header lines and the body for an error of the wire."""


class HttpServer:
    """Everything that the connections of a listener share.

    Args:
        application: see `Application`.
        limits: of connections.
        loop: where it runs.
    """

    def __init__(self, application: Application, limits: WireLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.application = application
        self.limits = limits
        self.loop = loop
        self.date = ""
        self.connections = 0
        self.refused = 0
        self.closing = False
        self._beats: list[set[HttpConnection]] = [set() for _ in range(_PATROL_BEATS)]
        self._next_beat = 0
        self._readers: list[RequestReader] = []
        self._listeners: list[asyncio.AbstractServer] = []
        self._patrol_handle: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Open a listening socket and return its address.

        Raises:
            OSError: the address cannot be had.
        """
        listener = await self.loop.create_server(
            lambda: HttpConnection(self), host, port, ssl=tls, backlog=4096, ssl_handshake_timeout=10.0 if tls else None
        )
        self._listeners.append(listener)
        if self._patrol_handle is None:
            self._patrol()
        name = listener.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def close_listeners(self) -> None:
        """Take no more connections; those that are open go on and close after their answer."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        for beat in self._beats:
            for connection in list(beat):
                connection.close_when_idle()

    def abort(self) -> None:
        """Close every connection now."""
        if self._patrol_handle is not None:
            self._patrol_handle.cancel()
            self._patrol_handle = None
        for beat in self._beats:
            for connection in list(beat):
                connection.abort()

    def enter(self, connection: HttpConnection) -> set[HttpConnection]:
        """Note a new connection and return the patrol's beat that it belongs to."""
        self.connections += 1
        beat = self._beats[self.connections % _PATROL_BEATS]
        beat.add(connection)
        return beat

    def leave(self, connection: HttpConnection, beat: set[HttpConnection]) -> None:
        """Forget a connection."""
        self.connections -= 1
        beat.discard(connection)

    def take_reader(self, connection: HttpConnection) -> RequestReader:
        """Return a clean reader for a connection whose first byte has come."""
        reader = self._readers.pop() if self._readers else RequestReader(self.limits)
        reader.connection = connection
        return reader

    def give_reader(self, reader: RequestReader) -> None:
        """Take back a reader from a connection that has become idle."""
        reader.connection = None
        reader.request = None
        if len(self._readers) < _READERS_SPARE_MAX:
            self._readers.append(reader)

    def renew_limits(self, limits: WireLimits) -> None:
        """Use other limits from now on; half-read messages keep theirs."""
        self.limits = limits
        self._readers.clear()

    def _patrol(self) -> None:
        now_s = clock.monotonic()
        self.date = f"date: {formatdate(clock.wall(), usegmt=True)}\r\n"
        for connection in list(self._beats[self._next_beat]):
            connection.patrol(now_s)
        self._next_beat = (self._next_beat + 1) % _PATROL_BEATS
        self._patrol_handle = self.loop.call_later(_PATROL_BEAT_S, self._patrol)


class HttpConnection(asyncio.Protocol):
    """One client connection. The application uses `respond`, `start`, `write`, `end` and `abort`.

    Attributes:
        current: the request that is being read or served.
        memo: whatever the application remembers of this client between its requests.
        peer: the client's address, once it was asked for.
    """

    __slots__ = (
        "_advancing",
        "_beat",
        "_head_sent",
        "_lingering",
        "_paused_s",
        "_queue",
        "_reader",
        "_server",
        "_since_s",
        "_transport",
        "current",
        "memo",
        "peer",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reader: RequestReader | None = None
        self._queue: deque[ServerRequest] | None = None
        self._beat: set[HttpConnection] | None = None
        self._advancing = False
        self._lingering = False
        self._head_sent = False
        self._paused_s = 0.0
        self._since_s = 0.0
        self.current: ServerRequest | None = None
        self.peer = ""
        self.memo: tuple[object, bytes, Any] | None = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have another base
        self._since_s = clock.monotonic()
        self._beat = server.enter(self)
        if server.connections > server.limits.connections or server.closing:
            server.refused += 1
            error = AutoGLMError("overloaded", "too many connections; try again later", retry_after_s=1.0)
            self._refuse(None, error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._beat is not None:
            self._server.leave(self, self._beat)
            self._beat = None
        self._lose_request()
        self._transport = None
        self._reader = None
        self._queue = None

    def eof_received(self) -> None:
        # A client that has closed its side is taken to have left: a closed socket looks the same,
        # and answering nobody costs money. The transport closes itself.
        self._lose_request()

    def pause_writing(self) -> None:
        self._paused_s = clock.monotonic()
        if self.current is not None and self.current.begun:
            self._server.application.on_pause(self.current)

    def resume_writing(self) -> None:
        self._paused_s = 0.0
        if self.current is not None and self.current.begun:
            self._server.application.on_resume(self.current)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        reader = self._reader
        if reader is None:
            self._since_s = clock.monotonic()
            reader = self._reader = self._server.take_reader(self)
        reader.message_bytes += len(data)
        try:
            reader.feed(data)
        except httptools.HttpParserUpgrade:
            # An offer to switch protocols (h2c, say) may be passed over: serve it as HTTP/1.1, then close,
            # since what follows on the connection could be either protocol.
            if reader.request is None or reader.request.method == b"CONNECT":
                self._refuse(None, RequestError("method_not_allowed", "CONNECT is not served here"))
                return
            reader.request.keep_alive = False
        except httptools.HttpParserError as error:
            self._refuse_broken(reader, error)
            return
        request = reader.request
        if reader.heads:
            self._accept_heads(reader)
        elif request is None:
            return
        if request is not None and not request.complete:
            self._watch_incomplete(reader, request)
        self._advance()

    # The application calls these.

    def respond(
        self, request: ServerRequest, status: int, extra: str, body: bytes, content_type: str = "application/json"
    ) -> None:
        """Write a whole answer.

        Args:
            request: the one that is being served.
            status: HTTP status.
            extra: more header lines, each ended by CRLF, ASCII.
            body: as it goes out.
            content_type: of the body.
        """
        transport = self._transport
        if transport is None or request.answered:
            return
        request.answered = True
        head = (
            f"{_STATUS_LINES[status]}{self._server.date}content-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n{extra}{self._connection_line(request)}\r\n"
        ).encode("latin-1")
        if request.method == b"HEAD":
            transport.write(head)
        elif len(body) <= _JOIN_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._finish(request)

    def start(self, request: ServerRequest, status: int, extra: str, content_type: str, payload: bytes) -> None:
        """Begin a streamed answer with its first piece, in one write."""
        transport = self._transport
        if transport is None or request.answered:
            return
        request.answered = True
        if request.version == "1.0":
            request.keep_alive = False
            framing = ""
        else:
            framing = "transfer-encoding: chunked\r\n"
        head = (
            f"{_STATUS_LINES[status]}{self._server.date}content-type: {content_type}\r\n"
            f"cache-control: no-cache\r\n{framing}{extra}{self._connection_line(request)}\r\n"
        ).encode("latin-1")
        if not framing:
            transport.write(head + payload)
        else:
            transport.write(b"%b%x\r\n%b\r\n" % (head, len(payload), payload))

    def write(self, request: ServerRequest, payload: bytes) -> None:
        """Write one more piece of a streamed answer. `payload` is not empty."""
        transport = self._transport
        if transport is None:
            return
        if request.version == "1.0":
            transport.write(payload)
        elif len(payload) <= _JOIN_BYTES_MAX:
            transport.write(b"%x\r\n%b\r\n" % (len(payload), payload))
        else:
            transport.writelines((b"%x\r\n" % len(payload), payload, b"\r\n"))

    def end(self, request: ServerRequest, payload: bytes = b"") -> None:
        """End a streamed answer, with a last piece in the same write."""
        transport = self._transport
        if transport is None:
            return
        if request.version == "1.0":
            transport.write(payload)
        elif payload:
            transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload))
        else:
            transport.write(b"0\r\n\r\n")
        self._finish(request)

    def cut(self, request: ServerRequest, payload: bytes = b"") -> None:
        """Give up a streamed answer: write a last piece, then close, so that nobody takes it for whole."""
        request.keep_alive = False
        self.end(request, payload)

    def close_when_idle(self) -> None:
        """Close now if no request is being served or read, else after the answer."""
        if self.current is not None:
            self.current.keep_alive = False
        elif (self._reader is None or self._reader.idle) and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was not yet sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more from this client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def address(self) -> str:
        """Return the client's address, without the port; looked up once."""
        if not self.peer and self._transport is not None:
            name = self._transport.get_extra_info("peername")
            self.peer = name[0] if isinstance(name, tuple) else "unix"
        return self.peer

    def patrol(self, now_s: float) -> None:
        """Close the connection if one of its timers has run out."""
        limits = self._server.limits
        waited_s = now_s - self._since_s
        if self._lingering:
            if waited_s > _LINGER_S:
                self.abort()
        elif self._paused_s:
            if now_s - self._paused_s > limits.write_timeout_s:
                self.abort()
        elif self.current is None:
            self._patrol_waiting(waited_s)
        elif not self.current.complete and not self.current.answered:
            expected = limits.body_rate * (waited_s - limits.body_grace_s)
            if self.current.body_size < expected:
                error = RequestError("request_timeout", f"the body arrives slower than {limits.body_rate} bytes/s")
                self._refuse(self.current, error)

    # Inside.

    def _patrol_waiting(self, waited_s: float) -> None:
        limits = self._server.limits
        if self._reader is None or self._reader.request is None:
            if waited_s > limits.idle_timeout_s and self._transport is not None:
                self._transport.close()
        elif waited_s > limits.header_timeout_s:
            self._refuse(None, RequestError("request_timeout", f"no whole head within {limits.header_timeout_s:g} s"))

    def _accept_heads(self, reader: RequestReader) -> None:
        heads = reader.heads
        if self.current is None and len(heads) == 1:
            self.current = heads.pop()
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.extend(heads)
        heads.clear()
        if self.current is None:
            self.current = self._queue.popleft()
        if len(self._queue) >= _QUEUE_PAUSE and self._transport is not None:
            # The client sends ahead: what one read brought is kept, more is not read until it is served.
            self._transport.pause_reading()

    def _advance(self) -> None:
        """Serve what can be served; answers given at once come back here only when the loop below is done."""
        if self._advancing:
            return
        self._advancing = True
        application = self._server.application
        while (request := self.current) is not None and not request.finished:
            if request.problem is not None and not request.answered:
                self._refuse(request, request.problem)
                break
            if not request.begun:
                request.begun = True
                request.received_s = self._since_s
                application.on_head(request)
                if (
                    not request.answered
                    and not request.complete
                    and "expect" in request.headers
                    and self._transport is not None
                ):
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if request.complete and not request.answered and not request.dispatched and request.call is not None:
                request.dispatched = True
                application.on_body(request)
            if self.current is request:
                break
        self._advancing = False

    def _finish(self, request: ServerRequest) -> None:
        request.finished = True
        transport = self._transport
        self._since_s = clock.monotonic()
        if transport is None or request is not self.current:
            return
        if not request.keep_alive or not request.complete:
            self._linger(request.complete)
            return
        self.current = None
        if self._queue:
            self.current = self._queue.popleft()
            if len(self._queue) < _QUEUE_PAUSE:
                transport.resume_reading()
            self._advance()
        elif self._reader is not None and self._reader.idle:
            self._server.give_reader(self._reader)
            self._reader = None

    def _linger(self, body_read: bool) -> None:
        """Close after an answer; where the client may still be sending, wait so that it can read the answer."""
        transport = self._transport
        assert transport is not None
        self._lingering = True
        if body_read:
            self.current = None
            transport.close()
        elif transport.can_write_eof():
            transport.write_eof()

    def _lose_request(self) -> None:
        request = self.current
        self.current = None
        if request is not None and request.begun and not request.finished:
            request.finished = True
            self._server.application.on_gone(request)

    def _watch_incomplete(self, reader: RequestReader, request: ServerRequest) -> None:
        """Hold a half-read message to its size, framing included."""
        limits = self._server.limits
        if not request.method:
            if reader.message_bytes > limits.header_bytes + limits.target_bytes:
                error = RequestError("headers_too_large", f"the head exceeds {limits.header_bytes} bytes")
                self._refuse_broken(reader, error)
        elif reader.message_bytes > 2 * limits.body_bytes + limits.header_bytes and request.problem is None:
            request.problem = RequestError("request_too_large", "the body's framing is larger than the body itself")

    def _refuse_broken(self, reader: RequestReader, error: Exception) -> None:
        """The framing is in doubt: answer what was whole before it, then close."""
        cause = error if isinstance(error, RequestError) else error.__context__
        if not isinstance(cause, RequestError):
            cause = RequestError("invalid_request", f"malformed HTTP message: {error}")
        reader.heads.clear()
        request = self.current
        if request is not None and request.complete and not request.finished:
            # An earlier request is being answered; after it the connection ends.
            request.keep_alive = False
            self.pause_reading()
            return
        self._refuse(request, cause)

    def _refuse(self, request: ServerRequest | None, error: AutoGLMError) -> None:
        """Answer an error of the wire and close."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if request is not None and request.answered:
            self.abort()
            return
        extra, body = self._server.application.error_answer(request, error)
        head = (
            f"{_STATUS_LINES[error.http_status]}{self._server.date}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{extra}connection: close\r\n\r\n"
        ).encode("latin-1")
        transport.write(head + body)
        if request is not None:
            request.answered = True
            if request.begun:
                self._server.application.on_gone(request)
            request.finished = True
        self.current = None
        self._since_s = clock.monotonic()
        self._lingering = True
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _connection_line(self, request: ServerRequest) -> str:
        if request.keep_alive and request.complete and not self._server.closing:
            return "" if request.version == "1.1" else "connection: keep-alive\r\n"
        request.keep_alive = False
        return "connection: close\r\n"
