"""The HTTP/1.1 server shell: listeners, and what their connections share.

It makes no task and no future for a request: bytes arrive in a connection's `data_received`, the application's
callbacks run, bytes leave. See `http_connection.py` for the states of a connection. Invariant: every open connection
is in the rounds of the patrol, which looks at its timers; a reader is with at most one connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Container, Sequence
from email.utils import formatdate
from typing import Any, cast

from open_autoglm import clock
from open_autoglm.errors import ServerError
from open_autoglm.transport.address_counts import AddressCounts
from open_autoglm.transport.application import Application
from open_autoglm.transport.http_connection import HttpConnection
from open_autoglm.transport.http_request import RequestReader, ServerRequest
from open_autoglm.transport.known_head import KnownHead, RequestHead, remember_head
from open_autoglm.transport.patrol_rounds import BEATS, PatrolRounds
from open_autoglm.transport.settings import WireLimits
from open_autoglm.transport.socket_options import bound_unsent, forget_stale

_READERS_SPARE_MAX = 1024
_HEADS_MAX = 1024
"""Known heads that connections share; of others each keeps its own."""
_BACKLOG = 4096
_UNIX_MODE = 0o660
"""Of a Unix socket's file: its owner and group may connect."""
_SPARE_IDLE_S = 1.0
REFUSED_MAX = 256
"""Connections above the limit that are told so; further ones are closed without a word, to save descriptors."""
_TLS_HANDSHAKE_S = 10.0
_TLS_SHUTDOWN_S = 5.0


