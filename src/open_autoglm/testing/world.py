"""A whole service in one process, in virtual time: clients, our server, upstreams, and what befalls them.

Invariant: a run is decided by its scenario and its seed. It gathers what everybody saw; `checker` judges it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from open_autoglm.config import Loaded, parse_config
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.server.options import ServeOptions
from open_autoglm.server.server import Server
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.testing.checker import Bounds, Revision, Run, Span
from open_autoglm.testing.client import Clients, Question, Seen
from open_autoglm.testing.faults import FAULTS
from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.network import Link, Network
from open_autoglm.testing.reply import Asked, Behaviour, Reply, Steps
from open_autoglm.testing.scenario import Event, Load, Scenario
from open_autoglm.testing.speech import TOKENS, tokens_of
from open_autoglm.testing.upstream import ScriptedUpstream, answer

GATEWAY: Final = "gateway"
PORT: Final = 8080
_CLIENT_HOSTS: Final = ("client-1", "client-2", "client-3")
_LOOK_S: Final = 0.02
_AFTERWARDS_S: Final = 2.0
"""Between the calm's last answer and the look at what is left."""
_ENDS_AT_ONCE: Final = frozenset({"error-500", "bad-gateway", "unavailable", "overloaded-529", "html-200", "error-200"})
"""Faults under which an upstream only fails, and at once."""
_ENDS_LATE: Final = frozenset({"silent", "head-only"})
"""Faults under which an upstream only fails, but so that it takes time to find out."""
_FOUND_OUT_S: Final = 8.0
_CUTS_AT: Final = frozenset({"cut", "cut-by-reset", "cut-cleanly", "stall", "error-in-stream", "malformed-event"})
"""Faults in the middle of a stream; where, is drawn."""
_CALM_REQUESTS: Final = 12
CLASSES: Final = {"sheddable": 0, "sheddable_plus": 1, "critical": 2, "critical_plus": 3}


