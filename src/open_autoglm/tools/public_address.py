"""Whether an IP address belongs to the public Internet: the guard against calls into the operator's own network.

An address that only wraps an IPv4 address (mapped, NAT64, 6to4, Teredo) is as public as that one. Where somebody's own
translation (RFC 8215) leads nobody can tell, so such an address is not public. Sources: RFC 6890 and IANA's registries
of special-purpose addresses, as Python's `ipaddress` has them, and what its older versions lack; RFC 6052 for NAT64.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # of protocols; where clouds keep secrets, too
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # translation of one's own
    ipaddress.IPv6Network("fec0::/10"),  # of a site
)


def is_public(text: str) -> bool:
    """Whether an address, as `getaddrinfo` gives it, is public; False for what is no address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = _wrapped(address)
        if inner is not None:
            return _is_global(inner)
    return _is_global(address)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
