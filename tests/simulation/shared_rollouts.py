"""Several servers with the facts that they share, and nodes that do as they are told, in virtual time.

The servers' datagrams are delayed, lost and cut; full states are exchanged every few seconds, as members do. What nodes
serve is seen by a server a while later, and not at all while the line between them is cut.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from tests.unit.routing.scripted_gate import ScriptedGate

from open_autoglm.cluster.facts import ClusterFacts, read_facts, split_state
from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.membership.member import Member, Record
from open_autoglm.rollout.record import RolloutRecord
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.server.rollout_facts import RolloutFacts
from open_autoglm.server.rollouts import Nodes, Rollouts, Served

MODEL = "m"


class Site(Nodes):
    """One server, and what it sees of the nodes."""

    def __init__(self, world: World, name: str, life: int) -> None:
        self.name = name
        self.up = True
        self.seen: dict[str, str] = {}
        self.background: list[asyncio.Task[None]] = []
        self._world = world
        record = Record(id=name, role="server", start=life, gossip=f"{name}:1")
        self.record = record
        self.shared = ClusterFacts(record, self._send, world.loop)
        endpoints = [Endpoint(url, ScriptedGate(), model=MODEL, url=url) for url in world.serving]
        rng = random.Random(world.rng.getrandbits(32))
        self._group = Group(MODEL, endpoints, make_balancer("round_robin", endpoints, rng), rng)
        self.rollouts = Rollouts(self, rng, self._run)

    def _send(self, address: str, message: bytes) -> None:
        self._world.carry(self, address.partition(":")[0], message)

    def _run(self, work: Awaitable[None]) -> None:
        self.background.append(asyncio.ensure_future(work))

    def crash(self) -> None:
        """End without a word; what it was doing ends as well."""
        self.up = False
        self.shared.close()
        for task in self.background:
            task.cancel()

    # What rollouts need.

    def served(self, model: str) -> list[Served]:
        near = (url for url in sorted(self.seen) if not self._world.is_cut(self.name, url))
        return [Served(url, self.seen[url]) for url in near]

    def endpoints(self, model: str) -> Iterable[Endpoint]:
        return self._group.endpoints

    def group(self, model: str) -> Group | None:
        return self._group

    def counts(self, endpoint: Endpoint) -> Mapping[str, int]:
        return {}

    def tell(self, url: str, fields: dict[str, Any]) -> Awaitable[dict[str, Any]]:
        return self._world.tell(self, url, fields)

    def keep_together(self, models: frozenset[str]) -> None: ...

    def facts(self) -> RolloutFacts:
        return RolloutFacts(self.shared)

    def listen(self, hear: Callable[[str], None]) -> None:
        self.shared.on_change.append(hear)

    @property
    def record_of_model(self) -> RolloutRecord | None:
        """What this server takes for agreed."""
        return self.facts().read(MODEL).record


class World:
    """See the module.

    Args:
        servers, nodes: how many.
        loss: share of datagrams that are lost.

    Attributes:
        sides: where a line is cut: members of different sides do not hear each other; nothing while all do.
        serving: what each node serves in truth.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rng: random.Random, servers: int, nodes: int, loss: float = 0.05
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.loss = loss
        self.sides: list[set[str]] = []
        self.serving = dict.fromkeys((f"mcp://n{number}:1" for number in range(nodes)), "old")
        self.sites: dict[str, Site] = {}
        self._lives = 0
        self._timer: asyncio.TimerHandle | None = None
        for number in range(servers):
            self.start(f"s{number}")
        self._second()

    def start(self, name: str) -> Site:
        """Start a server, or start it again; it knows the others at once, and their facts by an exchange."""
        self._lives += 1
        site = self.sites[name] = Site(self, name, self._lives * 1000)
        site.seen = dict(self.serving)
        for other in self.up():
            if other is not site:
                for one, two in ((site, other), (other, site)):
                    one.shared.note(Member(two.record, "alive", 0.0, 0.0))
                self.exchange(site, other)
        return site

    def close(self) -> None:
        """End everything."""
        if self._timer is not None:
            self._timer.cancel()
        for site in self.up():
            site.crash()

    def up(self) -> list[Site]:
        """Servers that run."""
        return [site for site in self.sites.values() if site.up]

    def is_cut(self, one: str, other: str) -> bool:
        """Whether two do not hear each other."""
        return any((one in side) is not (other in side) for side in self.sides)

    def carry(self, sender: Site, name: str, message: bytes) -> None:
        """Bring a datagram over, or lose it."""
        if sender.up and self.rng.random() >= self.loss and not self.is_cut(sender.name, name):
            self.loop.call_later(self.rng.uniform(0.001, 0.04), self._arrive, sender.name, name, message)

    def _arrive(self, source: str, name: str, message: bytes) -> None:
        site = self.sites[name]
        if site.up and not self.is_cut(source, name):
            site.shared.hear(*read_facts(message))

    def exchange(self, one: Site, other: Site) -> None:
        """Exchange full states."""
        if one.up and other.up and not self.is_cut(one.name, other.name):
            mine, theirs = one.shared.give(b""), other.shared.give(b"")
            one.shared.take(split_state(theirs)[1], other.name)
            other.shared.take(split_state(mine)[1], one.name)

    def _second(self) -> None:
        """What happens once a second: sweeps, sights of nodes, and an exchange of states now and then."""
        self._timer = self.loop.call_later(1.0, self._second)
        for site in self.up():
            for url, version in self.serving.items():
                if self.rng.random() < 0.7 and not self.is_cut(site.name, url):
                    site.seen[url] = version
            site.rollouts.sweep(self.loop.time())
        running = self.up()
        if len(running) > 1 and self.rng.random() < 0.3:
            self.exchange(*self.rng.sample(running, 2))

    async def tell(self, site: Site, url: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Have a node do something; that takes a while."""
        assert fields["command"] == "publish"
        await asyncio.sleep(self.rng.uniform(0.05, 0.6))
        if not site.up or self.is_cut(site.name, url):
            raise UpstreamError("upstream_error", "no link to the node is open")
        self.serving[url] = fields["version"]
        return {}

    async def command(self, name: str, work: Callable[[Rollouts], Coroutine[Any, Any, object]]) -> str:
        """Have an operator ask a server for something; return what was refused, or nothing."""
        site = self.sites[name]
        task = asyncio.ensure_future(work(site.rollouts))
        site.background.append(task)  # type: ignore[arg-type]
        try:
            await task
        except AutoGLMError as error:
            return error.message
        except asyncio.CancelledError:
            return "the server ended"
        return ""

    def agreed(self) -> RolloutRecord | None:
        """What all servers take for agreed.

        Raises:
            AssertionError: they do not agree.
        """
        records = {site.name: site.record_of_model for site in self.up()}
        told = set(records.values())
        assert len(told) == 1, f"servers do not agree: {records}"
        return told.pop()
