"""The virtual models of a server: made ready with each configuration, counted, and their knowledge kept."""

from __future__ import annotations

import asyncio
import random
from math import inf
from typing import Final

import msgspec
from msgspec import structs as struct_of

from open_autoglm.backends.caller import CallerSource, ModelCaller, Origin
from open_autoglm.config.cooperation_checks import team_members
from open_autoglm.config.schema import ServerConfig
from open_autoglm.config.tool_members import is_tool, tool_cost
from open_autoglm.cooperation.backend import Surroundings, Team, TeamBackend
from open_autoglm.cooperation.figures import TeamFigures
from open_autoglm.cooperation.knowledge import Library
from open_autoglm.cooperation.settings import TOOL_PREFIX, CooperationEntry
from open_autoglm.cooperation.team_run import Rates
from open_autoglm.exchange.settings import Timeouts
from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.scheduling.plan_cache import PlanCache
from open_autoglm.server.tool_room import ToolRoom
from open_autoglm.voting.settings import TeamSettings

_SAVE_S: Final = 10.0
"""Between two writings of what was learned."""
_SPARE_S: Final = 1.0
"""Given to a team beyond its own time, so that it ends by itself."""


class Teams:
    """See the module.

    Args:
        library: what virtual models know.
        rng: for seeds.
        loop: for writing in a thread.

    Attributes:
        desk: who asks members; set before the first request.
        figures: for metrics.
        tools: what plans may call.
        around: what virtual models share; whoever takes down runs is set there.
    """

    def __init__(self, library: Library, rng: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        self.library = library
        self.figures = TeamFigures()
        self.desk: CallerSource | None = None
        self.tools = ToolRoom()
        self.around = Surroundings(self, self.figures, rng, desk=self.tools.desk)
        self._loop = loop
        self._saved_s = 0.0
        self._saving: asyncio.Future[None] | None = None

    def caller(self, origin: Origin) -> ModelCaller:
        """See `CallerSource.caller`."""
        assert self.desk is not None, "a virtual model is asked before the server is composed"
        return self.desk.caller(origin)

    def key(self, name: str, config: ServerConfig) -> object:
        """What tells a virtual model apart from another one, and from itself once something about it has changed."""
        entry = config.cooperation[name]
        return name, msgspec.json.encode(entry), team_members(config, entry), _rates(config, entry)

    def backend(self, name: str, config: ServerConfig) -> TeamBackend:
        """Make a virtual model."""
        entry = config.cooperation[name]
        settings = TeamSettings(**{field: getattr(entry, field) for field in TeamSettings.__struct_fields__})
        book = self.library.book(name, team_members(config, entry), settings)
        plans = PlanCache(entry.plan_cache) if entry.plan_cache else None
        team = Team(name, entry, book, dict(_rates(config, entry)), plans)
        return TeamBackend(team, self.around)

    def sweep(self, now_s: float) -> None:
        """Write what was learned, now and then. Called each second."""
        if now_s - self._saved_s >= _SAVE_S and (self._saving is None or self._saving.done()):
            self._saved_s = now_s
            content = self.library.changes()
            if content is not None:
                self._saving = self._loop.run_in_executor(None, self.library.write, content)

    async def close(self) -> None:
        """Write what was learned since the last time, and close the tools."""
        await self.tools.close()
        if self._saving is not None:
            await self._saving
        content = self.library.changes()
        if content is not None:
            self.library.write(content)


class TeamGate:
    """The gate of a virtual model, see `routing.gate.Gate`: only an operator shuts it.

    Its members have gates of their own. When all of them fail, the virtual model must be asked all the same, or nobody
    would notice that they are back.
    """

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    @property
    def healthy(self) -> bool:
        """See `Gate.healthy`."""
        return self._breaker.healthy

    @property
    def state(self) -> str:
        """See `Gate.state`."""
        return self._breaker.state

    @property
    def first_token_p50_s(self) -> float:
        """See `Gate.first_token_p50_s`; a team decides in the time that it has."""
        return 0.0

    def permits(self, now_s: float) -> bool:
        """See `Gate.permits`."""
        return self._breaker.permits(now_s)

    def acquire(self, now_s: float) -> int:
        """See `Gate.acquire`."""
        return self._breaker.acquire(now_s)

    def acquire_trial(self, now_s: float) -> int:
        """See `Gate.acquire_trial`."""
        return self._breaker.acquire_trial(now_s)

    def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
        """See `Gate.success`."""
        self._breaker.release(permit, now_s)

    def failure(self, permit: int, now_s: float, slow: bool = False) -> None:
        """See `Gate.failure`."""
        self._breaker.release(permit, now_s)

    def release(self, permit: int, now_s: float) -> None:
        """See `Gate.release`."""
        self._breaker.release(permit, now_s)

    def weight(self, now_s: float) -> float:
        """See `Gate.weight`."""
        return self._breaker.weight(now_s)

    def retry_at_s(self, now_s: float) -> float:
        """See `Gate.retry_at_s`."""
        return self._breaker.retry_at_s(now_s)


def team_timeouts(entry: CooperationEntry, timeouts: Timeouts) -> Timeouts:
    """Limits of a virtual model's attempt: a run ends by itself, and what could be hedged its members hedge."""
    most_s = min(entry.timeout_s + _SPARE_S, timeouts.total_s)
    return struct_of.replace(
        timeouts, first_token_hedge_s=timeouts.total_s, first_token_s=most_s, gap_s=timeouts.total_s
    )


def model_rates(config: ServerConfig, name: str) -> Rates:
    """What one answer of a model costs at most, over all endpoints that may give it: its own and its fallbacks'.

    What teams among them spend is for them to pay, from the ledger of whoever asks; see `backends.caller.Origin`.
    """
    team = config.cooperation.get(name)
    names = {name, *config.routing.fallbacks.get(name, [])}
    if team is not None and team.fallback is not None:
        names.add(team.fallback)
    if team is None and not any(model.name == name for model in config.models):
        names.add("*")
    models = [model for model in config.models if model.name in names]
    prices = [model.price for model in models if model.price is not None]
    budgets = [entry.budget for each in names if (entry := config.cooperation.get(each)) is not None]
    return Rates(
        max((price.input_per_million for price in prices), default=0.0),
        max((price.output_per_million for price in prices), default=0.0),
        answers=bool(models) or not budgets,
        drawn_tokens=sum(budget.tokens or inf for budget in budgets),
        drawn_money=sum(budget.money or inf for budget in budgets),
    )


def _rates(config: ServerConfig, entry: CooperationEntry) -> tuple[tuple[str, Rates], ...]:
    """What each model that may be asked costs at most, and each tool."""
    names = dict.fromkeys([*entry.members, entry.judge, entry.aggregator, entry.planner])
    rates = []
    for name in filter(None, names):
        if is_tool(name):
            rates.append((name, Rates(per_call=tool_cost(config.tools, name.removeprefix(TOOL_PREFIX)))))
        else:
            rates.append((name, model_rates(config, name)))
    return tuple(rates)