class World:
    """See the module.

    Args:
        scenario: what happens.
        seed: what is left to chance.

    Attributes:
        log: lines for people: loop time and what happened.
        seen: questions and what clients saw, by id, as far as the run has come.
        records: what the server has written down.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop(seed, limit_s=scenario.ends_s + scenario.calm_s + 1200.0)
        self.network = Network(self.loop, Link(**scenario.network))  # type: ignore[arg-type]
        self.rng = random.Random(self.loop.rng.getrandbits(64))
        self.log: list[str] = []
        self.records: list[RequestRecord] = []
        self.seen: dict[str, tuple[Question, Seen]] = {}
        self.upstreams = [
            ScriptedUpstream(partial(self._behave, f"up-{n + 1}"), name=f"up-{n + 1}", pace_s=0.005 + 0.01 * n)
            for n in range(scenario.upstreams)
        ]
        self.run_: Run
        self._clients: list[Clients] = []
        self._scripts: dict[str, dict[Event, None]] = {}
        self._asking: set[asyncio.Task[Any]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._asked = 0
        self._server: Server

    def run(self) -> Run:
        """Let it happen, once, and return what everybody saw."""
        failures: list[str] = []
        with _log_caught(failures):
            self.loop.run(self._main())
        self.run_.failures += failures
        self.run_.failures += [f"{f.get('message')}: {f.get('exception')!r}" for f in self.loop.failures]
        return self.run_

    def say(self, text: str) -> None:
        """Note what happened."""
        self.log.append(f"{self.loop.elapsed_s():9.3f} {text}")

    # The course of a run.

    async def _main(self) -> None:
        scenario, loop = self.scenario, self.loop
        loaded = self.configuration("")
        self.run_ = Run(_bounds(loaded, scenario), self.seen, [], self.records)
        self._use(loaded)
        for upstream in self.upstreams:
            with self.network.at(upstream.name):
                await upstream.start(port=80)
        with self.network.at(GATEWAY):
            request_log = RequestLog(loaded.config.logging)
            self._server = server = Server(
                loaded, ServeOptions(None), loop, request_log, rng=random.Random(self.rng.random())
            )
            settle = server.gateway.account

            def account(record: RequestRecord) -> None:
                self.records.append(record)
                settle(record)

            server.gateway.account = account
            await server.start()
        for name in _CLIENT_HOSTS:
            with self.network.at(name):
                clients = Clients(GATEWAY, PORT)
                clients.seen = self.seen
                self._clients.append(clients)
        for event in scenario.events:
            loop.call_later(event.at_s, self._begin, event)
        await asyncio.gather(*(self._load(load) for load in scenario.loads))
        await self._until(scenario.ends_s)
        await self._answered()
        if scenario.calm_s and not scenario.drains:
            await self._calm()
        await self._stop()

    async def _calm(self) -> None:
        """After the storm: some time for recovery, then requests that must all be answered well."""
        await self._until(self.scenario.ends_s + self.scenario.calm_s)
        # The last rest of an endpoint ends with a trial by real requests, some of which may still find it resting.
        self.run_.calm_s = self.loop.time()
        self.say("calm: everything must be answered well from now on")
        key = self.scenario.loads[0].key if self.scenario.loads else ""
        for _ in range(_CALM_REQUESTS):
            self._ask(Load(1.0, 1.0, shares={"streams": 0.5}, key=key))
            await asyncio.sleep(0.25)
        await self._answered()
        await asyncio.sleep(_AFTERWARDS_S)
        self.run_.leftovers.update(self._figures())

    async def _answered(self) -> None:
        while self._asking:
            await asyncio.wait(set(self._asking))

    async def _stop(self) -> None:
        for clients in self._clients:
            clients.close()
        if self._stopping is None:
            with self.network.at(GATEWAY):
                self._stopping = asyncio.ensure_future(self._server.stop())
        await self._stopping
        await asyncio.sleep(5.0)
        self.run_.leftovers["connections"] = len(self.network.host(GATEWAY).ends)
        for upstream in self.upstreams:
            upstream.stop()
            self.run_.asked += upstream.asked
        self.run_.asked.sort(key=lambda asked: asked.arrived_s)

    async def _until(self, elapsed_s: float) -> None:
        await asyncio.sleep(max(0.0, elapsed_s - self.loop.elapsed_s()))

    # Clients.

    async def _load(self, load: Load) -> None:
        await asyncio.sleep(load.from_s)
        ends_s = self.loop.elapsed_s() + load.for_s
        while True:
            await asyncio.sleep(self.rng.expovariate(load.rate_per_s))
            if self.loop.elapsed_s() >= ends_s:
                return
            self._ask(load)

    def _ask(self, load: Load) -> None:
        rng, shares = self.rng, load.shares
        self._asked += 1

        def chance(name: str) -> bool:
            return rng.random() < shares.get(name, 0.0)

        stream = chance("streams")
        question = Question(
            f"q-{self._asked}",
            f"question {self._asked}",
            tokens=TOKENS if chance("long") else rng.randint(2, 14),
            stream=stream,
            key=f"key-{load.key}" if load.key else "",
            limit_s=2.0 if chance("hurry") else 0.0,
            leaves_after_s=rng.uniform(0.001, 0.4) if chance("leave") else 0.0,
            reads_after_s=rng.uniform(0.05, 1.0) if chance("slow") else 0.0,
        )
        if load.key in CLASSES:
            self.run_.classes[question.id] = CLASSES[load.key]
        clients = self._clients[self._asked % len(self._clients)]
        with self.network.at(_CLIENT_HOSTS[self._asked % len(self._clients)]):
            task = asyncio.ensure_future(clients.ask(question, fresh=chance("fresh")))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    # Upstreams.

    def _behave(self, host: str, asked: Asked) -> Behaviour:
        for event in self._scripts.get(host, ()):
            if event.share < 1.0 and self.rng.random() >= event.share:
                continue
            if event.do == "is-slow":
                return partial(_slowly, factor=float(event.what))
            if event.what in _CUTS_AT:
                return partial(
                    FAULTS[event.what].behaviour, at=self.rng.randint(0, 8 if asked.body.get("max_tokens") else TOKENS)
                )  # type: ignore[call-arg]
            if event.what == "again":
                return _again
            if event.what == "rate-limited":
                return partial(self._throttle, host)
            return FAULTS[event.what].behaviour
        return answer

    def _throttle(self, host: str, reply: Reply) -> Steps:
        asked_s = float(self.rng.randint(1, 4))
        span = Span(host, self.loop.time(), self.loop.time() + asked_s)
        # The latest word counts, even when it is a shorter time.
        self.run_.throttled = [one if one.host != host else _until(one, span) for one in self.run_.throttled]
        self.run_.throttled.append(span)
        reply.refuse(429, "slow down", "rate_limit_exceeded", asked_s)
        yield 0.0

    # What befalls them.

    def _begin(self, event: Event) -> None:
        self.say(f"{event.do} {event.who} {event.what}".rstrip() + (f" for {event.for_s:g} s" if event.for_s else ""))
        network, run = self.network, self.run_
        span = Span(event.who, self.loop.time(), self.loop.time() + event.for_s)
        match event.do:
            case "freeze" | "black-hole" | "cut":
                run.unreachable += [span, Span(event.what, span.from_s, span.to_s)]
            case "answers" if event.share == 1.0 and event.what in _ENDS_AT_ONCE:
                run.failing.append(span)
            case "answers" if event.share == 1.0 and event.what in _ENDS_LATE and event.for_s > 2 * _FOUND_OUT_S:
                run.failing.append(span._replace(from_s=span.from_s + _FOUND_OUT_S))
        match event.do:
            case "freeze":
                network.freeze(event.who)
            case "refuse":
                network.refuse(event.who)
            case "black-hole":
                network.black_hole(event.who)
            case "kill":
                network.kill(event.who)
            case "reset":
                network.reset(event.who)
            case "cut":
                network.cut(event.who, event.what)
            case "lose":
                network.link.loss = event.share
            case "answers" | "is-slow":
                self._scripts.setdefault(event.who, {})[event] = None
            case "reload":
                self._reload(event.what)
            case "drain":
                self._stopping = asyncio.ensure_future(self._drain())
        if event.for_s:
            self.loop.call_later(event.for_s, self._end, event)

    def _end(self, event: Event) -> None:
        self.say(f"over: {event.do} {event.who} {event.what}".rstrip())
        network = self.network
        match event.do:
            case "freeze":
                network.thaw(event.who)
            case "refuse":
                network.refuse(event.who, False)
            case "black-hole":
                network.black_hole(event.who, False)
            case "kill":
                network.revive(event.who)
            case "cut":
                network.heal(event.who, event.what)
            case "lose":
                network.link.loss = self.scenario.network.get("loss", 0.0)
            case "answers" | "is-slow":
                self._scripts[event.who].pop(event, None)

    # The server.

    def configuration(self, name: str) -> Loaded:
        """The configuration of a name, over what every run has; the first one has no name."""
        more = {**self.scenario.config, **(self.scenario.others[name] if name else {})}
        tree: dict[str, Any] = {
            "server": {"host": "127.0.0.1", "port": PORT, "admin_key": "admin-key-of-the-simulation"},
            "limits": {"requests_per_second": 0},
            "logging": {"level": "ERROR"},
            # What it looks at is the memory and the descriptors of the real process.
            "overload": {"enabled": False},
            "drain": {"accept": "1s", "unary": "30s", "stream": "30s"},
            "timeouts": {"first_token": "3s", "gap": "2s", "total": "20s", "first_token_hedge": "1500ms"},
            "models": [{"name": "chat", "endpoint": f"http://{one.name}/v1"} for one in self.upstreams],
        }
        for section, value in more.items():
            merged = isinstance(value, dict) and isinstance(tree.get(section), dict)
            tree[section] = {**tree[section], **value} if merged else value
        return parse_config(json.dumps(tree), source=name or "simulation", environ={}, trusted=True)

    def _use(self, loaded: Loaded) -> None:
        targets = frozenset(
            (urlsplit(entry.endpoint).hostname or "", entry.upstream_model or entry.name)
            for entry in loaded.config.models
        )
        self.run_.revisions.append(Revision(self.loop.time(), targets))

    def _reload(self, name: str) -> None:
        loaded = self.configuration(name)
        with self.network.at(GATEWAY):
            self._server.apply(loaded, "the simulation")
        self._use(loaded)

    async def _drain(self) -> None:
        self._watch_listeners()
        with self.network.at(GATEWAY):
            await self._server.drain()
            await self._server.stop()

    def _watch_listeners(self) -> None:
        """Note when nothing new is taken any more."""
        if self.network.host(GATEWAY).listeners:
            self.loop.call_later(_LOOK_S, self._watch_listeners)
        else:
            self.run_.closed_s = self.loop.time()
            self.say("the listeners are closed")

    def _figures(self) -> dict[str, float]:
        """What the server holds, all of which must be nothing between requests."""
        server = self._server
        parts = server.assembly.parts.values()
        figures = {
            "requests in flight": float(server.gateway.in_flight),
            "attempts in flight": float(sum(part.endpoint.in_flight for part in parts)),
            "breaker trials": float(sum(part.breaker.snapshot().trials_out for part in parts)),
        }
        legs = {leg.group.name: leg for plan in server.gateway.snapshot.plans.values() for leg in plan.legs}
        figures["retries in flight"] = float(sum(leg.budget.active for leg in legs.values()))
        figures["waiting"] = float(sum(leg.line.queue.waiting for leg in legs.values() if hasattr(leg, "line")))
        return figures


def _until(one: Span, later: Span) -> Span:
    return one._replace(to_s=min(one.to_s, later.to_s))


def _slowly(reply: Reply, factor: float) -> Steps:
    """The right answer, so many times slower."""
    reply.pace_s *= factor
    yield from answer(reply)


def _again(reply: Reply) -> Steps:
    """The right answer from its first word on, even when the request carries its beginning."""
    reply.tokens = list(tokens_of(reply.asked.question))
    yield from answer(reply)


def _bounds(loaded: Loaded, scenario: Scenario) -> Bounds:
    config = loaded.config
    legs = 1 + max((len(names) for names in config.routing.fallbacks.values()), default=0)
    lossy = scenario.network.get("loss", 0.0) or any(event.do == "lose" for event in scenario.events)
    others = (other.get("retries", {}).get("max", 0) for other in scenario.others.values())
    return Bounds(
        # Of all configurations that come to hold. One more: a pooled connection that turns out to be closed is replaced
        # free of charge.
        calls_max=legs * (max(config.retries.max, *others, 0) + 1) + 1,
        at_once_max=2 if config.timeouts.first_token_hedge_s < config.timeouts.first_token_s else 1,
        limit_s=config.timeouts.total_s,
        slack_s=3.0 if lossy else 0.06,
        retry_ratio=config.retries.budget_ratio,
    )


@contextmanager
def _log_caught(failures: list[str]) -> Iterator[None]:
    """Keep the server's log quiet, and note what it logs as an error."""
    logger = logging.getLogger("open_autoglm")

    class Catcher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                failures.append(self.format(record))

    catcher = Catcher()
    before = logger.propagate
    logger.addHandler(catcher)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(catcher)
        logger.propagate = before
