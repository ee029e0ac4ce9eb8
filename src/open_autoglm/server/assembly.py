"""From a configuration to the objects that serve it, without disturbing those that serve now.

`build` makes a whole new snapshot beside the running one and changes nothing; `adopt` makes it the running one. An
endpoint whose entry did not change keeps its object, and with it its connections, breaker and figures; so does a key
its limiter. What the new configuration no longer has is closed after its last answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from msgspec import structs as struct_of

from open_autoglm.admission.classes import NUMBERS
from open_autoglm.admission.key_line import KeyLine
from open_autoglm.admission.networks import Networks
from open_autoglm.admission.wait_queue import WaitQueue
from open_autoglm.backends.backend import Backend
from open_autoglm.backends.http import HttpBackend
from open_autoglm.backends.node import NodeBackend
from open_autoglm.backends.node_desk import UsageSink
from open_autoglm.config.schema import WILDCARD, KeyEntry, ModelEntry, ServerConfig
from open_autoglm.cooperation.knowledge import Library
from open_autoglm.errors import ConfigError, ConfigProblem
from open_autoglm.exchange.line import Line
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.exchange.settings import StreamFailure, Timeouts
from open_autoglm.gateway.snapshot import NAME_SAFE, Listing, Route, Snapshot
from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.concurrency_limit import ConcurrencyLimit
from open_autoglm.resilience.hedge_budget import HedgeBudget
from open_autoglm.resilience.key_limiter import KeyLimiter, requests_at_once
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.resilience.settings import KeyLimits
from open_autoglm.resilience.throttle import Throttle
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.security.keys import KeyRing, Principal
from open_autoglm.server.dialects import INFER_ROUTES, UPSTREAMS
from open_autoglm.server.teams import TeamGate, Teams, team_timeouts
from open_autoglm.transport.framed_shell import Flusher
from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.settings import TlsClientFiles
from open_autoglm.transport.tls import upstream_context

_NONE_YET = "no model yet: no node of the cluster that serves one has been found; try again in a moment"
_ANONYMOUS = ""
"""Whom requests come from while authentication is off; no key can have this name."""
_AFFINITIES = {"ip_hash": "client", "consistent_hash": "session"}


@dataclass(frozen=True, slots=True)
class Part:
    """An endpoint with what belongs to it; `pace` is None while concurrency is not limited."""

    endpoint: Endpoint
    backend: Backend
    breaker: CircuitBreaker
    pace: ConcurrencyLimit | None
    throttle: Throttle


@dataclass(frozen=True, slots=True)
class Built:
    """A configuration made ready, not yet in use."""

    config: ServerConfig
    snapshot: Snapshot
    parts: dict[object, Part]
    limiters: dict[str, KeyLimiter]
    key_lines: dict[str, KeyLine[object]]
    lines: dict[str, Line]
    budgets: dict[str, RetryBudget]
    hedges: dict[str, HedgeBudget]


class Assembly:
    """See the module.

    Args:
        loop: for connections.
        rng: for balancers and breakers.
        pepper: for the digests of keys.
        open_embedded: makes the backend of an embedded model; given so that numpy is loaded only when it is needed.
        now: monotonic seconds.
        teams: makes the backends of virtual models; those of its own, which keep nothing, when left out.

    Attributes:
        flusher: writes for all framed connections of the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        pepper: bytes,
        open_embedded: Callable[[ModelEntry], Backend],
        now: Callable[[], float],
        *,
        teams: Teams | None = None,
        usage: UsageSink | None = None,
    ) -> None:
        self._usage = usage
        self._teams = Teams(Library(None), rng, loop) if teams is None else teams
        self._loop = loop
        self.flusher = Flusher(loop)
        self._rng = rng
        self._pepper = pepper
        self._open_embedded = open_embedded
        self._now = now
        self.parts: dict[object, Part] = {}
        self.plans: dict[str, Plan] = {}
        self._config = ServerConfig()
        self._limiters: dict[str, KeyLimiter] = {}
        self._key_lines: dict[str, KeyLine[object]] = {}
        self._lines: dict[str, Line] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._hedges: dict[str, HedgeBudget] = {}

    def build(self, config: ServerConfig, revision: int, created_s: int) -> Built:
        """Make everything that a configuration needs.

        Raises:
            ConfigError: something it names cannot be made, as a model that is not shipped or a broken CA file.
        """
        parts: dict[object, Part] = {}
        groups: dict[str, list[Endpoint]] = {}
        fresh: list[Part] = []
        try:
            for entry in config.models:
                judged = (config.breaker, config.concurrency, config.throttling)
                key = (entry, judged, config.answers, config.pool, config.timeouts.connect_s)
                part = parts.get(key) or self.parts.get(key)
                if part is None:
                    part = self._new_part(entry, config)
                    fresh.append(part)
                parts[key] = part
                groups.setdefault(entry.name, []).append(part.endpoint)
            for name in config.cooperation:
                team_key = (self._teams.key(name, config), config.breaker, config.throttling)
                part = self.parts.get(team_key) or self._team_part(name, config)
                parts[team_key] = part
                groups[name] = [part.endpoint]
        except ConfigError:
            for part in fresh:
                part.backend.close()
            raise
        limiters: dict[str, KeyLimiter] = {}
        key_lines: dict[str, KeyLine[object]] = {}
        keys, anonymous = self._keys(config, limiters, key_lines)
        lines = {name: self._lines.get(name) or Line(WaitQueue(config.admission)) for name in groups}
        budgets = {name: self._budgets.get(name) or RetryBudget(config.retries.budget_ratio) for name in groups}
        hedges = self._hedge_budgets(config)
        snapshot = Snapshot(
            revision=revision,
            context_path=config.server.context_path,
            routes=_routes(config.server.context_path),
            plans=self._plans(config, groups, budgets, lines, hedges),
            default_model=config.routing.default or next((n for n in groups if n != WILDCARD), ""),
            keys=keys,
            anonymous=anonymous,
            proxies=Networks(config.server.trusted_proxies),
            listings=_listings(config, created_s),
            affinity=_AFFINITIES.get(config.routing.strategy, "none"),  # type: ignore[arg-type]
            model_headers={name: quote(name, safe=NAME_SAFE) for name in groups if name != WILDCARD},
        )
        if config.cluster.secret is not None:
            snapshot.absence = _NONE_YET
        return Built(config, snapshot, parts, limiters, key_lines, lines, budgets, hedges)

    def adopt(self, built: Built) -> None:
        """Make a built configuration the running one; the caller swaps the snapshot in the same turn of the loop."""
        now_s = self._now()
        old = self.parts
        self.parts = built.parts
        self.plans = built.snapshot.plans
        self._config = built.config
        self._limiters = built.limiters
        self._key_lines = built.key_lines
        for line in built.key_lines.values():
            line.settings = built.config.admission
        self._lines = built.lines
        for waiting in built.lines.values():
            waiting.queue.reconfigure(built.config.admission)
        self._budgets = built.budgets
        self._hedges = built.hedges
        self._teams.library.keep(set(built.config.cooperation))
        self._teams.tools.use(built.config)
        for name, limits in _limits_by_name(built.config).items():
            built.limiters[name].reconfigure(limits, now_s)
        for budget in built.budgets.values():
            budget.ratio = built.config.retries.budget_ratio
        former = {(part.endpoint.model, part.endpoint.url): part.endpoint for part in old.values()}
        for key, part in built.parts.items():
            known = former.get((part.endpoint.model, part.endpoint.url))
            if key not in old and known is not None:
                part.endpoint.inherit(known)
        for key, part in old.items():
            if key not in built.parts:
                part.backend.close()

    def limiter(self, key_name: str) -> KeyLimiter | None:
        """The limiter of a key, by its name."""
        return self._limiters.get(key_name)

    def pace(self, key_name: str, rate: float | None) -> None:
        """Hold a key to a rate below its own, in requests per second; None: to its own again."""
        limits = _limits_by_name(self._config)[key_name]
        if rate is not None and not 0.0 < limits.requests_per_second <= rate:
            limits = struct_of.replace(limits, requests_per_second=rate, burst=max(1, int(rate)))
        self._limiters[key_name].reconfigure(limits, self._now())

    def close(self) -> None:
        """Close every backend."""
        for part in self.parts.values():
            part.backend.close()

    def _new_part(self, entry: ModelEntry, config: ServerConfig) -> Part:
        breaker = CircuitBreaker(config.breaker, self._rng)
        pace = ConcurrencyLimit(config.concurrency) if config.concurrency.enabled else None
        backend: Backend
        match entry.dialect:
            case "embedded":
                backend = self._open_embedded(entry)
            case "mcp":
                backend = self._node_backend(entry)
            case _:
                backend = self._http_backend(entry, config)
        price = entry.price
        endpoint = Endpoint(
            _shown(entry.endpoint),
            breaker,
            model=entry.name,
            url=entry.endpoint,
            upstream_model="" if entry.upstream_model is None else entry.upstream_model,
            weight=entry.weight,
            price_in=price.input_per_million if price else 0.0,
            price_out=price.output_per_million if price else 0.0,
            context_window=entry.context_window or 0,
            continuation=_continuation(entry),
            pace=pace,
            extra=backend,
        )
        if isinstance(backend, NodeBackend):
            backend.on_open = partial(_welcome, endpoint)
        return Part(endpoint, backend, breaker, pace, Throttle(config.throttling))

    def _team_part(self, name: str, config: ServerConfig) -> Part:
        """A virtual model; how much it may do at once is up to its members."""
        breaker = CircuitBreaker(config.breaker, self._rng)
        backend = self._teams.backend(name, config)
        url = f"{backend.dialect_name}:{name}"
        endpoint = Endpoint(url, TeamGate(breaker), model=name, url=url, extra=backend)
        return Part(endpoint, backend, breaker, None, Throttle(config.throttling))

    def _node_backend(self, entry: ModelEntry) -> NodeBackend:
        """A node behind `mcp://HOST:PORT`, `mcps://HOST:PORT`, or `unix:SOCKET`."""
        unix_path = entry.endpoint.removeprefix("unix:") if entry.endpoint.startswith("unix:") else None
        parts = urlsplit(entry.endpoint)
        return NodeBackend(
            parts.hostname or "localhost",
            parts.port or 0,
            token=entry.token,
            flusher=self.flusher,
            loop=self._loop,
            rng=self._rng,
            connect_timeout_s=entry.timeouts.connect_s,
            unix_path=unix_path,
            tls=upstream_context(_files(entry)) if parts.scheme == "mcps" else None,
            tls_name=entry.tls_name or "",
            usage=self._usage,
        )

    def _http_backend(self, entry: ModelEntry, config: ServerConfig) -> HttpBackend:
        unix_path = None
        tls = None
        if entry.endpoint.startswith("unix:"):
            # `unix:SOCKET:/PATH`, as the configuration writes it out.
            unix_path, _, base_path = entry.endpoint.removeprefix("unix:").rpartition(":")
            host, port, base_path = "localhost", 0, base_path.rstrip("/")
        else:
            parts = urlsplit(entry.endpoint)
            host = parts.hostname or ""
            port = parts.port or (443 if parts.scheme == "https" else 80)
            base_path = parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")
            tls = upstream_context(_files(entry)) if parts.scheme == "https" else None
        pool = HttpPool(
            host,
            port,
            limits=config.pool,
            connect_timeout_s=entry.timeouts.connect_s,
            loop=self._loop,
            tls=tls,
            unix_path=unix_path,
        )
        return HttpBackend(
            pool,
            UPSTREAMS[entry.dialect],
            host=host if unix_path or port in (80, 443) else f"{_bracketed(host)}:{port}",
            base_path=base_path,
            token=entry.token,
            limits=config.answers,
            stream_usage=entry.stream_usage,
        )

    def _keys(
        self, config: ServerConfig, limiters: dict[str, KeyLimiter], lines: dict[str, KeyLine[object]]
    ) -> tuple[KeyRing | None, Principal]:
        now_s = self._now()
        for name, limits in _limits_by_name(config).items():
            limiters[name] = self._limiters.get(name) or KeyLimiter(limits, now_s)
        waits = {entry.name for entry in config.auth.keys if entry.when_exceeded == "wait"}
        if config.when_exceeded == "wait":
            waits.add(_ANONYMOUS)
        for name in waits:
            lines[name] = self._key_lines.get(name) or KeyLine(config.admission)
        anonymous = Principal(
            "anonymous", None, limiters[_ANONYMOUS], requests_at_once(config.limits), lines.get(_ANONYMOUS)
        )
        if not config.auth.enabled:
            return None, anonymous
        ring = [(entry.key, self._principal(entry, limiters, lines)) for entry in config.auth.keys]
        principals = {principal.name: principal for _, principal in ring}
        names = {name: principals[entry.name] for entry in config.auth.keys for name in entry.certificates}
        return KeyRing(ring, self._pepper, names), anonymous

    @staticmethod
    def _principal(entry: KeyEntry, limiters: dict[str, KeyLimiter], lines: dict[str, KeyLine[object]]) -> Principal:
        models = frozenset(entry.models) if entry.models is not None else None
        at_once, line = requests_at_once(entry.limits), lines.get(entry.name)
        return Principal(entry.name, models, limiters[entry.name], at_once, line, ceiling=NUMBERS[entry.priority])

    def _hedge_budgets(self, config: ServerConfig) -> dict[str, HedgeBudget]:
        """One for each name that hedging is asked for; what was learnt stays while the settings do."""
        hedging = config.hedging
        kept = self._hedges if self._config.hedging == hedging else {}
        return {
            entry.name: kept.get(entry.name)
            or HedgeBudget(hedging.quantile, hedging.delay_min_s, hedging.max_ratio, hedging.spend_per_hour)
            for entry in config.models
            if entry.hedged
        }

    def _plans(
        self,
        config: ServerConfig,
        groups: dict[str, list[Endpoint]],
        budgets: dict[str, RetryBudget],
        lines: dict[str, Line],
        hedges: dict[str, HedgeBudget],
    ) -> dict[str, Plan]:
        terms = _terms(config)
        strategy = config.routing.strategy
        built = {
            name: Group(name, endpoints, make_balancer(strategy, endpoints, self._rng), self._rng)
            for name, endpoints in groups.items()
        }
        plans = {}
        for name in built:
            team = config.cooperation.get(name)
            further = [*([team.fallback] if team is not None else []), *config.routing.fallbacks.get(name, [])]
            names = [name, *dict.fromkeys(n for n in further if n in built and n != name)]
            built[name].has_fallback = len(names) > 1
            legs = []
            for position, leg_name in enumerate(names):
                term = terms[leg_name]
                has_alternative = len(built[leg_name].endpoints) > 1 or position + 1 < len(names)
                reason = f"{strategy} of {len(built[leg_name].endpoints)}"
                legs.append(
                    Leg(
                        built[leg_name],
                        term.max_retries,
                        term.timeouts,
                        budgets[leg_name],
                        has_alternative=has_alternative,
                        reason=reason if leg_name == name else f"{reason}, fallback of {name}",
                        line=lines[leg_name],
                        hedging=hedges.get(leg_name),
                    )
                )
            plans[name] = Plan(name, tuple(legs), terms[name].stream_failure)
        return plans


