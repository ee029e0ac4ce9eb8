"""What happens in a simulated run, as text that people read, and at random from a seed.

A scenario is a YAML file of plain sentences; `docs/testing-kit.md` has the grammar. Invariant: what `written` writes
`read_scenario` reads back the same, so that a random run can be kept, changed and replayed as a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_LOAD: Final = re.compile(r"(?P<rate>[\d.]+) requests/s for (?P<for>\S+?)(?: from (?P<from>\S+?))?(?P<more>(?:,.*)?)")
_SHARE: Final = re.compile(r"([\d.]+)% (.+)")
_ACTIONS: Final = (
    re.compile(r"(?P<do>freeze|refuse|black-hole|kill) (?P<who>\S+) for (?P<for>\S+)"),
    re.compile(r"(?P<do>reset) (?P<who>\S+)"),
    re.compile(r"(?P<do>cut) (?P<who>\S+) to (?P<what>\S+) for (?P<for>\S+)"),
    re.compile(r"(?P<do>lose) (?P<share>[\d.]+)% for (?P<for>\S+)"),
    re.compile(r"(?P<who>\S+) (?P<do>answers) (?P<what>\S+) for (?P<for>[^\s,]+)(?:, (?P<share>[\d.]+)%)?"),
    re.compile(r"(?P<who>\S+) (?P<do>is-slow) by (?P<what>[\d.]+)x for (?P<for>\S+)"),
    re.compile(r"(?P<do>reload) (?P<what>\S+)"),
    re.compile(r"(?P<do>drain)"),
)
_EXPECTATIONS: Final = (
    re.compile(r"(?P<what>at least) (?P<figure>[\d.]+)% (?P<of>answered|rescued)(?: of class (?P<class>\S+))?"),
    re.compile(r"(?P<what>at most) (?P<figure>[\d.]+) (?P<of>calls) per request"),
    re.compile(r"(?P<what>at least) (?P<figure>\d+) (?P<of>continued|refused|retried|hedged|queued)"),
    re.compile(r"(?P<what>at most) (?P<figure>\d+) (?P<of>continued|refused|retried|hedged|queued)"),
)


class ScenarioError(ValueError):
    """A sentence that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that come at random times.

    Attributes:
        rate_per_s: on average.
        from_s, for_s: when.
        shares: of requests, 0 to 1: `streams`; `long` answers; `leave` before the end; `hurry` (a time limit of 2 s);
            `slow` readers; `fresh` connections.
        key: whose; empty for the only one.
    """

    rate_per_s: float
    for_s: float
    from_s: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is done to the world.

    Attributes:
        at_s: when.
        do: a verb of the grammar.
        who, what: a host; another one, a fault, a configuration, a factor.
        for_s: how long; 0.0 for what has no end.
        share: of requests, 0 to 1.
    """

    at_s: float
    do: str
    who: str = ""
    what: str = ""
    for_s: float = 0.0
    share: float = 1.0

    @property
    def ends_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come out, beyond the promises.

    Attributes:
        least: the figure is the least that is allowed, else the most.
        figure: a share from 0 to 1, or a number.
        of: what is counted.
        key: of whose requests alone; empty for all.
    """

    least: bool
    figure: float
    of: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """See the module.

    Attributes:
        about: a sentence for people.
        upstreams: how many; they are called `up-1`, `up-2`, …
        config: what differs from the simulation's own configuration of the server.
        others: configurations to reload, by name, laid over `config` in the same way.
        network: `delay_s`, `jitter_s`, `loss`, `cuts` of the link.
        loads, events, expects: see there.
        calm_s: from the end of everything until all must be well again; 0.0 leaves that out.
    """

    about: str = ""
    upstreams: int = 2
    config: dict[str, Any] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    network: dict[str, float] = field(default_factory=dict)
    loads: tuple[Load, ...] = ()
    events: tuple[Event, ...] = ()
    expects: tuple[Expectation, ...] = ()
    calm_s: float = 45.0

    @property
    def ends_s(self) -> float:
        """When the last event and the last load are over."""
        return max([0.0, *(e.ends_s for e in self.events), *(one.from_s + one.for_s for one in self.loads)])

    @property
    def drains(self) -> bool:
        """Whether the server is told to stop within it."""
        return any(event.do == "drain" for event in self.events)


def read_scenario(text: str) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it is no YAML, or a key or a sentence cannot be understood.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"no YAML: {str(error).replace(chr(10), ' ')}") from error
    if not isinstance(tree, dict):
        raise ScenarioError("a scenario is a map of `about`, `load`, `events` and others")
    known = {"about", "upstreams", "config", "others", "network", "load", "events", "expect", "calm"}
    unknown = set(tree) - known
    if unknown:
        raise ScenarioError(f"unknown key {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
    calm = tree.get("calm", "45s")
    return Scenario(
        about=str(tree.get("about", "")),
        upstreams=int(tree.get("upstreams", 2)),
        config=tree.get("config") or {},
        others=tree.get("others") or {},
        network=tree.get("network") or {},
        loads=tuple(_read_load(line) for line in _lines(tree.get("load"))),
        events=tuple(_read_event(line) for line in _lines(tree.get("events"))),
        expects=tuple(_read_expectation(line) for line in _lines(tree.get("expect"))),
        calm_s=seconds(calm) if calm else 0.0,
    )


def seconds(text: str) -> float:
    """Read `250ms`, `10s`, `2m` or `1h`.

    Raises:
        ScenarioError: it is none of these.
    """
    match = _DURATION.fullmatch(str(text))
    if match is None:
        raise ScenarioError(f"{text!r} is no duration; write 250ms, 10s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def written(scenario: Scenario) -> str:
    """Write a scenario as its file would have it."""
    tree: dict[str, Any] = {"about": scenario.about, "upstreams": scenario.upstreams}
    for name in ("config", "others", "network"):
        if getattr(scenario, name):
            tree[name] = getattr(scenario, name)
    tree["load"] = [_write_load(load) for load in scenario.loads]
    tree["events"] = [{f"at {_time(event.at_s)}": _write_event(event)} for event in scenario.events]
    tree["expect"] = [_write_expectation(one) for one in scenario.expects]
    tree["calm"] = _time(scenario.calm_s) if scenario.calm_s else False
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def _lines(value: object) -> list[str]:
    """A sentence, or a list of them; `at 5s: …` is a map of one to YAML."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [": ".join(*one.items()) if isinstance(one, dict) else str(one) for one in values]


