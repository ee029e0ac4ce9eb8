"""One client connection of the HTTP/1.1 server shell: its states, its timers, and the writing of answers.

Invariants: one request of a connection is served at a time, in order, and answered at most once; an answer is written
whole or the connection is closed; where framing is in doubt, the whole requests before it are served, it is answered
once, and nothing after it is read as a request; what a client sends ahead is kept unread up to a limit;
`on_pause` and `on_resume` reach the application when a client reads slowly.

| a connection is | until | then |
|---|---|---|
| idle | a first byte | reading a head |
| reading a head | the blank line | reading a body; `on_head` was called |
| reading a body | its last byte | serving; `on_body` was called |
| serving | the answer's end | idle, or lingering |
| lingering | the client's end, or 2 s | closed: an answer is not cut off by a reset |
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.transport.http_request import RequestReader, ServerRequest
from open_autoglm.transport.socket_options import reset
from open_autoglm.transport.status_lines import STATUS_LINES

if TYPE_CHECKING:
    from open_autoglm.transport.http_server import HttpServer
    from open_autoglm.transport.known_head import KnownHead, RequestHead

_JOIN_BYTES_MAX: Final = 32 * 1024
"""Head and body up to this size are joined; beyond it the copy costs more than a second buffer."""
_LINGER_S: Final = 2.0
_FIRST_BYTE_S: Final = 30.0  # for a client that has connected and says nothing


class HttpConnection:
    """One client connection, for asyncio. The application uses `respond`, `start`, `write`, `end`, `cut` and `abort`.

    Attributes:
        current: the request that is being read or served.
        memo: whatever the application remembers of this client between its requests.
        peer: the client's address, once it was asked for; `client`: what it is counted as.
        beat, at: see `patrol_rounds.Patrolled`.
    """

    __slots__ = (
        "_advancing",
        "_ahead",
        "_deaf",
        "_known_head",
        "_lingering",
        "_paused",
        "_queue",
        "_reader",
        "_server",
        "_since_s",
        "_stalled_s",
        "_transport",
        "_unsent",
        "at",
        "beat",
        "client",
        "current",
        "memo",
        "peer",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reader: RequestReader | None = None
        self._known_head: KnownHead[RequestHead] | None = None
        self._queue: deque[ServerRequest] | None = None
        self._ahead: bytearray | None = None
        self.beat, self.at = -1, 0
        self._advancing = self._deaf = self._lingering = self._paused = False
        self._unsent = 0
        self._stalled_s = self._since_s = 0.0
        self.current: ServerRequest | None = None
        self.peer = self.client = ""
        self.memo: tuple[object, bytes, Any] | None = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have another base
        self._transport.set_write_buffer_limits(high=server.limits.write_buffer_bytes)
        self._since_s = clock.monotonic() - max(0.0, server.idle_timeout_s - _FIRST_BYTE_S)
        server.enter(self)
        if server.connections > server.accept_max:
            server.refused += 1
            self.abort()
            return
        refusal = server.admit(self)
        if refusal is not None:
            self.refuse(None, refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.beat >= 0:
            self._server.leave(self)
        self._lose_request()
        self._transport = self._reader = self._queue = self._ahead = None

    def eof_received(self) -> None:
        # A client that closed its side is taken to have left (docs/decisions/0004). The transport closes itself.
        self._deaf = True
        self._lose_request()

    def pause_writing(self) -> None:
        self._paused = True
        request = self.current
        if request is not None and request.begun and not request.finished:
            self._server.application.on_pause(request)

    def resume_writing(self) -> None:
        self._paused = False
        self._unsent = 0
        request = self.current
        if request is None:
            return
        if not request.begun:
            # It waited for the answers before it to be taken.
            self._advance()
        elif not request.finished:
            self._server.application.on_resume(request)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        current = self.current
        if current is not None and current.complete:
            self._keep_ahead(data)
            return
        reader = self._reader
        new = reader is None
        if reader is None:
            self._since_s = clock.monotonic()
            known = self._known_head
            if known is not None and (said := known.said).limits is self._server.limits:
                body = known.body_of(data)
                if body is not None:
                    self.current = ServerRequest(self, said.method, said.target, said.headers, body)
                    self._advance()
                    return
            if not data[0] and known is None and self._server.framed is not None:
                self._server.framed(self, data)
                return
            reader = self._reader = self._server.take_reader(self)
        reader.message_bytes += len(data)
        try:
            reader.feed(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._pass_over(reader, data, offer.args[0]):
                return
        except httptools.HttpParserError as error:
            self._break_off(reader, error)
            return
        request = reader.request
        if reader.heads:
            if new:
                self._known_head = self._server.know_head(reader, data) or self._known_head
            self._accept_heads(reader)
        if request is not None and not request.complete:
            problem = reader.check_incomplete(len(data))
            if problem is not None:
                self._break_off(reader, problem)
                return
        self._advance()

    # The application calls these.

    def respond(
        self, request: ServerRequest, status: int, extra: str, body: bytes, content_type: str = "application/json"
    ) -> None:
        """Write a whole answer to the request that is served; `extra`: header lines, each ended by CRLF, ASCII."""
        transport = self._transport
        if transport is None or request.answered:
            return
        request.answered = True
        head = (
            f"{STATUS_LINES[status]}{self._server.date}content-type: {content_type}\r\n"
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
        """Begin a streamed answer with its first piece, in one write. Not for HEAD."""
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
            f"{STATUS_LINES[status]}{self._server.date}content-type: {content_type}\r\n"
            f"cache-control: no-cache\r\n{framing}{extra}{self._connection_line(request)}\r\n"
        ).encode("latin-1")
        if not framing or not payload:
            transport.write(head + payload)
        else:
            transport.write(b"%b%x\r\n%b\r\n" % (head, len(payload), payload))

    def write(self, request: ServerRequest, payload: bytes) -> None:
        """Write one more piece of a streamed answer. An empty one is passed over: it would end the answer."""
        transport = self._transport
        if transport is None or not payload:
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
        """Give up a streamed answer after a last piece, without the last chunk: only HTTP/1.0 takes it for whole."""
        request.keep_alive = False
        self.write(request, payload)
        self._finish(request)

    @property
    def busy(self) -> bool:
        """Whether a request is being read or served, or an answer is not yet sent."""
        request, reader, transport = self.current, self._reader, self._transport
        asked = reader is not None and not reader.idle if request is None else not request.finished
        asked = asked and not self._lingering
        return transport is not None and (asked or transport.get_write_buffer_size() > 0)

    def close_when_idle(self) -> None:
        """Close now if no request is being served or read, else after the answer."""
        if self.current is not None:
            self.current.keep_alive = False
        elif (self._reader is None or self._reader.idle) and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was not yet sent is lost, and what was sent ahead is not served."""
        if self._transport is not None:
            self._deaf, self._queue, self._ahead = True, None, None
            reset(self._transport)

    def give_up(self) -> asyncio.Transport:
        """Leave the transport to another protocol. Its place stays taken until that calls `HttpServer.vacate`."""
        transport = self._transport
        assert transport is not None
        self._server.pass_on(self)
        self._transport = self._reader = self.current = None
        self._deaf = True
        return transport

    def address(self) -> str:
        """Return the client's address, without the port; looked up once."""
        if not self.peer and self._transport is not None:
            name = self._transport.get_extra_info("peername")
            self.peer = sys.intern(name[0]) if isinstance(name, tuple) else "unix"
        return self.peer

    def patrol(self, now_s: float) -> None:
        """Close the connection if one of its timers has run out."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent:
            self._patrol_unsent(unsent, now_s)
            return
        self._unsent = 0
        waited_s = now_s - self._since_s
        request = self.current
        if self._lingering:
            if waited_s > _LINGER_S:
                self._stop_lingering(transport)
        elif request is None:
            self._patrol_waiting(transport, waited_s)
        elif not request.complete and not request.answered:
            limits = self._server.limits
            if request.body_size < limits.body_rate * (waited_s - limits.body_grace_s):
                request.problem = RequestError(
                    "request_timeout", f"the body arrives slower than {limits.body_rate} bytes/s"
                )
                self.refuse(request, request.problem)

    # Inside.

    def _patrol_unsent(self, unsent: int, now_s: float) -> None:
        """Abort if the client has taken nothing for too long. What is written meanwhile is no sign of life."""
        moved = self._unsent == 0 or (unsent < self._unsent if self._paused else unsent != self._unsent)
        self._unsent = unsent
        if moved:
            self._stalled_s = now_s
            if self._lingering:
                self._since_s = now_s
        elif now_s - self._stalled_s > self._server.limits.write_timeout_s:
            self.abort()

    def _patrol_waiting(self, transport: asyncio.Transport, waited_s: float) -> None:
        limits = self._server.limits
        if self._reader is None or self._reader.request is None:
            if waited_s > self._server.idle_timeout_s:
                transport.close()
        elif waited_s > limits.header_timeout_s:
            self.refuse(None, RequestError("request_timeout", f"no whole head within {limits.header_timeout_s:g} s"))

    def _keep_ahead(self, data: bytes) -> None:
        """Keep what a client sends while it is being served; reading goes on up to a limit, to see it leave."""
        ahead = self._ahead = self._ahead or bytearray()
        ahead += data
        if len(ahead) - len(data) <= self._server.limits.pipeline_bytes < len(ahead) and self._transport is not None:
            self._transport.pause_reading()

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

    def _advance(self) -> None:
        """Serve what can be served; answers given at once come back here only when the loop below is done."""
        if self._advancing:
            return
        self._advancing = True
        application = self._server.application
        while (request := self.current) is not None and not request.finished:
            if request.problem is not None and not request.answered:
                self.refuse(request, request.problem)
                break
            if not request.begun:
                if self._paused:
                    # Answers to requests sent ahead pile up only as far as the client takes them.
                    break
                request.begun = True
                request.received_s = self._since_s
                application.on_head(request)
                if not request.answered and not request.complete and "expect" in request.headers:
                    self._answer_expectation(request)
            if request.complete and not request.answered and not request.dispatched and request.call is not None:
                request.dispatched = True
                application.on_body(request)
            if self.current is request:
                break
        self._advancing = False

    def _answer_expectation(self, request: ServerRequest) -> None:
        # HTTP/1.0 knows no interim answers, and a body on its way needs no invitation (RFC 9110, 10.1.1).
        asked = request.headers["expect"].strip().lower() == b"100-continue"
        if asked and request.version == "1.1" and request.body_size == 0 and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _finish(self, request: ServerRequest) -> None:
        request.finished = True
        transport = self._transport
        if transport is None or request is not self.current:
            return
        self._since_s = clock.monotonic()
        if not request.keep_alive or not request.complete:
            self._linger(transport, sending=not request.complete)
            return
        queue = self._queue
        self.current = current = queue.popleft() if queue else None
        ahead = self._ahead
        if ahead is not None and (current is None or not current.complete):
            self._ahead = None
            if len(ahead) > self._server.limits.pipeline_bytes:
                transport.resume_reading()
            self.data_received(bytes(ahead))
        elif current is not None:
            self._advance()
        elif self._reader is not None and self._reader.idle:
            self._server.give_reader(self._reader)
            self._reader = None

    def _linger(self, transport: asyncio.Transport, *, sending: bool) -> None:
        """Close our side; the rest follows when the client has read the answer, or soon.

        To close whole while the client still sends would reset the connection, and the answer with it
        (RFC 9112, 9.6). TLS has no half to close: while the client sends, it is left to close first.
        """
        self._lingering = self._deaf = True
        self._since_s = clock.monotonic()
        self._ahead = None
        if transport.can_write_eof():
            transport.write_eof()
        elif not sending:
            transport.close()

    def _stop_lingering(self, transport: asyncio.Transport) -> None:
        if transport.can_write_eof() or transport.is_closing():
            self.abort()
        else:
            self._since_s = clock.monotonic()
            transport.close()

    def _lose_request(self) -> None:
        request = self.current
        self.current = None
        if request is not None and request.begun and not request.finished:
            request.finished = True
            self._server.application.on_gone(request)

    def _pass_over(self, reader: RequestReader, data: bytes, offset: int) -> bool:
        """Go on after a head that offers another protocol (h2c, say), which a server may ignore (RFC 9110, 7.8).

        CONNECT is refused: its client sends something else from here on. Returns whether to go on with this connection.
        """
        upgrade = self._server.upgrade
        while True:
            request = reader.request
            assert request is not None
            if upgrade is not None and reader.heads == [request] and upgrade(self, request, data[offset:]):
                return False
            if request.method == b"CONNECT":
                request.problem = RequestError("method_not_allowed", "CONNECT is not served here")
                self._deaf = True
                return True
            data = data[offset:]
            try:
                reader.pass_over_upgrade(data)
            except httptools.HttpParserUpgrade as offer:
                offset = offer.args[0]
            except httptools.HttpParserError as error:
                self._break_off(reader, error)
                return False
            else:
                return True

    def _break_off(self, reader: RequestReader, error: Exception) -> None:
        """What follows cannot be read: serve the whole requests before it, answer it with the error, then close."""
        cause = error if isinstance(error, RequestError) else error.__context__
        if not isinstance(cause, RequestError):
            cause = RequestError("invalid_request", f"malformed HTTP message: {error}")
        self._deaf = True
        broken = reader.request
        if broken is None or broken.complete:
            broken = ServerRequest(self)
        if broken.problem is None:
            broken.problem = cause
        if not broken.method:
            reader.heads.append(broken)
        if reader.heads:
            self._accept_heads(reader)
        self._advance()

    def refuse(self, request: ServerRequest | None, error: AutoGLMError) -> None:
        """Answer an error of the wire and close. `request` is the current one, if one is being read or served."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        extra, body = self._server.application.error_answer(request, error)
        head = (
            f"{STATUS_LINES[error.http_status]}{self._server.date}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{extra}connection: close\r\n\r\n"
        ).encode("latin-1")
        transport.write(head if request is not None and request.method == b"HEAD" else head + body)
        if request is not None:
            request.answered = request.finished = True
            if request.begun:
                self._server.application.on_gone(request)
        self.current = None
        self._linger(transport, sending=True)

    def _connection_line(self, request: ServerRequest) -> str:
        if request.keep_alive and request.complete and not self._server.closing:
            return "" if request.version == "1.1" else "connection: keep-alive\r\n"
        request.keep_alive = False
        return "connection: close\r\n"
