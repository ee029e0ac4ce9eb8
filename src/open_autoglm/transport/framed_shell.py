"""The socket's side of a framed connection: bytes in, frames out, one write per turn of the loop and connection.

Frames that come into being while a turn's bytes are read wait in their connection, and go out together when all that
was ready to be read has been. Invariant: a connection whose frames wait is in its flusher's list once.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from open_autoglm import clock
from open_autoglm.protocol.connection import Connection
from open_autoglm.transport.socket_options import reset
from open_autoglm.transport.tls import names_of, tls_reason

_HIGH_BYTES = 256 * 1024
"""Unsent bytes above which a peer that does not read is not read either."""


class ShellOwner(Protocol):
    """Whose connection it is."""

    def on_pause(self) -> None:
        """The peer reads slowly: produce no more for now."""

    def on_resume(self) -> None:
        """The peer reads again."""

    def on_gone(self) -> None:
        """The transport is lost, and the connection has been told."""


class Flusher:
    """Writes what all connections of a loop have to say, once per turn."""

    __slots__ = ("_call_soon", "_dirty")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._dirty: list[FramedShell] = []

    def add(self, shell: FramedShell) -> None:
        """A connection has got its first frame since the last turn."""
        dirty = self._dirty
        if not dirty:
            self._call_soon(self._flush)
        dirty.append(shell)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for shell in dirty:
            shell.flush()


class FramedShell:
    """One framed connection, for asyncio.

    Args:
        flusher: of the loop.
        reads_while_paused: whether the peer is read although it does not take what we write.

    Attributes:
        connection, owner: set by whoever makes the shell, before the transport is there.
        started_s: when the transport came, monotonic seconds.
    """

    __slots__ = (
        "_flusher",
        "_paused",
        "_reads_while_paused",
        "_stalled_s",
        "_transport",
        "_unsent",
        "connection",
        "owner",
        "started_s",
    )
    connection: Connection
    owner: ShellOwner

    def __init__(self, flusher: Flusher, *, reads_while_paused: bool = False) -> None:
        self._flusher = flusher
        self._transport: asyncio.Transport | None = None
        self._reads_while_paused = reads_while_paused
        self._paused = False
        self._unsent = 0
        self._stalled_s = self.started_s = 0.0

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_BYTES)
        self.started_s = clock.monotonic()
        if self.connection.out:
            self.flush()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data, clock.monotonic())

    def eof_received(self) -> None:
        # A peer that closed its side is taken to have left. The transport closes itself.
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.connection.lose(clock.monotonic(), tls_reason(exc) or "the connection was lost")
        self.owner.on_gone()

    def pause_writing(self) -> None:
        self._paused = True
        self._stalled_s = clock.monotonic()
        if not self._reads_while_paused and self._transport is not None:
            self._transport.pause_reading()
        self.owner.on_pause()

    def resume_writing(self) -> None:
        self._paused = False
        self._unsent = 0
        transport = self._transport
        if not self._reads_while_paused and transport is not None and not transport.is_closing():
            transport.resume_reading()
        self.owner.on_resume()

    # Who owns the connection calls these.

    def wake(self) -> None:
        """The connection has its first frame to write; see `Connection`."""
        self._flusher.add(self)

    def flush(self) -> None:
        """Write what there is; close behind the last word."""
        connection, transport = self.connection, self._transport
        if transport is None:
            return
        out = connection.take()
        if out:
            self._write(transport, out)
        if connection.finished:
            self.close()

    def patrol(self, now_s: float, write_timeout_s: float) -> None:
        """Do what is due; close a peer that has taken nothing for too long."""
        connection, transport = self.connection, self._transport
        if transport is None:
            return
        if now_s >= connection.next_deadline():
            connection.handle_timeout(now_s)
        self.patrol_unsent(now_s, write_timeout_s)

    def patrol_unsent(self, now_s: float, write_timeout_s: float) -> None:
        """Close a peer that has taken nothing for too long."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if not unsent or not self._unsent or unsent < self._unsent:
            self._stalled_s = now_s
        elif now_s - self._stalled_s > write_timeout_s:
            self.abort()
        self._unsent = unsent

    @property
    def unsent(self) -> bool:
        """Whether something is not yet with the kernel."""
        return self._transport is not None and (
            bool(self.connection.out) or self._transport.get_write_buffer_size() > 0
        )

    @property
    def paused(self) -> bool:
        """Whether the peer does not take what is written."""
        return self._paused

    def address(self) -> str:
        """The peer's address without the port; `unix` where it has none."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else "unix"

    def names(self) -> tuple[str, ...]:
        """The names of the peer's certificate, where one was asked for and checked; see `tls.names_of`."""
        return names_of(self._transport.get_extra_info("peercert")) if self._transport is not None else ()

    def close(self) -> None:
        """Close behind what is written."""
        # asyncio's transports with TLS fall apart when they are closed twice.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            reset(self._transport)

    def _write(self, transport: asyncio.Transport, out: list[bytes]) -> None:
        transport.write(out[0] if len(out) == 1 else b"".join(out))
