"""How many connections each client has open: one client must not take the places of all others.

Invariant: a client is counted exactly while its connections are open, so the table is never larger than they are.
A client is an IPv4 address, or the 64 bits of an IPv6 address that name its network: whoever has one address of
such a network has all of them. Clients on this machine are not counted; a proxy may stand there, and all is its own.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_NETWORK_BITS: Final = 64


class AddressCounts:
    """See the module."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, address: str, limit: int) -> str | None:
        """Count a connection, unless its client has reached the limit.

        Args:
            address: of the client, as the socket says it; anything else is a client of this machine.
            limit: connections that one client may have open.

        Returns:
            What to give to `leave`, empty when the client is not counted; None when there are too many.
        """
        client = client_of(address)
        if client:
            count = self._open.get(client, 0)
            if count >= limit:
                return None
            self._open[client] = count + 1
        return client

    def leave(self, client: str) -> None:
        """Forget a connection that was counted."""
        if client:
            count = self._open[client] - 1
            if count:
                self._open[client] = count
            else:
                del self._open[client]


def client_of(address: str) -> str:
    """Return what stands for a client; empty for one on this machine."""
    if address.startswith("127.") or (":" not in address and not address[:1].isdigit()):
        return ""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    mapped = parsed.ipv4_mapped
    if mapped is not None:
        return client_of(str(mapped))
    if parsed.is_loopback:
        return ""
    return str(ipaddress.ip_network((int(parsed) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS)))
