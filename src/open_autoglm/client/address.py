"""Addresses of servers and nodes, as people write them.

| address | is |
|---|---|
| `mcp://host:port`, `http://host:port`, `host:port` | frames over TCP, on the port that speaks HTTP too |
| `mcps://host:port`, `https://host:port` | the same within TLS |
| `ws://host:port`, `wss://host:port` | within a WebSocket, at `/mcp/v1/stream` unless a path is given |
| `unix:/path` | a Unix socket |
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from open_autoglm.errors import RequestError

PORT: Final = 8080
WEB_PATH: Final = "/mcp/v1/stream"
_PLAIN: Final = ("mcp", "http")
_TLS: Final = ("mcps", "https", "wss")
_WEB: Final = ("ws", "wss")


class Address(Struct, frozen=True):
    """See the module.

    Attributes:
        host, port: where; empty and 0 for a Unix socket.
        tls: whether TLS is spoken.
        unix_path: of a Unix socket, else None.
        web_path: where a WebSocket is asked for, else empty.
    """

    host: str = ""
    port: int = 0
    tls: bool = False
    unix_path: str | None = None
    web_path: str = ""

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read along: TLS, a Unix socket, or this machine."""
        try:
            return self.tls or self.unix_path is not None or ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.web_path:
            return f"{'wss' if self.tls else 'ws'}://{host}:{self.port}{self.web_path}"
        return f"{'mcps' if self.tls else 'mcp'}://{host}:{self.port}"


def read_address(text: str) -> Address:
    """Read an address.

    Raises:
        RequestError: `invalid_request`: it is none of those in the module's table.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _wrong(text, "a Unix socket needs a path")
        return Address(unix_path=path)
    try:
        parts = urlsplit(text if "://" in text else f"mcp://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(text, str(error)) from error
    if parts.scheme not in _PLAIN + _TLS + _WEB:
        raise _wrong(text, f"{parts.scheme!r} is no scheme of ours")
    if not host or parts.username is not None:
        raise _wrong("…", "it needs a host, and no user: the key is given apart")
    web_path = (parts.path.rstrip("/") or WEB_PATH) if parts.scheme in _WEB else ""
    return Address(host, PORT if port is None else port, parts.scheme in _TLS, web_path=web_path)


def detours(address: Address, named: Sequence[str]) -> list[tuple[str, int]]:
    """Which of the addresses that a server has named may be gone to instead: those that are spoken to as it is.

    TLS stays TLS, by the same rules of trust. Without TLS, who asks a server of this machine goes to no other machine.

    Args:
        address: of the server; nobody goes elsewhere from a Unix socket or a WebSocket.
        named: `host:port` each; what is none is left out.

    Returns:
        Hosts and ports, none of them twice, nor the server's own.
    """
    if address.unix_path is not None or address.web_path:
        return []
    found: dict[tuple[str, int], None] = {}
    for text in named:
        written = f"{'mcps' if address.tls else 'mcp'}://{text}"
        try:
            other = read_address(written)
        except RequestError:
            continue
        if str(other) == written.lower() and (other.private or not address.private):
            found[other.host, other.port] = None
    found.pop((address.host, address.port), None)
    return list(found)


def _wrong(text: str, why: str) -> RequestError:
    forms = "mcp://host:port, mcps://…, ws://…, wss://… or unix:/path"
    return RequestError("invalid_request", f"address {text!r}: {why}; write {forms}")
