"""A model service in simulated time: real endpoints, breakers, groups and sweeps, upstreams that have outages."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

from msgspec.structs import replace

from open_autoglm.backends.backend import Backend, ModelCall
from open_autoglm.config import parse_config
from open_autoglm.config.schema import ModelEntry, ServerConfig
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.server.assembly import Assembly
from open_autoglm.server.health import Health

TICK_S = 0.01
ANSWER_S = 0.2


class Upstream:
    """A backend that is there or not, and never answers a request by itself.

    Attributes:
        there: whether it is reachable.
        looked: how often it was looked at.
        looking: how many looks ran at once, over all upstreams, at each change.
    """

    dialect_name = "openai"
    connections = 0

    def __init__(self, name: str, looking: list[int]) -> None:
        self.name = name
        self.looking = looking
        self.there = True
        self.looked = 0

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        raise AssertionError("this test opens nothing")

    async def reachable(self, timeout_s: float) -> bool:
        self.looked += 1
        self.looking.append((self.looking[-1] if self.looking else 0) + 1)
        await asyncio.sleep(0)
        self.looking.append(self.looking[-1] - 1)
        return self.there

    def sweep(self, now_s: float) -> None:
        pass

    def close(self) -> None:
        pass


def configured(models: dict[str, str], **sections: object) -> ServerConfig:
    """A configuration: names of models, each with its endpoints, one letter each; and further sections."""
    entries = [{"name": model, "endpoint": f"http://{name}.test"} for model, names in models.items() for name in names]
    text = json.dumps({"models": entries} | sections)
    config = parse_config(text, source="test", environ={}, trusted=True, insecure=True).config
    # The dialect whose backend is given to the assembly, and not made by it.
    names = [name for group in models.values() for name in group]
    served = [
        replace(model, dialect="embedded", endpoint=f"embedded:{name}")
        for model, name in zip(config.models, names, strict=True)
    ]
    return replace(config, models=served)


@dataclass
class Counts:
    """What happened in one second."""

    wanted: int = 0
    sent: int = 0
    answered: int = 0
    sent_to: dict[str, int] = field(default_factory=dict)


class Service:
    """One group over some upstreams.

    Attributes:
        upstreams: by name.
        failing: how the requests sent to an upstream end now: `connect`, `throttled` or `failed`; well when missing.
        seconds: what happened in each.
    """

    def __init__(self, names: str, config: ServerConfig | None = None, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.upstreams: dict[str, Upstream] = {}
        self._looking: list[int] = []
        self.now_s = 1000.0
        self.config = config or configured({"m": names})
        self.assembly = Assembly(self.loop, self.rng, b"pepper", self._open, lambda: self.now_s)
        self.assembly.adopt(self.assembly.build(self.config, 1, 0))
        self.health = Health(self.assembly, self.loop, self.rng, now=lambda: self.now_s)
        self.group = self.assembly.plans["m"].legs[0].group
        self.failing: dict[str, str] = {}
        self.seconds: list[Counts] = []
        self._running: list[tuple[float, Endpoint, int]] = []

    def _open(self, model: ModelEntry) -> Backend:
        name = model.endpoint.removeprefix("embedded:")
        return self.upstreams.setdefault(name, Upstream(name, self._looking))

    def endpoint(self, name: str) -> Endpoint:
        """An endpoint by its upstream's name."""
        return next(e for e in self.group.endpoints if e.name == f"embedded:{name}")

    def run(self, lasts_s: float, rate: float) -> list[Counts]:
        """Let requests come for a while, evenly; return what happened in each second."""
        from_second = len(self.seconds)
        due = 0.0
        for tick in range(round(lasts_s / TICK_S)):
            self.now_s += TICK_S
            if tick % round(1 / TICK_S) == 0:
                self.seconds.append(Counts())
                self.sweep()
            while self._running and self._running[0][0] <= self.now_s:
                _, endpoint, permit = self._running.pop(0)
                endpoint.succeed(permit, self.now_s, ANSWER_S, False, 1000)
                self.seconds[-1].answered += 1
            due += rate * TICK_S
            while due >= 1.0:
                due -= 1.0
                self._request()
        return self.seconds[from_second:]

    def sweep(self) -> None:
        """One sweep, and the looks that it started."""
        self.health.sweep(self.now_s, self.config, 0.0)
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    def _request(self) -> None:
        """One request with up to two retries on other endpoints."""
        counts = self.seconds[-1]
        counts.wanted += 1
        tried: tuple[Endpoint, ...] = ()
        for _ in range(3):
            endpoint = self.group.acquire(self.now_s, 0, tried)
            if endpoint is None:
                return
            permit = self.group.permit
            name = endpoint.name.removeprefix("embedded:")
            endpoint.begin()
            counts.sent += 1
            counts.sent_to[name] = counts.sent_to.get(name, 0) + 1
            how = self.failing.get(name, "")
            if not how:
                self._running.append((self.now_s + ANSWER_S, endpoint, permit))
                return
            if how == "throttled":
                endpoint.release(permit, self.now_s, overload=True)
            else:
                endpoint.fail(permit, self.now_s, slow=False, overload=how == "connect")
            tried = (*tried, endpoint)

    def close(self) -> None:
        """Let the loop go."""
        self.health.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
