"""Feeds the server's HTTP connection any bytes in any split, with slow readers, late answers and timers between them.

The first three bytes choose limits, splits and the application's habits; the rest is what a client sends. It is cut
where `CUT` stands, as a client does that sends message by message, or anywhere.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import cast

from tests.wire.fake_transport import FakeTransport
from tests.wire.recording_application import RecordingApplication, answer, leave

from open_autoglm import clock
from open_autoglm.transport.http_connection import HttpConnection
from open_autoglm.transport.http_request import ServerRequest
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.settings import WireLimits

NO_LOOP = cast(asyncio.AbstractEventLoop, None)
"""A connection without a listener needs none."""
WIDE = WireLimits()
NARROW = WireLimits(
    target_bytes=40, header_bytes=120, headers=6, body_bytes=64, pipeline_bytes=100, write_buffer_bytes=300
)
BLOCK_BYTES_MAX = 4000
NEVER = (4, 5, 6, 7)
"""Habits of not answering, or of giving up."""
EARLY = (1, 2)
"""Habits of answering a head before its body; what is read of that depends on the blocks."""
CUT = b"\x1e"
TOKENS = [
    CUT, CUT + b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok" + CUT,
    CUT + b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nyes" + CUT,
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\0", b"\xff", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"5;a=b\r\nhello\r\n", b"ffffffffffffffff\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0",
    b"HTTP/2.0", b"HTTP/0.9", b"RTSP/1.0", b"POST ", b"HEAD ", b"CONNECT a:1 ", b"OPTIONS * ", b"PRI * ",
    b"host: a\r\n", b"content-length: 5\r\n", b"content-length: 0\r\n", b"content-length: 99999999999\r\n",
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"expect: 100-continue\r\n",
    b"connection: close\r\n", b"connection: keep-alive\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"authorization: Bearer k\r\n", b"under_score: 1\r\n", b"accept: a\r\naccept: b\r\n", b"trailer: x\r\n",
]  # fmt: skip


def fuzz_one(data: bytes) -> None:
    """Run one connection.

    Raises:
        AssertionError: the connection broke a promise; any other exception is a defect of it as well.
    """
    if len(data) < 3:
        return
    narrow = bool(data[0] & 1)
    rng = random.Random(data[1])
    blocks = data[3:].split(CUT) if data[0] & 2 else list(_cut(data[3:], rng))
    split = _Run(NARROW if narrow else WIDE, data[2], rng)
    split.play(blocks)
    if not narrow:
        # However it was cut, and whatever happened between, no other requests were seen and nothing else was refused.
        undisturbed = data[2] < 8 and data[2] not in (*EARLY, *NEVER)
        whole = _Run(WIDE, data[2] if undisturbed else 0, rng)
        whole.play([b"".join(blocks)])
        _compare(split, whole, undisturbed=undisturbed)


def _compare(split: _Run, whole: _Run, *, undisturbed: bool) -> None:
    begun, all_begun = split.begun(), whole.begun()
    seen, all_seen = split.application.seen, whole.application.seen
    assert begun == all_begun[: len(begun)]
    if split.habits & 7 not in EARLY:
        assert seen == all_seen[: len(seen)]
    # A head that is too large and broken may be found to be the one or the other.
    refused = [code for code in split.application.codes if code != "request_timeout"]
    assert len(refused) <= len(whole.application.codes)
    if undisturbed:
        assert (begun, seen, len(refused)) == (all_begun, all_seen, len(whole.application.codes))
        assert len(split.heads()) == len(whole.heads())


def _cut(data: bytes, rng: random.Random) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        size = rng.choice((1, 2, 7, 40, 200, BLOCK_BYTES_MAX))
        yield data[start : start + size]
        start += size


class _Run:
    """One connection from its first byte to its loss."""

    def __init__(self, limits: WireLimits, habits: int, rng: random.Random) -> None:
        self.limits = limits
        self.habits = habits
        self.block_bytes = 0
        self.rng = rng
        self.application = RecordingApplication(self.at_head, self.at_body, size=(0, 0, 500, 0)[habits >> 6])
        self.server = HttpServer(self.application, limits, NO_LOOP)
        self.connection = HttpConnection(self.server)
        self.transport = FakeTransport(
            self.connection, window=(1 << 60) if habits & 0x10 == 0 else 200, half_close=not habits & 0x20
        )
        self.connection.connection_made(self.transport)

    def play(self, blocks: Sequence[bytes]) -> None:
        self.block_bytes = max((len(block) for block in blocks), default=0)
        for block in blocks:
            if block:
                self.transport.feed(block)
            self.check()
            if self.habits & 0x08:
                self.disturb()
        self.end()

    def at_head(self, application: RecordingApplication, request: ServerRequest) -> None:
        if self.habits & 7 == 1:
            answer(application, request)
        elif self.habits & 7 == 2 and len(application.begun) % 2:
            application.start(request, b"")

    def at_body(self, application: RecordingApplication, request: ServerRequest) -> None:
        assert request.body_size <= self.limits.body_bytes
        match self.habits & 7:
            case 0 | 1 | 2:
                answer(application, request)
            case 3:
                application.start(request)
                request.connection.write(request, b"more")
                request.connection.end(request, b"last")
            case 4 if not self.habits & 0xF8:
                application.start(request)
                request.connection.cut(request, b"last")
            case _:
                leave(application, request)

    def disturb(self) -> None:
        """Between two blocks: the application goes on, the client reads, time passes, the server stops."""
        request = self.connection.current
        match self.rng.randrange(8):
            case 0 | 1 if request is not None and request.begun and not request.finished:
                self.go_on(request)
            case 2:
                self.transport.take(self.rng.choice((1, 100, 5000)))
            case 3:
                self.connection.patrol(clock.monotonic() + self.rng.choice((0.0, 5.0, 20.0, 50.0, 1000.0)))
            case 4 if self.rng.random() < 0.1:
                self.connection.close_when_idle()
            case 5 if self.rng.random() < 0.1:
                self.transport.end()
            case _:
                pass
        self.check()

    def go_on(self, request: ServerRequest) -> None:
        application = self.application
        if not request.answered:
            if self.rng.random() < 0.5:
                answer(application, request)
            else:
                application.start(request)
        elif self.rng.random() < 0.2:
            # Too late: it has been answered.
            self.connection.respond(request, 500, "", b"second")
            self.connection.start(request, 500, "", "text/plain", b"second")
        elif self.rng.random() < 0.3:
            self.connection.write(request, b"more")
        elif self.rng.random() < 0.2:
            self.connection.cut(request, b"cut")
        else:
            self.connection.end(request, b"last")

    def check(self) -> None:
        connection, limits = self.connection, self.limits
        ahead = connection._ahead
        assert ahead is None or len(ahead) <= limits.pipeline_bytes + self.block_bytes, "what is sent ahead is limited"
        assert connection._queue is None or len(connection._queue) <= 300, "so are requests"
        request = connection.current
        assert request is None or request.body_size <= limits.body_bytes + self.block_bytes, "so are bodies"
        if self.application.errors:
            assert connection._lingering or self.transport.closing, "a refusal is the end"

    def end(self) -> None:
        transport, application = self.transport, self.application
        transport.take(1 << 40)
        transport.end()
        transport.lose()
        assert self.server.connections == 0
        for request in application.begun:
            refused = any(request is other for other, _ in application.errors)
            left = request in application.gone
            answered = any(request is other for other in application.answered)
            assert request.finished, "every request has an end"
            assert left or answered, "a request is answered, or its application hears that it will not be"
            assert not refused or (left and not answered), "never both"
        finals = self.heads()
        answers = len(application.answered) + len(application.errors)
        if transport.aborted:
            assert len(finals) <= answers, "one answer for one request, of those that the client took"
        else:
            assert len(finals) == answers, "one answer for one request"
            assert all(status == b"200" for status in finals[: len(application.answered)]), "in order"

    def begun(self) -> list[tuple[bytes, bytes]]:
        """Method and target of each request that was begun and came whole."""
        return [(request.method, request.target) for request in self.application.begun if request.complete]

    def heads(self) -> list[bytes]:
        """Statuses of the answers, interim ones left out."""
        pieces = bytes(self.transport.sent).split(b"HTTP/1.1 ")
        return [piece[:3] for piece in pieces[1:] if not piece.startswith(b"1")]
