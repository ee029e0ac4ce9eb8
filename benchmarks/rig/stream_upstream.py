"""The stream upstream: answers chat requests as a paced or as a burst event stream in OpenAI's format.

Invariant: every stream is the `STREAM_WRITES` pieces of `payload.stream_writes`, each one HTTP chunk and, when paced,
one write of its own, 10 ms apart; the head goes with the first piece. A request without `"stream"` gets the unary
answer, a GET the list of models, so that health checks pass. Usage: `python -m benchmarks.rig.stream_upstream PORT
PORT`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final, cast

import httptools
import uvloop

from benchmarks.rig.payload import BURST_MARK, STREAM_GAP_S, answer_body, models_body, stream_writes

# Streams wait in ten slots of 1 ms each, so their events are spread over time as those of independent streams are.
SLOTS: Final = 10
SLOT_S: Final = STREAM_GAP_S / SLOTS
# A stalled upstream may catch up by at most one turn of the wheel, else a pause would become a burst.
CATCH_UP_SLOTS_MAX: Final = SLOTS

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def wire_writes() -> list[bytes]:
    """The writes of one stream as they go on the wire: head with the first, the terminator with the last."""
    writes = [_framed(piece) for piece in stream_writes()]
    return [_HEAD + writes[0], *writes[1:-1], writes[-1] + b"0\r\n\r\n"]


def _unary(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_WRITES: Final = wire_writes()
_BURST: Final = b"".join(_WRITES)
_ANSWER: Final = _unary(answer_body())
_MODELS: Final = _unary(models_body())


class Wheel:
    """Sends the next piece of every waiting stream, each at its own millisecond of the 10 ms between two pieces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.slots: list[set[Upstream]] = [set() for _ in range(SLOTS)]
        self.streams = 0
        self.turned = 0

    def add(self, stream: Upstream) -> None:
        """Takes a stream whose first piece was just sent; the next follows in 10 ms."""
        if not self.streams:
            self.turned = int(self.loop.time() / SLOT_S)
            self.loop.call_later(SLOT_S, self._turn)
        self.streams += 1
        # The slot turned last is the one whose next turn is a full round away.
        self.slots[self.turned % SLOTS].add(stream)

    def _turn(self) -> None:
        now = int(self.loop.time() / SLOT_S)
        first = max(self.turned + 1, now - CATCH_UP_SLOTS_MAX + 1)
        for slot in range(first, now + 1):
            streams = self.slots[slot % SLOTS]
            ended = [stream for stream in streams if not stream.send_next()]
            streams.difference_update(ended)
            self.streams -= len(ended)
        self.turned = now
        if self.streams:
            self.loop.call_later(SLOT_S, self._turn)


class Upstream(asyncio.Protocol):
    """One connection of a gateway."""

    __slots__ = ("body", "connection", "parser", "position", "wheel")

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""
        self.position = 0
        self.connection: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A gateway connected."""
        # uvloop's transports have the interface and not the class.
        self.connection = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The gateway went; a running stream ends at its next piece."""
        self.connection = None

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A new request on this connection."""
        self.body = b""

    def on_body(self, body: bytes) -> None:
        """A part of the request's body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The request is whole: answer it."""
        if self.connection is None:
            return
        if self.parser.get_method() != b"POST":
            self.connection.write(_MODELS)
        elif b'"stream"' not in self.body.replace(b'"stream_options"', b""):
            self.connection.write(_ANSWER)
        elif BURST_MARK in self.body:
            self.connection.write(_BURST)
        else:
            self.connection.write(_WRITES[0])
            self.position = 1
            self.wheel.add(self)

    def send_next(self) -> bool:
        """Writes the next piece; false when it was the last, or the gateway has gone."""
        if self.connection is None:
            return False
        self.connection.write(_WRITES[self.position])
        self.position += 1
        return self.position < len(_WRITES)


async def main(ports: list[int]) -> None:
    """Serves on 127.0.0.1 until it is stopped."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    for port in ports:
        await loop.create_server(lambda: Upstream(wheel), "127.0.0.1", port, backlog=4096)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
