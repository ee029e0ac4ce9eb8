"""Incoming HTTP/1.1 messages: the strict reader, and the request that it fills.

Framing is decided by llhttp (through httptools) in its strict mode: bare LF, folded headers, a second or a
malformed Content-Length, Content-Length beside Transfer-Encoding, control characters and spaces before the
colon are errors. What llhttp leaves open is closed here: `_` in names, codings other than `chunked`,
Transfer-Encoding in HTTP/1.0, a missing or doubled Host, versions other than 1.0 and 1.1 (RFC 9112).

A reader is taken from a free list when a message begins and given back when the connection is idle, so that
an idle connection does not pay for a parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httptools

from open_autoglm.errors import RequestError

if TYPE_CHECKING:
    from open_autoglm.transport.http_connection import HttpConnection
    from open_autoglm.transport.settings import WireLimits

KEPT_HEADERS: Final = (
    "accept",
    "anthropic-version",
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "origin",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-forwarded-for",
    "x-mcp-events",
    "x-mcp-priority",
    "x-mcp-session",
    "x-request-id",
    "x-request-timeout-ms",
)
"""Headers that somebody reads. All others are checked and dropped: nothing of a client's head is sent on."""


_IGNORED_HEADERS: Final = (
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "cookie",
    "pragma",
    "user-agent",
)


_LIST_HEADERS: Final = frozenset(
    ("accept", "content-encoding", "expect", "sec-websocket-protocol", "upgrade", "x-forwarded-for")
)
"""Lists by their definition: sent in several lines they are one list (RFC 9110, 5.3). Of all others one is enough."""

_PIPELINED_MAX: Final = 256
"""Requests in one block of bytes; the next one is refused, and the connection closed."""
_LINE_BYTES: Final = 64
"""Of a request line besides its target, and blank lines."""
_PIECE_BYTES_MIN: Final = 512
"""Smaller pieces of a body are gathered: each alone would cost more than its bytes."""


def _spellings(name: str) -> list[bytes]:
    title = "-".join(word.capitalize() for word in name.split("-"))
    return [name.encode(), title.encode()]


_LOWER: Final[dict[bytes, str]] = {b: name for name in KEPT_HEADERS + _IGNORED_HEADERS for b in _spellings(name)}
"""Usual spellings of usual names; a head that has other names in it is read more slowly."""
_KEPT: Final = frozenset(KEPT_HEADERS)


