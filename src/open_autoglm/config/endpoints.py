"""Addresses of models: what may be written, and which dialect an address means.

| address | dialect |
|---|---|
| path ends in `/v1` | openai |
| path ends in `/messages` | anthropic |
| no path | openai, `/v1` is added, as Ollama, vLLM and others have it |
| any other path | generate |
| `unix:SOCKET:/PATH` | by the path, as above |
| `unix:SOCKET`, `mcp://HOST:PORT`, `mcps://HOST:PORT` (within TLS) | mcp |
| `embedded:NAME` | embedded |
"""

import re
from dataclasses import dataclass

from open_autoglm.config.schema import Dialect
from open_autoglm.config.substitution import Refused
from open_autoglm.config.tree import shorten

_PORT_MAX = 65535
_UNIX_PATH_BYTES_MAX = 107
"""Linux: `sun_path` has 108 bytes with its final NUL."""

_AUTHORITY = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_EMBEDDED_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WANTED = "write http://HOST:PORT/v1, https://…, unix:SOCKET:/v1, embedded:NAME, mcp://HOST:PORT or mcps://…"
_HTTP_DIALECTS = ("openai", "anthropic", "generate")


@dataclass(frozen=True, slots=True)
class Address:
    """An address that was understood.

    Attributes:
        url: in its whole form: scheme in lower case, no slash at the end, `/v1` added where it was meant.
        dialect: what is spoken there.
        host: for a name; of a socket its path, of an embedded model its name.
    """

    url: str
    dialect: Dialect
    host: str


def read_address(text: str, dialect: Dialect | None) -> Address:
    """Understand an address.

    Args:
        text: as written.
        dialect: as written; guessed when None.

    Raises:
        Refused: no address, an address with a user or a query in it, or one that cannot speak the dialect.
    """
    if not text:
        raise Refused(f"is empty; {_WANTED}")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise Refused(f"{shorten(text)} holds a space, a backslash or a character beyond ASCII; {_WANTED}")
    scheme, _, rest = text.partition(":")
    match scheme.lower():
        case "http" | "https" as name if rest.startswith("//"):
            return _http(name, rest[2:], dialect, text)
        case "unix":
            return _unix(rest, dialect, text)
        case "mcp" | "mcps" as name if rest.startswith("//"):
            return _mcp(name, rest[2:], dialect, text)
        case "embedded":
            return _embedded(rest, dialect, text)
    raise Refused(f"{shorten(text)} is no address of a model; {_WANTED}")


def _http(scheme: str, rest: str, dialect: Dialect | None, text: str) -> Address:
    authority, slash, path = rest.partition("/")
    host = _host(authority, text)
    path, spoken = _path_and_dialect((slash + path).rstrip("/"), dialect, text)
    return Address(f"{scheme}://{authority}{path}", spoken, host)


def _unix(rest: str, dialect: Dialect | None, text: str) -> Address:
    socket, _, path = rest.partition(":")
    if not socket.startswith("/"):
        raise Refused(f"{shorten(text)} must name a socket from the root, as unix:/run/model.sock:/v1")
    if len(socket) > _UNIX_PATH_BYTES_MAX:
        raise Refused(f"{shorten(text)} names a socket with more than {_UNIX_PATH_BYTES_MAX} characters")
    if not path and dialect in (None, "mcp"):
        return Address(f"unix:{socket}", "mcp", socket)
    path, spoken = _path_and_dialect(path.rstrip("/"), dialect, text)
    return Address(f"unix:{socket}:{path}", spoken, socket)


def _mcp(scheme: str, rest: str, dialect: Dialect | None, text: str) -> Address:
    authority = rest.rstrip("/")
    host = _host(authority, text)
    if ":" not in authority.rpartition("]")[2]:
        raise Refused(f"{shorten(text)} lacks a port; write {scheme}://HOST:PORT")
    _require("mcp", dialect, text)
    return Address(f"{scheme}://{authority}", "mcp", host)


def _embedded(name: str, dialect: Dialect | None, text: str) -> Address:
    if _EMBEDDED_NAME.fullmatch(name) is None:
        raise Refused(f"{shorten(text)} names no embedded model; write embedded:NAME")
    _require("embedded", dialect, text)
    return Address(f"embedded:{name}", "embedded", name)


def _host(authority: str, text: str) -> str:
    """Check `HOST` or `HOST:PORT` and return the host."""
    if "@" in authority:
        raise Refused(f"{shorten(text)} holds a user or password; put the credential into `token`")
    for mark, name in (("?", "query"), ("#", "fragment")):
        if mark in text:
            raise Refused(f"{shorten(text)} holds a {name} (`{mark}`); an address ends with its path")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Refused(f"{shorten(text)} has no valid host; {_WANTED}")
    if match["port"] is not None and not 0 < int(match["port"]) <= _PORT_MAX:
        raise Refused(f"{shorten(text)} has a port outside 1 to {_PORT_MAX}")
    return match["host"]


def _path_and_dialect(path: str, dialect: Dialect | None, text: str) -> tuple[str, Dialect]:
    """Complete the path and guess the dialect of something that speaks HTTP."""
    if path and (_PATH.fullmatch(path) is None or "/../" in f"{path}/"):
        raise Refused(f"{shorten(text)} has no valid path; {_WANTED}")
    if dialect is not None and dialect not in _HTTP_DIALECTS:
        raise Refused(f"{shorten(text)} cannot speak {dialect}; write `dialect:` {', '.join(_HTTP_DIALECTS)}")
    spoken = dialect or _guessed(path)
    if spoken == "openai" and path.endswith("/completions"):
        raise Refused(f"{shorten(text)} is the address of one route; write it up to /v1")
    if not path:
        path = {"openai": "/v1", "anthropic": "/v1/messages"}.get(spoken, "/")
    return path, spoken


def _guessed(path: str) -> Dialect:
    if not path or path.endswith("/v1"):
        return "openai"
    return "anthropic" if path.endswith("/messages") else "generate"


def _require(own: Dialect, dialect: Dialect | None, text: str) -> None:
    if dialect not in (None, own):
        raise Refused(f"{shorten(text)} speaks {own}, not {dialect}; leave `dialect` out")
