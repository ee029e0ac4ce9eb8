"""Feeds the client's HTTP connection any bytes in any split, as an upstream that is broken or hostile would.

The first three bytes choose limits, the sink's habits and the splits; the rest is what the upstream sends.
"""

from __future__ import annotations

import random

from tests.wire.recording_sink import RecordingSink, lend_connection, pool_without_sockets

from open_autoglm.transport.http_answer import Headers
from open_autoglm.transport.settings import PoolLimits

WIDE = PoolLimits()
NARROW = PoolLimits(head_bytes=120)
BLOCK_BYTES_MAX = 4000
TOKENS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b"\0", b"\xff", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"5;a=b\r\nhello\r\n", b"ffffffffffffffff\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 304 x\r\n\r\n",
    b"HTTP/1.1 999 x\r\n\r\n", b"HTTP/2.0 ", b"HTTP/0.9 ", b"content-length: 5\r\n", b"content-length: 0\r\n",
    b"content-length: 99999999999\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n", b"retry-after: 1\r\n", b"connection: keep-alive\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n", b"content-type: text/event-stream\r\n", b"trailer: x\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
]  # fmt: skip


def fuzz_one(data: bytes) -> None:
    """Run one connection until it can carry no more requests.

    Raises:
        AssertionError: the connection broke a promise; any other exception is a defect of it as well.
    """
    if len(data) < 3:
        return
    narrow = bool(data[0] & 1)
    habits = data[2]
    split = _Run(NARROW if narrow else WIDE, habits, random.Random(data[1]))
    split.play(data[3:], blocks=True)
    if not narrow and not habits & 7:
        # However it was cut, a whole answer is the same one; of a broken one more or less may have been heard.
        whole = _Run(WIDE, habits, random.Random(data[1]))
        whole.play(data[3:], blocks=False)
        one, other = split.sinks[0], whole.sinks[0]
        assert one.end == other.end
        assert one.end != "end" or one.heard == other.heard


class _Run:
    """One connection from its first request to its loss."""

    def __init__(self, limits: PoolLimits, habits: int, rng: random.Random) -> None:
        self.limits = limits
        self.habits = habits
        self.rng = rng
        self.pool, self.loop = pool_without_sockets(limits)
        self.transport = lend_connection(self.pool)
        self.sinks: list[RecordingSink] = []
        self.silent_bytes = 0
        self.send()

    def play(self, data: bytes, *, blocks: bool) -> None:
        start = 0
        while start < len(data):
            size = len(data) if not blocks else self.rng.choice((1, 2, 7, 40, 200, BLOCK_BYTES_MAX))
            self.feed(data[start : start + size])
            start += size
        last = self.sinks[-1]
        ended = bool(last.end)
        self.transport.lose(ConnectionResetError() if self.habits & 0x10 else None)
        assert self.pool.open == 0
        for sink in self.sinks:
            assert sink.end, "every transfer has an end"
        if not ended and last.end == "end":
            assert not self.habits & 0x10, "a reset ends no answer"
            assert not last.headers.get(b"content-length", b"Content-Length"), "a close ends no sized answer"
            assert not last.headers.get(b"transfer-encoding", b"Transfer-Encoding"), "nor one in chunks"

    def send(self) -> None:
        sink = _HabitualSink(self.habits, self.rng) if self.habits & 6 else RecordingSink()
        sink.transfer = self.pool.send(b"GET / HTTP/1.1\r\n\r\n", b"", sink)
        self.sinks.append(sink)

    def feed(self, data: bytes) -> None:
        sink = self.sinks[-1]
        was_idle = bool(sink.end)
        before = (sink.status, len(sink.body), sink.end)
        if not self.transport.reading and not self.transport.closing and sink.transfer is not None:
            sink.transfer.resume()
        if not self.transport.feed(data):
            return
        self.silent_bytes = self.silent_bytes + len(data) if before == (sink.status, len(sink.body), sink.end) else 0
        if not self.transport.closing and not was_idle:
            assert self.silent_bytes <= self.limits.head_bytes, "framing without content is limited"
        if was_idle:
            assert self.transport.closing, "what nobody asked for ends the connection"
        if sink.end and sink.end != "end" and not sink.at_once:
            assert self.transport.closing, "a lost answer ends the connection, unless it was whole before that"
        if sink.end == "end":
            self.check_whole(sink)
            if self.habits & 1 and not self.transport.closing:
                self.send()
                assert self.sinks[-1].reused
                assert self.loop.connects == 0

    def check_whole(self, sink: RecordingSink) -> None:
        length = sink.headers.get(b"content-length", b"Content-Length")
        if length and sink.status not in (204, 304):
            assert len(sink.body) == int(length), "a sized answer is whole"


class _HabitualSink(RecordingSink):
    """A sink that pauses and cancels from within its callbacks."""

    def __init__(self, habits: int, rng: random.Random) -> None:
        super().__init__()
        self.habits = habits
        self.rng = rng

    def on_head(self, status: int, headers: Headers) -> None:
        super().on_head(status, headers)
        self.act()

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        self.act()

    def act(self) -> None:
        transfer = self.transfer
        assert transfer is not None
        if self.habits & 2 and self.rng.random() < 0.3:
            transfer.pause()
        if self.habits & 4 and self.rng.random() < 0.1:
            transfer.cancel()
            assert transfer.connection is None
            self.end = "cancelled"
