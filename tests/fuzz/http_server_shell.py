"""Feeds the server's HTTP connection any bytes in any split, with slow readers, late answers and timers between them.

The first three bytes choose limits, the application's habits and the splits; the rest is what a client sends.
"""

from __future__ import annotations

import asyncio
import random
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
EARLY = (1, 2)
"""Habits of answering a head before its body; what is read of that depends on the blocks."""
TOKENS = [
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
    split = _Run(NARROW if narrow else WIDE, data[2], rng)
    split.play(data[3:], blocks=True)
    if not narrow and not data[2] & 0xF8 and data[2] not in EARLY:
        # However it was cut, the same requests were seen and the same was refused.
        whole = _Run(WIDE, data[2], rng)
        whole.play(data[3:], blocks=False)
        assert whole.application.seen == split.application.seen
        assert whole.application.codes == split.application.codes
        assert whole.heads() == split.heads()


class _Run:
    """One connection from its first byte to its loss."""

    def __init__(self, limits: WireLimits, habits: int, rng: random.Random) -> None:
        self.limits = limits
        self.habits = habits
        self.rng = rng
        self.application = RecordingApplication(self.at_head, self.at_body, size=(0, 0, 500, 0)[habits >> 6])
        self.server = HttpServer(self.application, limits, NO_LOOP)
        self.connection = HttpConnection(self.server)
        self.transport = FakeTransport(
            self.connection, window=(1 << 60) if habits & 0x10 == 0 else 200, half_close=not habits & 0x20
        )
        self.connection.connection_made(self.transport)

    def play(self, data: bytes, *, blocks: bool) -> None:
        rng = self.rng
        start = 0
        while start < len(data):
            size = len(data) if not blocks else rng.choice((1, 2, 7, 40, 200, 4000))
            self.transport.feed(data[start : start + size])
            start += size
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
        elif self.rng.random() < 0.3:
            self.connection.write(request, b"more")
        elif self.rng.random() < 0.2:
            self.connection.cut(request, b"cut")
        else:
            self.connection.end(request, b"last")

    def check(self) -> None:
        connection, limits = self.connection, self.limits
        ahead = connection._ahead
        assert ahead is None or len(ahead) <= limits.pipeline_bytes + 4000, "what is sent ahead is limited"
        assert connection._queue is None or len(connection._queue) <= 300, "so are requests"
        request = connection.current
        assert request is None or request.body_size <= limits.body_bytes + 4000, "so are bodies"
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

    def heads(self) -> list[bytes]:
        """Statuses of the answers, interim ones left out."""
        pieces = bytes(self.transport.sent).split(b"HTTP/1.1 ")
        return [piece[:3] for piece in pieces[1:] if not piece.startswith(b"1")]
