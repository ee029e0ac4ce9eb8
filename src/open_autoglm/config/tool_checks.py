"""Checks of `tools`: names, addresses, headers, and what belongs together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from open_autoglm.config.tree import shorten
from open_autoglm.secret import Secret
from open_autoglm.tools.settings import ContextServerEntry, HttpToolEntry, ToolSettings
from open_autoglm.tools.tool import TOOL_NAME
from open_autoglm.tools.url_template import UrlTemplate, read_template

Problem = tuple[str, str]
"""Path and message."""

CALCULATOR: Final = "calculator"
_NAME_RULE: Final = "1 to 128 letters, digits, `_`, `-` and `.`"
_FUNCTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*")
_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARGUMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")
_OWN_HEADERS: Final = frozenset(
    ("host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding", "idempotency-key")
)
_NOT_ENCRYPTED: Final = "is not encrypted; write https://, or `allow_private: true` for a host of your own"
_SCALARS: Final = ("string", "integer", "number", "boolean")


def tool_problems(settings: ToolSettings) -> Iterator[Problem]:
    """Everything that does not fit together."""
    yield from _names(settings)
    for index, function in enumerate(settings.python):
        if _FUNCTION.fullmatch(function.function) is None:
            yield f"tools.python[{index}].function", f"expected module:function, got {shorten(function.function)}"
    for index, http in enumerate(settings.http):
        yield from _http(http, f"tools.http[{index}]")
    for index, server in enumerate(settings.context):
        yield from _context(server, f"tools.context[{index}]")


def _names(settings: ToolSettings) -> Iterator[Problem]:
    seen: dict[str, str] = {CALCULATOR: "tools.calculator"} if settings.calculator else {}
    servers: dict[str, str] = {}
    for index, server in enumerate(settings.context):
        path = f"tools.context[{index}]"
        if _SERVER.fullmatch(server.name) is None:
            yield f"{path}.name", f"{shorten(server.name)} is no name; write 1 to 64 letters, digits, `_` and `-`"
        elif server.name in servers:
            yield f"{path}.name", f"{shorten(server.name)} is the name of {servers[server.name]} too; names are unique"
        servers.setdefault(server.name, path)
    named = [(f"tools.python[{index}]", entry.name) for index, entry in enumerate(settings.python)]
    named += [(f"tools.http[{index}]", entry.name) for index, entry in enumerate(settings.http)]
    for path, name in named:
        first, dot, _ = name.partition(".")
        if TOOL_NAME.fullmatch(name) is None:
            yield f"{path}.name", f"{shorten(name)} is no name of a tool; write {_NAME_RULE}"
        elif name in seen:
            yield f"{path}.name", f"{shorten(name)} is the name of {seen[name]} too; names are unique"
        elif dot and first in servers:
            yield f"{path}.name", f"{shorten(name)} may be the name of a tool of {servers[first]} too"
        seen.setdefault(name, path)


def _http(entry: HttpToolEntry, path: str) -> Iterator[Problem]:
    try:
        template = read_template(entry.url)
    except ValueError as error:
        yield f"{path}.url", f"{shorten(entry.url)} {error}"
        return
    if template.scheme == "http" and not entry.allow_private:
        yield f"{path}.url", _NOT_ENCRYPTED
    yield from _arguments(entry, template, path)
    yield from _headers(entry.headers, f"{path}.headers")


def _arguments(entry: HttpToolEntry, template: UrlTemplate, path: str) -> Iterator[Problem]:
    for name, argument in entry.arguments.items():
        here = f"{path}.arguments.{name}"
        if _ARGUMENT.fullmatch(name) is None:
            yield here, "is no name of an argument; write letters, digits and `_`"
        elif argument.enum and argument.type != "string":
            yield f"{here}.enum", "is for texts; write `type: string`"
        if argument.type in _SCALARS:
            continue
        if name in (*template.in_path, *template.in_query):
            yield f"{here}.type", f"an {argument.type} cannot stand in the URL; use one of {', '.join(_SCALARS)}"
        elif entry.method in ("GET", "DELETE"):
            yield f"{here}.type", f"an {argument.type} cannot be sent with {entry.method}, which has no body"


def _headers(headers: dict[str, Secret], path: str) -> Iterator[Problem]:
    for name, value in headers.items():
        if _HEADER.fullmatch(name) is None:
            yield f"{path}.{name}", "is no name of a header"
        elif name.lower() in _OWN_HEADERS:
            yield f"{path}.{name}", "is set by the server itself; remove it"
        elif _HEADER_VALUE.fullmatch(value.reveal()) is None:
            yield f"{path}.{name}", "has a value that no header can have: printable ASCII is needed"


def _context(entry: ContextServerEntry, path: str) -> Iterator[Problem]:
    if bool(entry.command) == (entry.url is not None):
        yield path, "write either `command`, for a child, or `url`"
        return
    if entry.url is not None:
        try:
            template = read_template(entry.url)
        except ValueError as error:
            yield f"{path}.url", f"{shorten(entry.url)} {error}"
        else:
            if template.in_path or template.in_query:
                yield f"{path}.url", "is an address as it is, without places for arguments"
            if template.scheme == "http" and not entry.allow_private:
                yield f"{path}.url", _NOT_ENCRYPTED
        for name in ("env", "cwd"):
            if getattr(entry, name):
                yield f"{path}.{name}", "is for a child; remove it, or write `command` instead of `url`"
    else:
        if entry.headers:
            yield f"{path}.headers", "are for `url`; a child gets its secrets by `env`"
        if entry.allow_private:
            yield f"{path}.allow_private", "is for `url`; where a child connects to is its own affair"
    yield from _headers(entry.headers, f"{path}.headers")
    for name in entry.env:
        if _VARIABLE.fullmatch(name) is None:
            yield f"{path}.env.{name}", "is no name of a variable"
    for name in entry.classes:
        if entry.tools is not None and name not in entry.tools:
            yield f"{path}.classes.{name}", "is not in `tools`, so it is never called"
