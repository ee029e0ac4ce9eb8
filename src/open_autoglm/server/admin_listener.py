"""Opens the admin application on a socket: uvicorn's HTTP protocol in our own event loop.

Invariant: no signal handlers, no main loop, no access log, no exit of its own; a connection that is slow to send a
request's head, or sends one without end, is closed. Of uvicorn only the protocol is used: its server would add a
tick every 0.1 s, and it exits the process when a port is taken.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_S = 10.0
"""Longest time for a request's head, from its first byte (or from the connection's start), seconds."""

HEAD_BYTES_MAX = 32 * 2**10
"""Longest head; more than a browser's largest cookie jar, less than what hurts."""

CONNECTIONS_MAX = 128
"""Beyond this many connections requests are answered with 503."""

_KEEP_ALIVE_S = 75
"""Longer than the usual 60 s between two looks of a monitoring system, so that its connection lasts."""


class HeadLimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline and a limit for heads, which it has not."""

    head_s = HEAD_S
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, as long as they are not an endless head."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._arm()

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self.transport.abort)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class AdminListener:
    """A listener that is open.

    Attributes:
        address: host and port, of the first socket when there are several; the path and 0 for a Unix socket.
    """

    def __init__(
        self, servers: list[asyncio.Server], state: ServerState, connect: Callable[[], asyncio.Protocol]
    ) -> None:
        self._servers = servers
        self._state = state
        self._connect = connect
        self.address = _address(servers[0].sockets[0].getsockname())

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets."""
        return [sock for server in self._servers for sock in server.sockets]

    def serve(self, sock: socket.socket) -> None:
        """Go on with a connection that was accepted elsewhere."""
        task = asyncio.ensure_future(self._take(sock))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _take(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._connect, sock)

    def close_listeners(self) -> None:
        """Accept nothing more; idle connections close, the others after their answer."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self, deadline_s: float = 2.0) -> None:
        """Accept nothing more, let running requests finish for `deadline_s` seconds, then cut what is left."""
        self.close_listeners()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=deadline_s)
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()


async def open_listener(
    app: Starlette,
    host: str,
    port: int,
    *,
    socks: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
    head_s: float = HEAD_S,
) -> AdminListener:
    """Open a listener in the running event loop; see `admin.serve_admin`.

    Args:
        app, host, port, socks, tls: as there.
        head_s: longest time for a request's head, seconds.

    Raises:
        OSError: the address cannot be had.
    """
    config = uvicorn.Config(
        app,
        http=HeadLimitedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()

    def connect() -> HeadLimitedProtocol:
        protocol = HeadLimitedProtocol(config, state, {}, loop)
        protocol.head_s = head_s
        return protocol

    if socks:
        servers = [await loop.create_server(connect, sock=sock, ssl=tls) for sock in socks]
    else:
        servers = [await loop.create_server(connect, host, port, ssl=tls)]
    return AdminListener(servers, state, connect)


def _address(name: Any) -> tuple[str, int]:
    return (name[0], name[1]) if isinstance(name, tuple) else (str(name), 0)
