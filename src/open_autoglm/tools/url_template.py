"""Addresses with places for arguments, as `https://api.example.com/cities/{city}?units={units}`.

Invariants: scheme, host and port are the template's own whatever the arguments are; what is put in can neither end a
segment of the path nor a value of the query; no segment becomes `.`, `..` or empty by it, not even for a service that
decodes `%2F` or `%5C` before it looks at the path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from open_autoglm.tools.tool import Arguments, ToolError

_TEMPLATE: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*)|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*)?(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@%/?{}-]*))?"
)
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_SLASH: Final = re.compile(r"%2[Ff]|%5[Cc]")
_PORTS: Final = {"http": 80, "https": 443}
URL_CHARS_MAX: Final = 8192
"""Of an address that was filled in; servers refuse longer ones."""


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """An address that was understood.

    Attributes:
        scheme: `http` or `https`.
        host: name or IP address, without brackets.
        port: 1 to 65535.
        path: with places, begins with a slash.
        query: pairs of name and value, the values with places.
        in_path, in_query: names of the places, in their order.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: tuple[str, ...]
    in_path: tuple[str, ...]
    in_query: tuple[str, ...]

    @property
    def authority(self) -> str:
        """For the `Host` header: no port where it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def target(self, arguments: Arguments, more: Arguments) -> str:
        """Path and query with the arguments in them.

        Args:
            arguments: all of the call; pairs of the query whose place is not given are left out.
            more: further pairs for the query.

        Raises:
            ToolError: `invalid_arguments`, a value cannot stand there.
        """
        segments = [_PLACE.sub(lambda place: _written(place[1], arguments), part) for part in self.path.split("/")]
        for written, part in zip(segments, self.path.split("/"), strict=True):
            if written != part and (not written or any(each in (".", "..") for each in _SLASH.split(written))):
                raise ToolError("invalid_arguments", f"{written[:80]!r} cannot be a part of a path")
        pairs = [
            _PLACE.sub(lambda place: _written(place[1], arguments), pair)
            for pair in self.query
            if all(name in arguments for name in _PLACE.findall(pair))
        ]
        pairs += [f"{quote(name, safe='')}={_written(name, more)}" for name in more]
        target = "/".join(segments) + (f"?{'&'.join(pairs)}" if pairs else "")
        if len(target) > URL_CHARS_MAX:
            raise ToolError("invalid_arguments", f"the address would be {len(target)} characters long")
        return target


def read_template(text: str) -> UrlTemplate:
    """Understand a template.

    Raises:
        ValueError: it is none; the message says why.
    """
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("holds a user or password; put the credential into `headers`")
    match = _TEMPLATE.fullmatch(text)
    if match is None:
        raise ValueError("is no address like https://HOST/PATH/{argument}?name={argument}; no argument in the host")
    path, query = match["path"] or "/", match["query"]
    if re.search(r"[{}]", _PLACE.sub("", f"{path}?{query or ''}")):
        raise ValueError("holds a brace that is no place for an argument; write {name}")
    if any(part in (".", "..") for part in path.split("/")):
        raise ValueError("has a path with `.` or `..` in it")
    pairs = tuple(pair for pair in (query or "").split("&") if pair)
    if any(_PLACE.search(pair.partition("=")[0]) for pair in pairs):
        raise ValueError("has an argument in the name of a query field")
    port = int(match["port"] or _PORTS[match["scheme"]])
    if not 0 < port <= 65535:
        raise ValueError("has a port outside 1 to 65535")
    return UrlTemplate(
        match["scheme"],
        match["host"].strip("[]"),
        port,
        path,
        pairs,
        tuple(_PLACE.findall(path)),
        tuple(name for pair in pairs for name in _PLACE.findall(pair)),
    )


def _written(name: str, arguments: Arguments) -> str:
    value: Any = arguments.get(name)
    match value:
        case bool():
            text = "true" if value else "false"
        case str() | int() | float():
            text = str(value)
        case _:
            raise ToolError("invalid_arguments", f"{name!r} is no text, number or truth value that fits an address")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise ToolError("invalid_arguments", f"{name!r} is no text that can be sent") from error
