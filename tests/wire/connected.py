"""A server's connection without a socket, ready to be fed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import cast

from open_autoglm import clock
from open_autoglm.transport.http_connection import HttpConnection
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.settings import WireLimits
from tests.wire.fake_transport import FakeTransport
from tests.wire.recording_application import RecordingApplication

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Wire:
    """A connection, what is in front of it and what is behind it."""

    server: HttpServer
    connection: HttpConnection
    transport: FakeTransport
    application: RecordingApplication

    @property
    def sent(self) -> bytes:
        """What has reached the client."""
        return bytes(self.transport.sent)

    @property
    def open(self) -> bool:
        """Whether the connection may serve more."""
        return not self.transport.closing and not self.transport.eof_sent

    def feed(self, data: bytes, split: int = 0) -> None:
        """Let the client send, in blocks of `split` bytes; what is not read is dropped."""
        size = split or len(data) or 1
        for start in range(0, len(data), size):
            self.transport.feed(data[start : start + size])

    def statuses(self) -> list[int]:
        """Of the answers so far, interim ones too."""
        return [int(status) for status in _STATUS.findall(self.sent)]

    def patrol(self, after_s: float) -> None:
        """Look at the timers as if so much time had passed."""
        self.connection.patrol(clock.monotonic() + after_s)


def serve(application: RecordingApplication, limits: WireLimits | None = None) -> HttpServer:
    """A server without a listener."""
    return HttpServer(application, limits or WireLimits(), cast(asyncio.AbstractEventLoop, None))


def connect(server: HttpServer, *, window: int = 1 << 60, half_close: bool = True, address: str = "192.0.2.7") -> Wire:
    """A new connection of a server."""
    connection = HttpConnection(server)
    transport = FakeTransport(connection, window=window, half_close=half_close, address=address)
    connection.connection_made(transport)
    return Wire(server, connection, transport, cast(RecordingApplication, server.application))


def wire(
    limits: WireLimits | None = None,
    application: RecordingApplication | None = None,
    *,
    window: int = 1 << 60,
    half_close: bool = True,
) -> Wire:
    """A connection of a server of its own."""
    return connect(serve(application or RecordingApplication(), limits), window=window, half_close=half_close)
