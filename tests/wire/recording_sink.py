"""A sink that writes down an answer, and holds the client's connection to its promises while it is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

from open_autoglm.transport.http_answer import Headers, Loss
from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.settings import PoolLimits
from open_autoglm.transport.upstream_connection import Transfer, UpstreamConnection
from tests.wire.fake_transport import FakeTransport


class RecordingSink:
    """See the module.

    Attributes:
        end: `end`, or why the answer was lost; empty while it is awaited.
        detail: what was said of the loss.
        status: 0 before the head.
        body: what has come of it.
        reused: whether the connection had served before; None before the request was sent.
        at_once: the answer was told of in one call.
        done: set when the answer has ended or was lost.
    """

    def __init__(self) -> None:
        self.reused: bool | None = None
        self.status = 0
        self.headers = Headers()
        self.body = b""
        self.pieces = 0
        self.at_once = False
        self.end = ""
        self.detail = ""
        self.done = asyncio.Event()
        self.transfer: Transfer | None = None

    def on_sent(self, reused: bool) -> None:
        assert self.reused is None
        assert not self.end
        self.reused = reused

    def on_head(self, status: int, headers: Headers) -> None:
        assert self.reused is not None
        assert not self.status
        assert not self.end
        assert 200 <= status <= 999
        self.status = status
        self.headers = headers

    def on_data(self, data: bytes) -> None:
        assert self.status, "a body follows a head"
        assert not self.end
        assert data
        self.body += data
        self.pieces += 1

    def on_end(self) -> None:
        assert self.status, "an end follows a head"
        assert not self.end
        self.end = "end"
        self.done.set()

    def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
        assert now_s > 0.0
        self.at_once = True
        self.on_head(status, headers)
        if body and not self.end:
            self.on_data(body)
        if not self.end:
            self.on_end()

    def on_lost(self, loss: Loss, detail: str) -> None:
        assert not self.end
        assert detail
        self.end = loss
        self.detail = detail
        self.done.set()

    @property
    def heard(self) -> tuple[int, bytes, str]:
        """Status, body and end."""
        return self.status, self.body, self.end


class NoLoop:
    """In place of a loop, where no connection shall be opened; counts the attempts, and keeps what is to run later."""

    def __init__(self) -> None:
        self.connects = 0
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append((delay_s, callback))

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        coroutine.close()
        self.connects += 1
        return cast("asyncio.Future[None]", _NeverDone())


class _NeverDone:
    def add_done_callback(self, callback: object) -> None:
        pass


def pool_without_sockets(limits: PoolLimits | None = None) -> tuple[HttpPool, NoLoop]:
    """A pool that can only use the connections that it is given."""
    loop = NoLoop()
    return (
        HttpPool(
            "upstream.test",
            80,
            limits=limits or PoolLimits(),
            connect_timeout_s=1.0,
            loop=cast(asyncio.AbstractEventLoop, loop),
        ),
        loop,
    )


def lend_connection(pool: HttpPool, *, window: int = 1 << 60) -> FakeTransport:
    """Give a pool an open connection that has not served yet."""
    connection = UpstreamConnection(pool)
    transport = FakeTransport(connection, window=window)
    connection.connection_made(transport)
    connection.counted = True
    pool.open += 1
    pool.give_back(connection)
    return transport


def send(pool: HttpPool, body: bytes = b"") -> RecordingSink:
    """Send a request; its sink."""
    sink = RecordingSink()
    sink.transfer = pool.send(b"POST / HTTP/1.1\r\nhost: upstream.test\r\n\r\n", body, sink)
    return sink
