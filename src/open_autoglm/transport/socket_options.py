"""What the kernel is told about client sockets, so that a client that does not read holds little of its memory."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable

UNSENT_BYTES = 128 * 1024
"""The kernel takes no more than this of what the client's window has no room for; the rest stops with us."""
_LINGER_NOT = struct.pack("ii", 1, 0)


def bound_unsent(listeners: Iterable[socket.socket]) -> None:
    """Bound what the kernel keeps for clients that do not read. Accepted sockets inherit it; Unix sockets have none."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    for listener in listeners:
        if option is not None and listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def forget_stale(path: str) -> None:
    """Remove a Unix socket that nobody listens at any more.

    Raises:
        OSError: somebody listens there, or it is no socket.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is a file, not a socket", path)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "is taken", path)


def reset(transport: asyncio.Transport) -> None:
    """Close at once and let the kernel forget what was not sent; else it would hold that for a client for minutes."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