def _read_load(line: str) -> Load:
    match = _LOAD.fullmatch(line)
    if match is None:
        raise ScenarioError(f"no load: {line!r}; write `10 requests/s for 20s, 40% streams`")
    shares, key = {}, ""
    for part in filter(None, (one.strip() for one in match["more"].split(","))):
        share = _SHARE.fullmatch(part)
        if share is not None and share[2] in ("streams", "long", "leave", "hurry", "slow", "fresh"):
            shares[share[2]] = float(share[1]) / 100
        elif part.startswith("key "):
            key = part.removeprefix("key ")
        else:
            raise ScenarioError(f"no part of a load: {part!r}")
    from_s = seconds(match["from"]) if match["from"] else 0.0
    return Load(float(match["rate"]), seconds(match["for"]), from_s, shares, key)


def _write_load(load: Load) -> str:
    start = f" from {_time(load.from_s)}" if load.from_s else ""
    shares = "".join(f", {_percent(share)} {name}" for name, share in load.shares.items() if share)
    return f"{load.rate_per_s:g} requests/s for {_time(load.for_s)}{start}{shares}" + (
        f", key {load.key}" * bool(load.key)
    )


def _read_event(line: str) -> Event:
    time, found, sentence = line.partition(": ")
    if found and time.startswith("at "):
        for action in _ACTIONS:
            match = action.fullmatch(sentence.strip())
            if match is not None:
                part = {"who": "", "what": "", "for": None, "share": None} | match.groupdict()
                return Event(
                    seconds(time.removeprefix("at ")),
                    match["do"],
                    part["who"] or "",
                    part["what"] or "",
                    seconds(part["for"]) if part["for"] else 0.0,
                    float(part["share"]) / 100 if part["share"] else 1.0,
                )
    raise ScenarioError(f"no event: {line!r}; write `at 5s: freeze up-1 for 10s`")


def _write_event(event: Event) -> str:
    for_ = f"for {_time(event.for_s)}"
    match event.do:
        case "answers":
            return f"{event.who} answers {event.what} {for_}" + (
                f", {_percent(event.share)}" if event.share < 1 else ""
            )
        case "is-slow":
            return f"{event.who} is-slow by {event.what}x {for_}"
        case "cut":
            return f"cut {event.who} to {event.what} {for_}"
        case "lose":
            return f"lose {_percent(event.share)} {for_}"
        case "reload":
            return f"reload {event.what}"
        case "drain":
            return "drain"
        case "reset":
            return f"reset {event.who}"
        case _:
            return f"{event.do} {event.who} {for_}"


def _read_expectation(line: str) -> Expectation:
    for one in _EXPECTATIONS:
        match = one.fullmatch(line)
        if match is not None:
            share = match["of"] in ("answered", "rescued")
            figure = float(match["figure"]) / (100 if share else 1)
            key = match.groupdict().get("class") or ""
            return Expectation(match["what"] == "at least", figure, match["of"], key)
    raise ScenarioError(f"no expectation: {line!r}; write `at least 99% answered`")


def _write_expectation(one: Expectation) -> str:
    bound = "at least" if one.least else "at most"
    match one.of:
        case "answered" | "rescued":
            return f"{bound} {_percent(one.figure)} {one.of}" + (f" of class {one.key}" if one.key else "")
        case "calls":
            return f"{bound} {one.figure:g} calls per request"
        case _:
            return f"{bound} {one.figure:g} {one.of}"


def _time(time_s: float) -> str:
    return f"{time_s:.3f}".rstrip("0").rstrip(".") + "s"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"
