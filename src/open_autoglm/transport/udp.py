"""A UDP socket for small datagrams: what is too large or cannot be sent at once is dropped and counted, never kept.

Datagrams may be lost anyway; so nothing here waits, and a peer that is slow or gone costs no memory.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

WAITING_BYTES_MAX: Final = 64 * 1024
"""Datagrams that the system did not take at once, at most; the event loop keeps them."""

OnDatagram = Callable[[bytes, tuple[str, int]], None]


class _Transport(Protocol):
    """What is used of the event loop's transport; asyncio's own type lacks the size."""

    def get_write_buffer_size(self) -> int: ...
    def sendto(self, data: bytes, address: Any) -> None: ...
    def close(self) -> None: ...


class UdpSocket(asyncio.DatagramProtocol):
    """See the module; made by `open_udp`.

    Args:
        on_datagram: called with each datagram, and the address that it came from.
        bytes_max: of a datagram; longer ones are dropped.

    Attributes:
        address: host and port of this socket.
        dropped: datagrams that were too long, or could not be sent; it only grows.
    """

    def __init__(self, on_datagram: OnDatagram, bytes_max: int) -> None:
        self._on_datagram = on_datagram
        self._bytes_max = bytes_max
        self._transport: _Transport | None = None
        self.address: tuple[str, int] = ("", 0)
        self.dropped = 0

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        """Send a datagram to an IP address and port, if that is possible now."""
        transport = self._transport
        if transport is None or len(data) > self._bytes_max or transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        try:
            transport.sendto(data, to)
        except (OSError, ValueError):  # no route, or no IP address of this socket's family
            self.dropped += 1

    def close(self) -> None:
        """Close the socket; nothing is received any more."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(_Transport, transport)
        self.address = transport.get_extra_info("sockname")[:2]

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Called by the event loop."""
        if self._transport is None or len(data) > self._bytes_max:
            self.dropped += 1
            return
        self._on_datagram(data, address[:2])

    def error_received(self, error: Exception) -> None:
        """Called by the event loop: a datagram met a closed port, or could not be sent."""
        self.dropped += 1


async def open_udp(host: str, port: int, on_datagram: OnDatagram, bytes_max: int) -> UdpSocket:
    """Open a socket.

    Args:
        host: an IP address of this machine.
        port: 0 for a free one.
        on_datagram: see `UdpSocket`.
        bytes_max: see `UdpSocket`.

    Raises:
        OSError: the address or port cannot be had.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    _, protocol = await loop.create_datagram_endpoint(
        lambda: UdpSocket(on_datagram, bytes_max), local_addr=(host, port), family=family
    )
    return protocol
