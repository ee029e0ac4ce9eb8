"""Framed connections of the data listener: those whose first byte is NUL, beside HTTP on the same port.

They take their places from the HTTP server, so its limits hold for both together, and for each client. Invariant: every
open connection is in the rounds of the patrol, which looks at its timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from open_autoglm import clock
from open_autoglm.protocol.connection import Connection
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.transport.framed_shell import Flusher, FramedShell, ShellOwner
from open_autoglm.transport.patrol_rounds import BEATS, PatrolRounds

if TYPE_CHECKING:
    from open_autoglm.transport.http_connection import HttpConnection
    from open_autoglm.transport.http_request import ServerRequest
    from open_autoglm.transport.http_server import HttpServer


class FramedApplication(Protocol):
    """What stands behind framed connections."""

    def open(self, shell: FramedShell, address: str, now_s: float) -> tuple[Connection, ShellOwner]:
        """A client has connected: return its connection and whoever hears of it."""


class ServedShell(FramedShell):
    """One client's connection.

    Attributes:
        client: what it is counted as.
        beat, at: see `patrol_rounds.Patrolled`.
    """

    __slots__ = ("_server", "at", "beat", "client")

    def __init__(self, server: FramedServer, client: str) -> None:
        super().__init__(server.flusher)
        self._server = server
        self.beat = -1
        self.at = 0
        server.enter(self)
        self.client = client

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self)
        self._server.http.vacate(self.client)
        super().connection_lost(exc)

    def drain(self, grace_ms: int, alternatives: Sequence[str], now_s: float) -> None:
        """Tell the client to send nothing new here, and where to send it; what runs has so long."""
        if isinstance(self.connection, ServerConnection):
            self.connection.drain(grace_ms, alternatives, now_s)

    def close_drained(self, now_s: float) -> None:
        """Close, if the client was told so and nothing is to be waited for."""
        if isinstance(self.connection, ServerConnection) and self.connection.settled(now_s):
            self.connection.goodbye("server_draining", "the server stops")

    def settles(self, now_s: float) -> bool:
        """Whether nothing runs here any more, but what the client sent before it was told may still be on its way."""
        connection = self.connection
        if not isinstance(connection, ServerConnection) or not connection.draining or connection.streams:
            return False
        return not connection.settled(now_s)


class FramedServer:
    """See the module.

    Args:
        http: the listener, which finds out who speaks what.
        flusher: of all framed connections of the loop.
        application: see `FramedApplication`.
        loop: where it runs.
        round_s: in which the patrol looks at each connection once; see `HttpServer`.

    Attributes:
        stream_target: the path that is asked for a WebSocket; empty where none is served.
    """

    def __init__(
        self,
        http: HttpServer,
        application: FramedApplication,
        flusher: Flusher,
        loop: asyncio.AbstractEventLoop,
        *,
        round_s: float = 5.0,
    ) -> None:
        self.http = http
        self.application = application
        self.flusher = flusher
        self._loop = loop
        self._beat_s = round_s / BEATS
        self._rounds: PatrolRounds[ServedShell] = PatrolRounds()
        self._patrol_handle: asyncio.TimerHandle | None = None
        self.stream_target: Callable[[], bytes] = bytes
        http.framed = self.take
        http.upgrade = self.upgrade

    @property
    def shells(self) -> list[ServedShell]:
        """Every open connection."""
        return list(self._rounds)

    def take(self, connection: HttpConnection, data: bytes) -> None:
        """Go on with a connection whose first bytes are not HTTP."""
        self.adopt(ServedShell(self, connection.client), connection).data_received(data)

    def upgrade(self, connection: HttpConnection, request: ServerRequest, rest: bytes) -> bool:
        """Make a WebSocket of a connection that asks for one on our path; False: it is not for us."""
        if (
            request.method != b"GET"
            or request.headers.get("upgrade", b"").lower() != b"websocket"
            or request.target.partition(b"?")[0] != self.stream_target()
        ):
            return False
        # Loaded when the first client asks: most servers never need it.
        from open_autoglm.transport.websocket import upgrade

        return upgrade(self, connection, request, rest)

    def adopt(self, shell: ServedShell, connection: HttpConnection) -> ServedShell:
        """Give a shell the transport that was an HTTP connection's."""
        address = connection.address()
        transport = connection.give_up()
        shell.connection, shell.owner = self.application.open(shell, address, clock.monotonic())
        transport.set_protocol(shell)  # type: ignore[arg-type]  # it has all that a protocol has
        shell.connection_made(transport)
        return shell

    def enter(self, shell: ServedShell) -> None:
        """Note a new connection."""
        self._rounds.enter(shell)
        if self._patrol_handle is None:
            self._patrol_handle = self._loop.call_later(self._beat_s, self._patrol)

    def leave(self, shell: ServedShell) -> None:
        """Forget a connection."""
        self._rounds.leave(shell)

    def drain(self, grace_ms: int, alternatives: Sequence[str] = ()) -> None:
        """Tell every client to send nothing new here, and where to send it; what runs has so long."""
        now_s = clock.monotonic()
        for shell in self.shells:
            shell.drain(grace_ms, alternatives, now_s)

    def close_drained(self) -> None:
        """Close the connections that were told so and have nothing to wait for."""
        now_s = clock.monotonic()
        for shell in self.shells:
            shell.close_drained(now_s)

    def close(self) -> None:
        """Close every connection now."""
        if self._patrol_handle is not None:
            self._patrol_handle.cancel()
            self._patrol_handle = None
        for shell in self.shells:
            shell.abort()

    def _patrol(self) -> None:
        self._patrol_handle = self._loop.call_later(self._beat_s, self._patrol)
        now_s = clock.monotonic()
        write_timeout_s = self.http.limits.write_timeout_s
        for shell in self._rounds.next_beat():
            shell.patrol(now_s, write_timeout_s)