class HttpServer:
    """Everything that the connections of a listener share.

    Args:
        application: see `Application`.
        limits: of connections.
        loop: where it runs.
        round_s: in which the patrol looks at each connection once, so timers may run over by as much.

    Attributes:
        idle_timeout_s: of connections without a request; shortened while descriptors or memory are short.
        accept_max: connections beyond this are closed without a word; lowered while descriptors are short.
        proxies: addresses whose connections are not those of one client.
        framed: takes connections whose first byte is NUL, with the bytes that have come; without it they are HTTP.
        upgrade: asked whether it takes a connection whose head offers another protocol, with what follows the head.
    """

    def __init__(
        self, application: Application, limits: WireLimits, loop: asyncio.AbstractEventLoop, *, round_s: float = 5.0
    ) -> None:
        self.application = application
        self.limits = limits
        self.loop = loop
        self.date = ""
        self.connections = 0
        self.refused = 0
        self.closing = False
        self.accept_max = limits.connections + REFUSED_MAX
        self.idle_timeout_s = limits.idle_timeout_s
        self.proxies: Container[str] = ()
        self.framed: Callable[[HttpConnection, bytes], None] | None = None
        self.upgrade: Callable[[HttpConnection, ServerRequest, bytes], bool] | None = None
        self._leaving = False
        self._rounds: PatrolRounds[HttpConnection] = PatrolRounds()
        self._beat_s = round_s / BEATS
        self._addresses = AddressCounts()
        self._readers: list[RequestReader] = []
        self._heads: dict[bytes, KnownHead[RequestHead]] = {}
        self._listeners: list[asyncio.Server] = []
        self._patrol_handle: asyncio.TimerHandle | None = None

    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, inherited: Sequence[socket.socket] = ()
    ) -> tuple[str, int]:
        """Open a listening socket, or take those that another process has opened, and return its address.

        Raises:
            OSError: the address cannot be had.
        """
        streams = [sock for sock in inherited if sock.family != socket.AF_UNIX]
        places: list[dict[str, Any]] = [{"sock": sock} for sock in streams] or [{"host": host, "port": port}]
        for place in places:
            listener = await self.loop.create_server(
                lambda: cast(asyncio.Protocol, HttpConnection(self)),
                **place,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_TLS_HANDSHAKE_S if tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S if tls else None,
            )
            bound_unsent(listener.sockets)
            self._listeners.append(listener)
        if self._patrol_handle is None:
            self._patrol()
        name = self._listeners[0].sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def listen_unix(self, path: str, inherited: Sequence[socket.socket] = ()) -> None:
        """Listen at a Unix socket too, after `listen`; what a process that is gone has left there is replaced.

        Raises:
            OSError: the path cannot be had, or somebody listens there.
        """
        own = [sock for sock in inherited if sock.family == socket.AF_UNIX and sock.getsockname() == path]
        if not own:
            forget_stale(path)
        self._listeners.append(
            await self.loop.create_unix_server(
                lambda: cast(asyncio.Protocol, HttpConnection(self)),
                **({"sock": own[0]} if own else {"path": path}),
                backlog=_BACKLOG,
            )
        )
        os.chmod(path, _UNIX_MODE)

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets."""
        return [sock for listener in self._listeners for sock in listener.sockets]

    @property
    def open_connections(self) -> list[HttpConnection]:
        """Every open connection."""
        return list(self._rounds)

    def ask_to_close(self) -> None:
        """Say `connection: close` in every answer from now on, so that clients leave by themselves."""
        self.closing = self._leaving = True

    def close_listeners(self) -> None:
        """Take no more connections. A listening socket that another process holds too goes on there."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def close_idle(self) -> None:
        """Close the connections without a request; the others close after their answer."""
        self.closing = self._leaving = True
        for connection in self.open_connections:
            connection.close_when_idle()

    def spare(self, sparing: bool) -> None:
        """Keep connections for one answer only, and idle ones for a moment, while there is little of what they need.

        To close idle ones at once would cut off the requests that are on their way to them.
        """
        self.closing = sparing or self._leaving
        self.idle_timeout_s = min(_SPARE_IDLE_S, self.limits.idle_timeout_s) if sparing else self.limits.idle_timeout_s

    def abort(self) -> None:
        """Close every connection now."""
        if self._patrol_handle is not None:
            self._patrol_handle.cancel()
            self._patrol_handle = None
        for connection in self.open_connections:
            connection.abort()

    def enter(self, connection: HttpConnection) -> None:
        """Note a new connection."""
        self.connections += 1
        self._rounds.enter(connection)

    def admit(self, connection: HttpConnection) -> ServerError | None:
        """Count a new connection's client; return why it cannot be served, if so."""
        if self.connections > self.limits.connections:
            code, reason = "overloaded", "too many connections; try again later"
        else:
            address = connection.address()
            limit = self.limits.connections if address in self.proxies else self.limits.connections_per_address
            client = self._addresses.enter(address, limit)
            if client is not None:
                connection.client = client
                return None
            code, reason = "overloaded", "too many connections from this address; use fewer, or try again later"
        self.refused += 1
        return ServerError(code, reason, retry_after_s=1.0)

    def leave(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self.vacate(connection.client)
        self._rounds.leave(connection)

    def pass_on(self, connection: HttpConnection) -> None:
        """Look at a connection no more; its place stays taken until somebody calls `vacate`."""
        self._rounds.leave(connection)

    def vacate(self, client: str) -> None:
        """Free the place of a connection that is over; `client` is what it was counted as."""
        self._addresses.leave(client)
        self.connections -= 1

    def take_reader(self, connection: HttpConnection) -> RequestReader:
        """Return a clean reader for a connection whose first byte has come."""
        reader = self._readers.pop() if self._readers else RequestReader(self.limits)
        reader.connection = connection
        return reader

    def give_reader(self, reader: RequestReader) -> None:
        """Take back a reader from a connection that has become idle."""
        reader.connection = reader.request = reader.watched = None
        reader.pipelined = False
        if len(self._readers) < _READERS_SPARE_MAX and reader.limits is self.limits:
            self._readers.append(reader)

    def know_head(self, reader: RequestReader, data: bytes) -> KnownHead[RequestHead] | None:
        """Return the head of a block of bytes that is one message, if such heads can be known again."""
        if len(reader.heads) != 1 or reader.limits is not self.limits:
            return None
        head = remember_head(reader.heads[0], data, self.limits)
        if head is None:
            return None
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        return self._heads.setdefault(head.text, head)

    def renew_limits(self, limits: WireLimits) -> None:
        """Use other limits from now on; half-read messages keep theirs."""
        self.limits = limits
        self.accept_max = limits.connections + REFUSED_MAX
        self.idle_timeout_s = limits.idle_timeout_s
        self._readers.clear()
        self._heads.clear()

    def _patrol(self) -> None:
        self._patrol_handle = self.loop.call_later(self._beat_s, self._patrol)
        now_s = clock.monotonic()
        self.date = f"date: {formatdate(clock.wall(), usegmt=True)}\r\n"
        for connection in self._rounds.next_beat():
            connection.patrol(now_s)
