"""Looks up where a host of the configuration is, and refuses what may not be called.

Invariant: every address that a name has is looked at, and the caller connects to those that are returned; so a name
that changes its mind between the two leads nowhere. Guards against server-side request forgery and DNS rebinding.
"""

from __future__ import annotations

import asyncio
import socket

from open_autoglm.tools.public_address import is_public
from open_autoglm.tools.tool import ToolError


async def allowed_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host, the best first; all are allowed. A service may be at some of them only: `localhost` is
    often `::1` too, where it does not listen.

    Args:
        host: name or IP address, without brackets.
        port: 1 to 65535.
        allow_private: whether addresses that are not of the public Internet are allowed, too.

    Raises:
        ToolError: `tool_unavailable`, it has none; `tool_not_allowed`, one of them may not be called.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolError("tool_unavailable", f"{host!r} has no address", retryable=True) from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    wrong = [] if allow_private else [each for each in addresses if not is_public(each)]
    if wrong or not addresses:
        raise ToolError(
            "tool_not_allowed", f"{host!r} has an address that is not of the public Internet; see `allow_private`"
        )
    return addresses