class _Terms(NamedTuple):
    """What a leg of one model name is made of."""

    max_retries: int
    timeouts: Timeouts
    stream_failure: StreamFailure


def _terms(config: ServerConfig) -> dict[str, _Terms]:
    terms = {}
    for entry in reversed(config.models):
        retries = config.retries.max if entry.max_retries is None else entry.max_retries
        terms[entry.name] = _Terms(retries, entry.timeouts, entry.stream_failure)
    for name, team in config.cooperation.items():
        # Its members are tried again by themselves; a second run would cost as much as the first.
        terms[name] = _Terms(0, team_timeouts(team, config.timeouts), "terminate")
    return terms


def _continuation(entry: ModelEntry) -> str:
    """How an endpoint goes on with a broken stream: with a plain prompt every server can."""
    if entry.dialect in ("embedded", "mcp") or entry.continuation != "none":
        return entry.continuation
    return "prompt"


def _limits_by_name(config: ServerConfig) -> dict[str, KeyLimits]:
    limits = {_ANONYMOUS: config.limits}
    limits.update({entry.name: entry.limits for entry in config.auth.keys})
    return limits


def _routes(context_path: str) -> dict[bytes, Route]:
    routes = [
        *(Route(pattern, b"POST", "infer", face) for pattern, face in INFER_ROUTES),
        Route("/v1/models", b"GET", "models"),
        Route("/v1/models/{id}", b"GET", "models"),
        Route("/healthz", b"GET", "public"),
        Route("/readyz", b"GET", "public"),
    ]
    return {(context_path + route.pattern).encode(): route for route in routes}


def _listings(config: ServerConfig, created_s: int) -> tuple[Listing, ...]:
    seen: dict[str, Listing] = {}
    for entry in config.models:
        if entry.name != WILDCARD and entry.name not in seen:
            seen[entry.name] = Listing(entry.name, created_s, "open-autoglm", entry.context_window or 0)
    for name in config.cooperation:
        seen[name] = Listing(name, created_s, "open-autoglm", 0)
    return tuple(seen.values())


def _shown(endpoint: str) -> str:
    """An endpoint's name in metrics and logs: its address without what could be secret."""
    if "://" not in endpoint:
        return endpoint
    parts = urlsplit(endpoint)
    host = _bracketed(parts.hostname or "")
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _welcome(endpoint: Endpoint) -> None:
    """A node that could not be had has let us in: what spoke against it before does so no more."""
    endpoint.misconfigure(0.0)
    endpoint.throttle(0.0)


def _files(entry: ModelEntry) -> TlsClientFiles:
    return TlsClientFiles(entry.ca, entry.client_cert, entry.client_key)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def unavailable(entry: ModelEntry, message: str) -> ConfigError:
    """The error for a model that cannot be opened."""
    return ConfigError("models", [ConfigProblem(f"models.{entry.name}", 0, message)])
