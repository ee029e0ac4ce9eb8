"""Whether tools can be members of a team: there must be such a tool, it may only read, and take what it is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from open_autoglm.config.keys import nearest
from open_autoglm.config.tool_checks import CALCULATOR
from open_autoglm.config.tree import shorten
from open_autoglm.cooperation.settings import TOOL_PREFIX, CooperationEntry
from open_autoglm.cooperation.tool_member import SAMPLE
from open_autoglm.tools.argument_check import problems
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.python_tool import FunctionPool, PythonTool, calculator_tool, load_function
from open_autoglm.tools.settings import ContextServerEntry, HttpToolEntry, PythonToolEntry, ToolSettings

Found = Iterator[tuple[str, str]]
"""Paths, each with what is wrong there."""


def is_tool(member: str) -> bool:
    """Whether a member is a tool."""
    return member.startswith(TOOL_PREFIX)


def tool_names(settings: ToolSettings) -> set[str]:
    """Names of the tools that are there for certain: those of servers of the context protocol are not known yet."""
    names = {CALCULATOR} if settings.calculator else set()
    return names | {each.name for each in settings.python} | {each.name for each in settings.http}


def tool_cost(settings: ToolSettings, name: str) -> float:
    """Money for one call of a tool; 0.0 where there is none of that name."""
    entry = _entry(settings, name)
    return 0.0 if entry is None else entry.cost


def tool_member_problems(path: str, entry: CooperationEntry, settings: ToolSettings, *, trusted: bool) -> Found:
    """Find what is wrong with the members of a virtual model that are tools.

    Args:
        path: of the virtual model.
        entry: the virtual model.
        settings: of the tools.
        trusted: whether the functions among them may be imported, to look at what they take. What came over the
            network has none imported that is not so already; one that does not fit fails when it is called.
    """
    for position, member in enumerate(entry.members):
        if is_tool(member):
            reason = _problem(entry, member.removeprefix(TOOL_PREFIX), settings, trusted)
            if reason:
                yield f"{path}.members[{position}]", reason


def _problem(entry: CooperationEntry, name: str, settings: ToolSettings, trusted: bool) -> str:
    if entry.strategy != "cascade":
        return f"is a tool; only a cascade has tools as members, and `{entry.strategy}` has models"
    tool = _entry(settings, name)
    if tool is None and not (name == CALCULATOR and settings.calculator):
        known = tool_names(settings)
        return f"no tool is called {shorten(name)}" + (f"; the nearest is {nearest(name, known)!r}" if known else "")
    if name not in entry.tools:
        return f"{shorten(name)} is not among the `tools` that this virtual model may use; add it there"
    try:
        kind, schema = _kind(tool, name), _schema(tool, trusted)
    except ValueError as error:
        return f"{shorten(name)} cannot be had: {error}"
    if kind != "read":
        return f"{shorten(name)} has the class `{kind}`, but a member may only read; `class: read` says that it does"
    wrong = [] if schema is None else problems(schema, SAMPLE)
    if wrong:
        return f"{shorten(name)} does not take the texts `question`, `answer` and `reasoning`: {'; '.join(wrong)}"
    return ""


def _entry(settings: ToolSettings, name: str) -> PythonToolEntry | HttpToolEntry | ContextServerEntry | None:
    """Where a tool comes from; None for the calculator, and where there is none of that name."""
    named: list[PythonToolEntry | HttpToolEntry] = [*settings.python, *settings.http]
    for entry in named:
        if entry.name == name:
            return entry
    server_name, _, own_name = name.partition(".")
    for server in settings.context:
        if server.name == server_name and own_name and (server.tools is None or own_name in server.tools):
            return server
    return None


def _kind(tool: PythonToolEntry | HttpToolEntry | ContextServerEntry | None, name: str) -> str:
    """Raises ValueError where the tool cannot be made."""
    match tool:
        case None:
            return "read"
        case ContextServerEntry():
            return tool.classes.get(name.partition(".")[2], "write")
        case HttpToolEntry():
            return HttpTool(tool).kind
        case PythonToolEntry():
            return tool.kind


def _schema(tool: PythonToolEntry | HttpToolEntry | ContextServerEntry | None, trusted: bool) -> dict[str, Any] | None:
    """What a tool takes; None where nobody knows it yet, so that the desk says it when it is called.

    Raises:
        ValueError: there is no such function, or it can be none.
    """
    match tool:
        case None:
            return calculator_tool(FunctionPool(1)).schema
        case ContextServerEntry():
            return None
        case HttpToolEntry():
            return HttpTool(tool).schema
        case PythonToolEntry():
            if not trusted and tool.function.partition(":")[0] not in sys.modules:
                return None
            return PythonTool(tool, load_function(tool.function), FunctionPool(1)).schema
