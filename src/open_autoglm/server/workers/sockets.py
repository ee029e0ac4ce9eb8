"""The listening sockets of several workers: for each worker one of its own per address, by SO_REUSEPORT.

The kernel gives a new connection to one of the sockets by its addresses, so nobody has to share it out. The supervisor
keeps every socket open: while a worker is started anew, its connections wait. A socket that was opened by somebody
else without SO_REUSEPORT (systemd, or a server that ran alone) is shared by all workers.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from open_autoglm.config.schema import ServerSettings
from open_autoglm.errors import ServerError
from open_autoglm.transport.ports import port_error
from open_autoglm.transport.socket_options import forget_stale

_BACKLOG: Final = 4096

Address = tuple[socket.AddressFamily, tuple[str, int]]
"""Family, host and port of a socket."""


@dataclass(slots=True)
class DataSockets:
    """Who listens where.

    Attributes:
        own: of each worker, sockets that only this one accepts from.
        shared: that all workers accept from.
        addresses: at which each worker has one of its own.
    """

    own: list[list[socket.socket]]
    shared: list[socket.socket] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)

    def of(self, worker: int) -> list[socket.socket]:
        """The sockets of one worker."""
        return [*self.own[worker], *self.shared]

    def all(self) -> list[socket.socket]:
        """Every socket."""
        return [*(sock for own in self.own for sock in own), *self.shared]

    def close_own(self, worker: int) -> None:
        """Let the others have the connections of a worker that is not started again at once."""
        for sock in self.own[worker]:
            sock.close()
        self.own[worker] = []

    def complete(self, worker: int) -> None:
        """Open again what `close_own` has closed.

        Raises:
            OSError: an address cannot be had.
        """
        if not self.own[worker]:
            self.own[worker] = [_bound(address) for address in self.addresses]

    def close(self) -> None:
        """Close all of them here."""
        for sock in self.all():
            sock.close()


def open_data(server: ServerSettings, inherited: Sequence[socket.socket], count: int) -> DataSockets:
    """Open the data listener's sockets, or take those that are open.

    Args:
        server: where.
        inherited: listening sockets that were handed over.
        count: workers.

    Raises:
        ServerError: an address cannot be had.
    """
    try:
        sockets = _inherit(inherited, count) if inherited else _open(server, count)
    except OSError as error:
        raise port_error(error, server.host, server.port, "port") from error
    if server.grpc_port and not inherited:
        try:
            _free_addresses(server.host, server.grpc_port)
        except OSError as error:
            message = f"server.grpc_port: {server.host}:{server.grpc_port} cannot be had: {error.strerror}"
            raise ServerError("internal_error", message) from error
    if server.unix is not None and not any(_is_at(sock, server.unix) for sock in sockets.shared):
        try:
            sockets.shared.append(_bound_unix(server.unix))
        except OSError as error:
            raise ServerError("internal_error", f"server.unix: {server.unix!r} {error.strerror}") from error
    return sockets


def open_admin(server: ServerSettings, inherited: Sequence[socket.socket]) -> list[socket.socket]:
    """Open the admin listener's sockets, or take those that are open.

    Raises:
        ServerError: an address cannot be had.
    """
    if inherited:
        return list(inherited)
    try:
        return [_bound(address, reuse=False) for address in _resolved(server.admin_host, server.admin_port)]
    except OSError as error:
        raise port_error(error, server.admin_host, server.admin_port, "admin-port") from error


def _open(server: ServerSettings, count: int) -> DataSockets:
    addresses = _free_addresses(server.host, server.port)
    return DataSockets([[_bound(address) for address in addresses] for _ in range(count)], [], addresses)


def _free_addresses(host: str, port: int) -> list[Address]:
    """Every address of a host, with the port that the system has chosen where it was asked to.

    Bound without SO_REUSEPORT: two servers that were given one port must not share it by mistake.

    Raises:
        OSError: one cannot be had.
    """
    addresses: list[Address] = []
    for family, place in _resolved(host, port):
        with _made(family, socket.SO_REUSEADDR) as probe:
            probe.bind(place)
            addresses.append((family, (place[0], int(probe.getsockname()[1]))))
    return addresses


def _inherit(inherited: Sequence[socket.socket], count: int) -> DataSockets:
    sockets = DataSockets([[] for _ in range(count)])
    by_address: dict[Address, list[socket.socket]] = {}
    for sock in inherited:
        if sock.family == socket.AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            sockets.shared.append(sock)
        else:
            name = sock.getsockname()
            by_address.setdefault((socket.AddressFamily(sock.family), (str(name[0]), int(name[1]))), []).append(sock)
    for address, found in by_address.items():
        sockets.addresses.append(address)
        # A socket that nobody accepts from would keep its connections waiting for ever.
        found += [_bound(address) for _ in range(count - len(found))]
        for at, sock in enumerate(found):
            sockets.own[at % count].append(sock)
    return sockets


def _resolved(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, (str(name[0]), int(name[1]))) for family, _, _, _, name in found))


def _bound(address: Address, *, reuse: bool = True) -> socket.socket:
    family, place = address
    sock = _made(family, socket.SO_REUSEADDR, *((socket.SO_REUSEPORT,) if reuse else ()))
    try:
        sock.bind(place)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _made(family: socket.AddressFamily, *options: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    for option in options:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _bound_unix(path: str) -> socket.socket:
    forget_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno is None:  # so says Python when the path is too long
            raise OSError(errno.ENAMETOOLONG, "is too long for a Unix socket", path) from error
        raise
    return sock


def _is_at(sock: socket.socket, path: str) -> bool:
    with contextlib.suppress(OSError):
        return sock.family == socket.AF_UNIX and sock.getsockname() == path
    return False
