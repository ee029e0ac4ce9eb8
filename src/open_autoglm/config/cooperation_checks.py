"""Whether virtual models can work: their names, members and numbers, and that no request goes round in a circle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from open_autoglm.config.keys import nearest
from open_autoglm.config.schema import ServerConfig
from open_autoglm.config.tool_members import is_tool, tool_cost, tool_member_problems, tool_names
from open_autoglm.config.tree import shorten
from open_autoglm.cooperation.settings import DEPTH_MAX, MEMBERS_MAX, TOOL_PREFIX, CooperationEntry
from open_autoglm.tools.settings import ToolSettings
from open_autoglm.voting.catalog import Knowledge, Member, make_strategy

Found = Iterator[tuple[str, str]]
"""Paths, each with what is wrong there."""


def cooperation_problems(
    config: ServerConfig, known: Collection[str] | None, flat: Collection[str], *, trusted: bool
) -> Found:
    """Find what is wrong with virtual models.

    Args:
        config: the configuration.
        known: names of models; None where any name may be one.
        flat: names of virtual models that are written in the flat form.
        trusted: whether functions that are members may be imported.
    """
    for name, entry in config.cooperation.items():
        path = "cooperation_strategy" if name in flat else f"cooperation.{name}"
        if name == "*" or any(model.name == name for model in config.models + config.models_unavailable):
            yield path, f"{shorten(name)} is the name of a model too; call the virtual model something else"
        yield from _entry(path, entry, team_members(config, entry))
        yield from _tools(path, entry, config.tools)
        yield from tool_member_problems(path, entry, config.tools, trusted=trusted)
        if known is not None:
            yield from _unknown(path, entry, {*known, *config.cooperation})
    circle = _circle(config)
    if circle:
        path = "cooperation_strategy" if circle[0] in flat else f"cooperation.{circle[0]}.members"
        yield path, f"a request would go round in a circle: {' -> '.join(circle)}"
        return
    for name, entry in config.cooperation.items():
        for position, member in enumerate(entry.members):
            if _depth(config, member) >= DEPTH_MAX:
                message = f"{shorten(member)} has virtual members itself; only {DEPTH_MAX} levels are allowed"
                yield f"cooperation.{name}.members[{position}]", message


def team_members(config: ServerConfig, entry: CooperationEntry) -> tuple[Member, ...]:
    """A virtual model's members as its strategy sees them: those that are the same model upstream err as one."""
    models = {model.name: model for model in reversed(config.models)}
    members = []
    for name in entry.members:
        model = models.get(name)
        if is_tool(name):
            cost = tool_cost(config.tools, name.removeprefix(TOOL_PREFIX))
            members.append(Member(name, price=cost, kind="tool"))
            continue
        if model is None:
            members.append(Member(name))
            continue
        base = model.endpoint if model.dialect == "embedded" else model.upstream_model
        price = model.price.input_per_million + model.price.output_per_million if model.price is not None else 0.0
        members.append(Member(name, base or "", price))
    return tuple(members)


def _entry(path: str, entry: CooperationEntry, team: tuple[Member, ...]) -> Found:
    members = entry.members
    if not members and entry.strategy == "plan_execute" and entry.planner and entry.tools:
        return
    if not members:
        yield f"{path}.members", "is empty; name the models that work together"
        return
    if len(members) > MEMBERS_MAX:
        yield f"{path}.members", f"has {len(members)} entries; {MEMBERS_MAX} are the most"
    for position, member in enumerate(members):
        if member in members[:position]:
            yield f"{path}.members[{position}]", f"{shorten(member)} is a member already; remove it"
            return
    if entry.quorum > len(members):
        yield f"{path}.quorum", f"asks for {entry.quorum} answers, but there are {len(members)} members"
        return
    if entry.strategy == "plan_execute":
        return
    try:
        make_strategy(entry.strategy, team, entry, Knowledge(), 0)
    except ValueError as error:
        yield path, str(error)


def _tools(path: str, entry: CooperationEntry, settings: ToolSettings) -> Found:
    known = tool_names(settings)
    servers = {server.name for server in settings.context}
    for position, tool in enumerate(entry.tools):
        if tool not in known and tool.partition(".")[0] not in servers:
            hint = f"; the nearest is {nearest(tool, known)!r}" if known else ""
            yield f"{path}.tools[{position}]", f"no tool is called {shorten(tool)}{hint}"


def _unknown(path: str, entry: CooperationEntry, known: Collection[str]) -> Found:
    models = [(position, member) for position, member in enumerate(entry.members) if not is_tool(member)]
    named = {f"{path}.members[{position}]": member for position, member in models}
    named |= {
        f"{path}.{key}": name for key in ("fallback", "judge", "aggregator", "planner") if (name := getattr(entry, key))
    }
    for place, name in named.items():
        if name not in known:
            hint = f"; the nearest is {nearest(name, known)!r}" if known else ""
            yield place, f"no model is called {shorten(name)}{hint}"


def _next(config: ServerConfig) -> Mapping[str, list[str]]:
    """Whom a request for each name may lead to."""
    leads = {name: list(fallbacks) for name, fallbacks in config.routing.fallbacks.items()}
    for name, entry in config.cooperation.items():
        helpers = [each for each in (entry.judge, entry.aggregator, entry.planner, entry.fallback) if each]
        leads[name] = [*entry.members, *helpers, *leads.get(name, ())]
    return leads


def _circle(config: ServerConfig) -> list[str]:
    """Names that lead from a virtual model back to itself; empty when none does.

    Fallbacks of ordinary models are tried one after the other and end; only a virtual model asks anew.
    """
    leads = _next(config)
    for start in config.cooperation:
        trail = {start: [start]}
        ahead = [start]
        while ahead:
            name = ahead.pop()
            for following in leads.get(name, ()):
                if following == start:
                    return [*trail[name], start]
                if following not in trail:
                    trail[following] = [*trail[name], following]
                    ahead.append(following)
    return []


def _depth(config: ServerConfig, name: str) -> int:
    """How many virtual models lie one within another below a name, itself included; there is no circle."""
    entry = config.cooperation.get(name)
    below = [_depth(config, each) for each in config.routing.fallbacks.get(name, ())]
    if entry is None:
        return max(below, default=0)
    return max([1 + max((_depth(config, each) for each in entry.members), default=0), *below])
