"""Checks of `context`: whether what is offered to clients of the context protocol is there, and may be offered."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from open_autoglm.config.tree import shorten
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.offer_settings import OWN_SCHEME, OWN_TOOLS, ContextSettings, OfferedPrompt, OfferedResource
from open_autoglm.tools.settings import ToolSettings
from open_autoglm.tools.tool import TOOL_NAME, ToolKind

Problem = tuple[str, str]
"""Path and message."""

_URI: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}:[^\s{}]*(?:\{[A-Za-z_][A-Za-z0-9_]{0,63}\}[^\s{}]*)*")
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[A-Za-z0-9.+-]+")
_ARGUMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def offer_problems(offer: ContextSettings, tools: ToolSettings) -> Iterator[Problem]:
    """Everything that does not fit together.

    Args:
        offer: what is offered.
        tools: which tools there are.
    """
    for position, name in enumerate(offer.tools):
        path = f"context.tools[{position}]"
        if name in OWN_TOOLS:
            yield path, f"{shorten(name)} is a tool of the server's own there; call yours something else"
        elif name in offer.tools[:position]:
            yield path, f"{shorten(name)} is offered already; remove it"
        else:
            yield from _tool(path, name, tools, offer.writes)
    seen: set[str] = set()
    for position, resource in enumerate(offer.resources):
        path = f"context.resources[{position}]"
        if resource.uri in seen:
            yield f"{path}.uri", f"{shorten(resource.uri)} is offered already; addresses are unique"
        seen.add(resource.uri)
        yield from _resource(path, resource, tools)
    names: set[str] = set()
    for position, prompt in enumerate(offer.prompts):
        path = f"context.prompts[{position}]"
        if prompt.name in names or TOOL_NAME.fullmatch(prompt.name) is None:
            yield f"{path}.name", f"{shorten(prompt.name)} is no name, or that of another prompt"
        names.add(prompt.name)
        yield from _prompt(path, prompt, seen)


def _tool(path: str, name: str, tools: ToolSettings, writes: bool) -> Iterator[Problem]:
    kind = _class_of(name, tools)
    if kind is None:
        yield path, f"no tool is called {shorten(name)}"
    elif kind == "dangerous":
        yield path, f"{shorten(name)} is dangerous, and nobody is there to agree; it cannot be offered"
    elif kind == "write" and not writes:
        yield path, f"{shorten(name)} is of class write; offer what is `read`, or set `context.writes` for tools"


def _class_of(name: str, tools: ToolSettings) -> ToolKind | None:
    """As the configuration says it; None where no tool can have that name."""
    if name == "calculator" and tools.calculator:
        return "read"
    for function in tools.python:
        if function.name == name:
            return function.kind
    for http in tools.http:
        if http.name == name:
            return http.kind or ("read" if http.method == "GET" else "write")
    first, _, rest = name.partition(".")
    for server in tools.context:
        if server.name == first and rest and (server.tools is None or rest in server.tools):
            return server.classes.get(rest, "write")
    return None


def _resource(path: str, resource: OfferedResource, tools: ToolSettings) -> Iterator[Problem]:
    if _URI.fullmatch(resource.uri) is None or resource.uri.startswith(f"{OWN_SCHEME}:"):
        yield f"{path}.uri", f"{shorten(resource.uri)} is no address like docs://NAME, or one of the server's own"
    places = _PLACE.findall(resource.uri)
    if len(set(places)) < len(places):
        yield f"{path}.uri", f"{shorten(resource.uri)} has two places of one name; each needs one of its own"
    if (resource.file is None) == (resource.tool is None):
        yield path, "write either `file` or `tool`"
    elif resource.tool is not None:
        yield from _tool(f"{path}.tool", resource.tool, tools, False)
        yield from _places(path, resource.tool, places, tools)
    elif places:
        yield f"{path}.uri", "a file has an address as it is, without places for arguments"
    if resource.media_type is not None and _MEDIA_TYPE.fullmatch(resource.media_type) is None:
        yield f"{path}.media_type", f"{shorten(resource.media_type)} is no media type like text/markdown"


def _places(path: str, name: str, places: Collection[str], tools: ToolSettings) -> Iterator[Problem]:
    """Whether a page's address gives its tool what that needs; of tools that are no HTTP services nobody knows it."""
    for http in tools.http:
        if http.name != name:
            continue
        try:
            schema = HttpTool(http).schema
        except ValueError:
            return  # the tool itself is wrong, which is told there
        taken = {each for each, form in schema["properties"].items() if form["type"] == "string"}
        if missing := sorted(set(schema["required"]).difference(places)):
            yield f"{path}.uri", f"{shorten(name)} needs {missing}; write a place for each, as {{{missing[0]}}}"
        if strange := sorted(set(places) - taken):
            yield f"{path}.uri", f"{shorten(name)} takes no text called {strange[0]!r}"


def _prompt(path: str, prompt: OfferedPrompt, pages: Collection[str]) -> Iterator[Problem]:
    for name in prompt.arguments:
        if _ARGUMENT.fullmatch(name) is None:
            yield f"{path}.arguments.{name}", "is no name of an argument; write letters, digits and `_`"
    if not prompt.messages:
        yield f"{path}.messages", "is empty; write what the prompt says"
    for position, message in enumerate(prompt.messages):
        here = f"{path}.messages[{position}]"
        if (message.text is None) == (message.resource is None):
            yield here, "write either `text` or `resource`"
        elif message.resource is not None:
            places = _PLACE.findall(message.resource)
            for place in places:
                if place not in prompt.arguments:
                    yield f"{here}.resource", f"no argument is called {shorten(place)}"
            if not places and message.resource not in pages and not message.resource.startswith(f"{OWN_SCHEME}:"):
                yield f"{here}.resource", f"there is no page {shorten(message.resource)} in `context.resources`"
