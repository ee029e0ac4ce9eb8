"""One connection to an origin, and one request on its way through it.

Invariants: it carries one request at a time; what comes after the end of an answer, or unasked, ends the connection;
an answer that ends before its framing says so is `lost`, never `end`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from open_autoglm import clock
from open_autoglm.transport.http_answer import AnswerSink, Headers, Loss

if TYPE_CHECKING:
    from open_autoglm.transport.http_client import HttpPool

_JOIN_BYTES_MAX = 16 * 1024
"""Head and body up to this size are joined; beyond it the copy costs more than a second buffer."""


class Transfer:
    """One request on its way; `cancel`, `pause` and `resume` act on the connection that carries it."""

    __slots__ = ("body", "connection", "head", "sink", "waits_until_s")

    def __init__(self, head: bytes, body: bytes, sink: AnswerSink) -> None:
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


class _StrangeError(Exception):
    """What the parser lets pass and we do not: a status below 100, an interim answer with a body, bytes after the end
    of an answer."""


class UpstreamConnection:
    """One connection to an origin, a protocol of asyncio by its methods alone.

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

    def eof_received(self) -> None:
        """The transport closes itself, and tells of it."""

    def pause_writing(self) -> None:
        """Requests have a size of their own; nothing more is written meanwhile."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def data_received(self, data: bytes) -> None:
        transfer = self._transfer
        if transfer is None:
            # Nobody asked: an answer to nothing would be taken for the next request's.
            self.close()
            return
        if not self._touched:
            known = self._pool.known_answer
            if known is not None:
                body = known.body_of(data)
                if body is not None:
                    self._keep = True
                    self._tell_whole(transfer, 200, known.said, body)
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
        if self._complete and self._head_ready:
            self._head_ready = False
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            status = self._parser.get_status_code()
            if status == 200 and self._keep:
                self._pool.know_answer(self._headers, data, len(body))
            self._tell_whole(transfer, status, self._headers, body)
            return
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
        if self._touched:
            # The parser was asked about the answer before.
            self._touched = self._has_head = self._complete = False
            self._headers.raw.clear()
            self._mute_bytes = 0
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

    def _tell_whole(self, transfer: Transfer, status: int, headers: Headers, body: bytes) -> None:
        """Tell of an answer that came in one block; its connection is free once the headers have been read."""
        sink = transfer.sink
        self._transfer = transfer.connection = transfer.sink = None
        now_s = clock.monotonic()
        if sink is not None:
            sink.on_whole(status, headers, body, now_s)
        self._be_free(transfer, now_s)

    def _end(self, transfer: Transfer, sink: AnswerSink | None) -> None:
        self._transfer = transfer.connection = transfer.sink = None
        self._be_free(transfer, clock.monotonic())
        if sink is not None:
            sink.on_end()

    def _be_free(self, transfer: Transfer, now_s: float) -> None:
        """Go back to the pool after a whole answer, or close."""
        transport = self._transport
        if (
            self._keep
            and transport is not None
            and not transport.is_closing()
            and (len(transfer.body) <= _JOIN_BYTES_MAX or not transport.get_write_buffer_size())
        ):
            if self._paused:
                self.resume_reading()
            self.idle_since_s = now_s
            self._pool.give_back(self)
        else:
            self.close()

    def _lose(self, transfer: Transfer, loss: Loss, detail: str) -> None:
        self._transfer = None
        transfer.connection = None
        sink = transfer.sink
        transfer.sink = None
        if self._transport is not None:
            self._transport.abort()
        if sink is not None:
            sink.on_lost(loss, detail)