def read_headers(lines: list[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """Return the kept headers of a head by lower-case name.

    Raises:
        RequestError: a name holds `_`, or a kept header appears twice.
    """
    try:
        headers = {_LOWER[name]: value for name, value in lines}
    except KeyError:
        return _read_unusual(lines)
    return headers if len(headers) == len(lines) else _read_unusual(lines)


def _read_unusual(lines: list[tuple[bytes, bytes]]) -> dict[str, bytes]:
    headers: dict[str, bytes] = {}
    for name, value in lines:
        if b"_" in name:
            raise RequestError("invalid_request", "a header name holds '_', which proxies read as '-'; use '-'")
        kept = name.lower().decode("latin-1")
        if kept not in _KEPT:
            continue
        if kept not in headers:
            headers[kept] = value
        elif kept in _LIST_HEADERS:
            headers[kept] += b", " + value
        else:
            raise RequestError("invalid_request", f"the header {kept!r} appears twice")
    return headers


_NO_HEADERS: Final[dict[str, bytes]] = {}


class ServerRequest:
    """One request of a client, and the way to answer it.

    Attributes:
        connection: where it came from: an `HttpConnection`, or what stands in its place for frames and gRPC.
        method, target: as sent, `b"POST"`, `b"/v1/models?x=1"`.
        headers: kept and some other headers by lower-case name, values as sent; not to be changed, and without the
            length where it was read by a `KnownHead`.
        body: the whole body once `complete`.
        body_size: bytes of the body so far.
        complete: the body has arrived.
        keep_alive: the connection may serve another request afterwards.
        version: `"1.1"` or `"1.0"`.
        problem: why the message cannot be served, set by the reader.
        call: whatever the application keeps for it; a request whose call is None is never handed over whole.
        received_s: monotonic seconds of its first byte.
        begun: `on_head` was called; `dispatched`: `on_body` was called.
        answered: an answer has been started; `finished`: it has been written whole.
    """

    __slots__ = (
        "answered",
        "begun",
        "body",
        "body_size",
        "call",
        "complete",
        "connection",
        "dispatched",
        "finished",
        "headers",
        "keep_alive",
        "method",
        "parts",
        "problem",
        "received_s",
        "target",
        "version",
    )

    def __init__(
        self,
        connection: Any,
        method: bytes = b"",
        target: bytes = b"",
        headers: dict[str, bytes] = _NO_HEADERS,
        body: bytes | None = None,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.parts: list[bytes | bytearray] | None = None
        if body is None:
            self.body = b""
            self.body_size = 0
            self.complete = False
        else:
            self.body = body
            self.body_size = len(body)
            self.complete = True
        self.keep_alive = True
        self.version = "1.1"
        self.problem: RequestError | None = None
        self.call: object = None
        self.answered = False
        self.begun = False
        self.dispatched = False
        self.finished = False
        self.received_s = 0.0


class RequestReader:
    """Feeds bytes to a parser and fills requests; `heads` holds those whose head came with the last feed.

    Attributes:
        limits: that it holds messages to.
        pipelined: a message has ended since it was taken.
        watched: the message that was last found incomplete.
        message_bytes: fed since the message began, the block that it began in counted whole, or not at all when
            another message ended in it.
    """

    __slots__ = (
        "_lines",
        "_mute_bytes",
        "_parser",
        "_seen_bytes",
        "connection",
        "feed",
        "heads",
        "limits",
        "message_bytes",
        "pipelined",
        "request",
        "watched",
    )

    def __init__(self, limits: WireLimits) -> None:
        self.limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self.feed = self._parser.feed_data
        self.connection: HttpConnection | None = None
        self.request: ServerRequest | None = None
        self.heads: list[ServerRequest] = []
        self.message_bytes = 0
        self._lines: list[tuple[bytes, bytes]] = []
        self.pipelined = False
        self.watched: ServerRequest | None = None
        self._seen_bytes = 0
        self._mute_bytes = 0

    def check_incomplete(self, size: int) -> RequestError | None:
        """Hold a half-read message to its size, framing included.

        Args:
            size: bytes that were fed last.

        Returns:
            What is wrong, if anything.
        """
        request = self.request
        assert request is not None
        limits = self.limits
        if not request.method:
            if self.message_bytes > limits.header_bytes + limits.target_bytes + _LINE_BYTES:
                return RequestError("headers_too_large", f"the head exceeds {limits.header_bytes} bytes")
        elif request is not self.watched or request.body_size != self._seen_bytes:
            self.watched = request
            self._seen_bytes = request.body_size
            self._mute_bytes = 0
            if self.message_bytes > 2 * limits.body_bytes + limits.header_bytes:
                return RequestError("request_too_large", "the body's framing is larger than the body itself")
        else:
            # Chunk extensions and trailers have no limit of their own.
            self._mute_bytes += size
            if self._mute_bytes > limits.header_bytes:
                return RequestError("headers_too_large", f"more than {limits.header_bytes} bytes around a chunk")
        return None

    def pass_over_upgrade(self, rest: bytes) -> None:
        """Go on with the request that offered another protocol, as if it had not.

        Args:
            rest: what followed its head in the same block.

        Raises:
            HttpParserError: what follows is broken.
            HttpParserUpgrade: what follows offers another protocol too.
        """
        request = self.request
        assert request is not None
        headers = request.headers
        if "transfer-encoding" in headers:
            self._read_body_anew(request, b"transfer-encoding: chunked")
        elif int(headers.get("content-length", 0)) > 0:
            self._read_body_anew(request, b"content-length: %d" % int(headers["content-length"]))
        elif not request.keep_alive:
            return
        self.feed(rest)

    def _read_body_anew(self, request: ServerRequest, framing: bytes) -> None:
        """Read a body by a new parser: the old one takes what follows such a head for the other protocol."""
        persistence = b"keep-alive" if request.keep_alive else b"close"
        self._parser = httptools.HttpRequestParser(self)
        self.feed = self._parser.feed_data
        self.feed(b"POST / HTTP/1.1\r\nhost: -\r\nconnection: %b\r\n%b\r\n\r\n" % (persistence, framing))
        # The head that only tells the parser how to read is forgotten.
        self.heads.pop()
        self.request = request
        request.complete = False

    # Called by httptools, in this order.

    def on_message_begin(self) -> None:
        assert self.connection is not None
        self.request = ServerRequest(self.connection)
        if self.pipelined and len(self.heads) >= _PIPELINED_MAX:
            raise RequestError("invalid_request", f"more than {_PIPELINED_MAX} requests were sent ahead")

    def on_url(self, url: bytes) -> None:
        request = self.request
        assert request is not None
        request.target += url
        if len(request.target) > self.limits.target_bytes:
            raise RequestError("headers_too_large", f"the request target exceeds {self.limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        request = self.request
        assert request is not None
        limits = self.limits
        lines = self._lines
        if len(lines) > limits.headers or (
            (self.pipelined or self.message_bytes > limits.header_bytes) and self._head_too_large()
        ):
            raise RequestError(
                "headers_too_large",
                f"the request has more than {limits.headers} headers or {limits.header_bytes} bytes of them",
            )
        request.headers = headers = read_headers(lines)
        lines.clear()
        parser = self._parser
        request.method = parser.get_method()
        version = parser.get_http_version()
        if version != "1.1" or "transfer-encoding" in headers or "host" not in headers:
            request.problem = self._check_rare(request, version)
        request.keep_alive = parser.should_keep_alive()
        length = headers.get("content-length")
        if length is not None and int(length) > limits.body_bytes:
            request.problem = RequestError(
                "request_too_large", f"the body has {int(length)} bytes; at most {limits.body_bytes} are taken"
            )
        self.heads.append(request)

    def on_body(self, data: bytes) -> None:
        request = self.request
        assert request is not None
        if request.problem is not None:
            return
        if request.body_size == 0:
            request.body = data
            request.body_size = len(data)
            if request.body_size <= self.limits.body_bytes:
                return
        else:
            if request.parts is None:
                request.parts = [request.body]
            self._add_piece(request.parts, data)
            request.body_size += len(data)
        if request.body_size > self.limits.body_bytes:
            request.parts = None
            request.body = b""
            request.problem = RequestError("request_too_large", f"the body exceeds {self.limits.body_bytes} bytes")

    def on_message_complete(self) -> None:
        request = self.request
        assert request is not None
        if request.parts is not None:
            request.body = b"".join(request.parts)
            request.parts = None
        request.complete = True
        self.message_bytes = 0
        self.pipelined = True
        self._lines.clear()

    @staticmethod
    def _add_piece(parts: list[bytes | bytearray], data: bytes) -> None:
        if len(data) >= _PIECE_BYTES_MIN:
            parts.append(data)
        elif isinstance(tail := parts[-1], bytearray):
            tail += data
        else:
            parts.append(bytearray(data))

    def _head_too_large(self) -> bool:
        return sum(len(name) + len(value) + 4 for name, value in self._lines) > self.limits.header_bytes

    def _check_rare(self, request: ServerRequest, version: str) -> RequestError | None:
        headers = request.headers
        request.version = version
        if version not in ("1.1", "1.0"):
            return RequestError("invalid_request", f"HTTP/{version} is not spoken here; use HTTP/1.1")
        coding = headers.get("transfer-encoding")
        if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
            return RequestError("invalid_request", "only the transfer coding chunked is taken, with HTTP/1.1")
        if version == "1.1" and "host" not in headers:
            return RequestError("invalid_request", "the Host header is missing")
        return None

    @property
    def idle(self) -> bool:
        """Whether no message is half read, so that the reader may serve another connection."""
        return self.request is None or (self.request.complete and self.request.keep_alive)
