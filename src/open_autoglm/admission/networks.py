"""Networks whose hosts are trusted to say for whom they speak, and the client behind them.

A proxy adds the address that it saw to the right end of `x-forwarded-for`. Read from there, every entry up to the
first one that is not a trusted proxy's was written by somebody we trust; what stands further left may be made up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

_HOST_BITS: Final = 64
"""Of an IPv6 address: whoever has one address of such a network has all of them."""
_ENTRIES_MAX: Final = 32
"""Proxies in a row that are looked at."""


class Networks:
    """Some networks.

    Args:
        texts: each an address or a network, as `10.0.0.0/8` or `::1`.

    Raises:
        ValueError: a text is neither.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, texts: Iterable[str]) -> None:
        names = list(texts)
        self._unix = "unix" in names
        self._networks = tuple(ipaddress.ip_network(text) for text in names if text != "unix")

    def __bool__(self) -> bool:
        return bool(self._networks) or self._unix

    @property
    def everywhere(self) -> bool:
        """Whether one of them has every address, so that whoever connects is trusted."""
        return any(network.prefixlen == 0 for network in self._networks)

    def __contains__(self, address: object) -> bool:
        """Whether an address belongs to one of them; a client on a Unix socket has the address `unix`."""
        if address == "unix":
            return self._unix
        parsed = _parse(address) if isinstance(address, str) else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, forwarded: bytes | None) -> str:
        """Return the address of the client.

        Args:
            peer: who has connected.
            forwarded: the header `x-forwarded-for`; looked at only if `peer` is one of these networks.
        """
        if forwarded is None or peer not in self:
            return peer
        client = peer
        for entry in reversed(forwarded.decode("latin-1").split(",")[-_ENTRIES_MAX:]):
            parsed = _parse(entry.strip())
            if parsed is None:
                break
            client = str(parsed)
            if client not in self:
                break
        return client


def one_for_its_network(address: str) -> str:
    """Return what stands for all addresses of a client: of IPv6 the network of 64 bits, of IPv4 the address."""
    if ":" not in address:
        return address
    parsed = _parse(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address if parsed is None else str(parsed)
    return str(ipaddress.ip_network((int(parsed) >> _HOST_BITS << _HOST_BITS, _HOST_BITS)))


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; one of IPv4 in IPv6's clothes as what it is. A port is left off, as some proxies write one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
