"""Nodes of the cluster become endpoints: what a node says it serves, requests for that name may go to.

Invariant: the configuration and its revision stay as they are; nodes' models are entries behind those of the file, and
the same `Assembly.build` makes both. So an endpoint that stays keeps its object, with its connections, breaker and
figures, and one whose node is dead, draining or gone gets no new request while those that it has may end.

Changes within 20 ms are one new assembly. A load report changes weights in place, at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from msgspec import structs as struct_of

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend
from open_autoglm.cluster.facts import ClusterFacts, FactCallback
from open_autoglm.cluster.machine import Machine
from open_autoglm.cluster.member import ClusterMember
from open_autoglm.cluster.settings import ClusterSettings, node_key
from open_autoglm.config.keys import is_name
from open_autoglm.config.schema import WILDCARD, ModelEntry, ServerConfig
from open_autoglm.errors import RequestError
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LoadReport, read_load
from open_autoglm.membership.member import STATES, Member, Record, join_address, split_address
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.server.assembly import Part
from open_autoglm.server.fact_figures import FACT_FIGURES, FactFigure
from open_autoglm.server.node_notes import is_drained, note_of, set_drained, set_note
from open_autoglm.server.placement import placement_weight
from open_autoglm.telemetry.metrics import Answer, Gauge
from open_autoglm.transport.framed_session import ALTERNATIVES_MAX

_log = logging.getLogger(__name__)
_SETTLE_S: Final = 0.02
_OPENING_S: Final = 0.1
"""A connection to a new node is open by then, usually."""
_SILENT_INTERVALS: Final = 2
"""A dead node's connection that has brought something within so many heartbeats is not that of a dead process."""
_EVERY_NETWORK: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_KEY_STRATEGIES: Final = ("ip_hash", "consistent_hash")
"""If weights followed the load, keys would move from node to node with it."""
_Offer = tuple[str, str, str]
"""Name and address of a model, and the name that the node's certificate must have; empty without TLS."""
ENTRIES_MAX: Final = 4096
"""Models of all nodes together; further ones are not served."""


class Discovery:
    """See the module.

    Args:
        settings: with a secret.
        loop: for timers.
        parts: every endpoint that is in use, with what belongs to it.
        renew: builds and adopts the assembly anew; asks `extended` meanwhile.
        busy: requests in flight here, and those that wait.

    Attributes:
        member: this server as a member; None before `start`.
        on_fact: called with the key of each shared fact that changes.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        loop: asyncio.AbstractEventLoop,
        *,
        parts: Callable[[], Iterable[Part]],
        renew: Callable[[], None],
        busy: Callable[[], tuple[int, int]],
    ) -> None:
        self.member: ClusterMember | None = None
        self.on_fact: list[FactCallback] = []
        self._settings = settings
        self._key = node_key(settings.secret) if settings.secret is not None else None
        self._loop = loop
        self._parts = parts
        self._renew = renew
        self._busy = busy
        self._machine = Machine()
        self._timer: asyncio.TimerHandle | None = None
        self._served: list[_Offer] = []
        self._keeps_keys = False
        self._endpoints: dict[str, list[Endpoint]] = {}  # of nodes, by URL
        self._groups: dict[str, list[Endpoint]] = {}  # all, by model
        self._backends: dict[str, list[NodeBackend]] = {}  # by URL, those included that only finish what they have
        self._by_url: dict[str, list[Member]] | None = None  # nodes; None after a change

    # Life.

    async def start(self, *, replaces: bool) -> None:
        """Join; nodes come in by and by.

        Args:
            replaces: another process of this server is about to close; its nodes are known at once.

        Raises:
            ServerError: the port cannot be had.
        """
        self.member = await ClusterMember.start(self._settings, role="server", replaces=replaces)
        self.member.facts.on_change.append(self._on_fact)
        self._settled()
        self.weigh()
        self.member.on_change.append(self._on_change)
        self.member.on_load.append(self._on_load)
        self.member.watch_load(self._own_load)

    def set_address(self, host: str, port: int) -> None:
        """Say where this server's data listener is."""
        own = self._settings.advertise or split_address(self._settings.bind)[0]
        if self.member is not None:
            self.member.set_address(join_address(own if host in _EVERY_NETWORK else host, port))

    def drain(self) -> None:
        """Tell the others that this server takes no more requests."""
        if self.member is not None:
            self.member.drain()

    async def leave(self) -> None:
        """Leave the cluster, and close."""
        if self._timer is not None:
            self._timer.cancel()
        if self.member is not None:
            await self.member.leave()

    def close(self) -> None:
        """Close without a word: another process takes this server's place."""
        if self._timer is not None:
            self._timer.cancel()
        if self.member is not None:
            self.member.close()

    # Models of nodes.

    def extended(self, config: ServerConfig) -> ServerConfig:
        """Return a configuration with an entry for each model of each node that takes requests."""
        self._served = self._offered()
        self._keeps_keys = config.routing.strategy in _KEY_STRATEGIES
        written = {(entry.name, entry.endpoint) for entry in config.models}
        entries = [self._entry(offer, config) for offer in self._served if offer[:2] not in written]
        return struct_of.replace(config, models=[*config.models, *entries]) if entries else config

    def weigh(self) -> None:
        """Set the weights of nodes' endpoints, and listen to their connections; after each new assembly."""
        self._endpoints, self._groups = {}, {}
        backends: dict[str, list[NodeBackend]] = {}
        for part in self._parts():
            endpoint, backend = part.endpoint, part.backend
            self._groups.setdefault(endpoint.model, []).append(endpoint)
            if isinstance(backend, NodeBackend):
                self._endpoints.setdefault(endpoint.url, []).append(endpoint)
                backends.setdefault(endpoint.url, []).append(backend)
                backend.on_load = partial(self.hear_load, endpoint.url)
                backend.on_lost = partial(self.doubt, endpoint.url)
        for url, former in self._backends.items():
            now = backends.get(url, [])
            if finishing := [backend for backend in former if backend not in now and backend.connections]:
                backends[url] = [*now, *finishing]
        self._backends = backends
        fastest_s: dict[str, float] = {}
        for member in self._nodes():
            self._weigh(member, fastest_s)

    def hear_load(self, url: str, payload: bytes) -> None:
        """Take a load report in that came on a connection to `mcp://HOST:PORT`."""
        try:
            load = read_load(payload)
        except GossipError as error:
            _log.warning("the node at %s: %s", url, error)
            return
        for member in self._at(url):
            if self.member is not None:
                self.member.hear_load(member.id, load)

    def doubt(self, url: str) -> None:
        """Have the node at `mcp://HOST:PORT` asked for a sign of life: a connection to it was lost."""
        for member in self._at(url):
            if self.member is not None:
                self.member.doubt(member.id)

    def _at(self, url: str) -> list[Member]:
        """The nodes that are there at `mcp://HOST:PORT`: one, unless another has just come in the place of one."""
        if self._by_url is None:
            self._by_url = {}
            for member in self._nodes():
                self._by_url.setdefault(self._url(member.record), []).append(member)
        return [member for member in self._by_url.get(url, ()) if member.present]

    def _url(self, record: Record) -> str:
        return f"{'mcp' if self._settings.tls is None else 'mcps'}://{record.address}"

    def _nodes(self) -> list[Member]:
        members = self.member.members.values() if self.member is not None else ()
        return [m for m in members if m.record.role == "node" and m.record.address]

    def _offered(self) -> list[_Offer]:
        """Each model that a node offers, in an order that does not depend on who came first."""
        takes = [m for m in self._nodes() if self._takes(m)]
        secured = self._settings.tls is not None
        offered = {(name, self._url(m.record), m.id if secured else "") for m in takes for name, _ in m.record.models}
        return sorted(offer for offer in offered if offer[0] != WILDCARD and is_name(offer[0]))[:ENTRIES_MAX]

    def _takes(self, member: Member) -> bool:
        """Whether a node gets new requests."""
        facts = self.member.facts if self.member is not None else None
        marked = facts is not None and is_drained(facts, member.id)
        return member.present and not member.record.draining and not marked

    def _entry(self, offer: _Offer, config: ServerConfig) -> ModelEntry:
        name, url, member_id = offer
        tls = self._settings.tls
        return ModelEntry(
            name=name,
            endpoint=url,
            dialect="mcp",
            upstream_model=name,
            token=self._key,
            weight=1.0,
            max_retries=None,
            context_window=None,
            price=None,
            timeouts=config.timeouts,
            stream_usage=True,
            continuation="none",
            stream_failure=config.stream_failure,
            hedged=config.hedging.enabled,
            ca=None if tls is None else tls.ca,
            client_cert=None if tls is None else tls.cert,
            client_key=None if tls is None else tls.key,
            tls_name=member_id or None,
        )

    def _on_change(self, member: Member) -> None:
        if member.record.role != "node":
            return
        self._by_url = None
        if member.state == "dead":
            self._bury(member)
        self._weigh(member)
        if self._timer is None and self._offered() != self._served:
            self._timer = self._loop.call_later(_SETTLE_S, self._settled)

    def _bury(self, member: Member) -> None:
        """A node is dead: what waits for its word has waited long enough, though its connections are open still.

        One that speaks on them all the same is only cut off from the members' datagrams, and may end what it has.
        """
        url = self._url(member.record)
        is_known = self.member is not None and member.id in self.member.members
        if is_known and not self._at(url):
            for backend in list(self._backends.get(url, ())):
                backend.give_up(_SILENT_INTERVALS * self._settings.interval_s)

    def _on_fact(self, key: str) -> None:
        if self._timer is None and self._offered() != self._served:
            self._timer = self._loop.call_later(_SETTLE_S, self._settled)
        for hear in self.on_fact:
            hear(key)

    def _settled(self) -> None:
        self._timer = None
        before = set(self._served)
        if self._offered() == self._served:
            return
        self._renew()
        after = set(self._served)
        self._open(after - before)
        self.weigh()
        for name, url, _ in sorted(after - before):
            _log.info("model %s is served by the node at %s", name, url)
        for name, url, _ in sorted(before - after):
            _log.info("model %s is no longer served by the node at %s", name, url)

    def _open(self, fresh: set[_Offer]) -> None:
        """Open connections to nodes that are new; where others can answer meanwhile, they do."""
        now_s = clock.monotonic()
        places = {offer[:2] for offer in fresh}
        parts = list(self._parts())
        groups = Counter(part.endpoint.model for part in parts)
        for part in parts:
            endpoint = part.endpoint
            if (endpoint.model, endpoint.url) in places:
                part.backend.sweep(now_s)
                if groups[endpoint.model] > 1:
                    endpoint.throttle(now_s + _OPENING_S)

    # Load.

    def _on_load(self, member: Member) -> None:
        if member.record.role == "node":
            self._weigh(member)

    def _weigh(self, member: Member, fastest_s: dict[str, float] | None = None) -> None:
        """Set the weights of a node's endpoints.

        Args:
            member: the node.
            fastest_s: of each model, as far as it was looked for; more is added.
        """
        if not member.present:
            return  # another one may have come to its address
        known = {} if fastest_s is None else fastest_s
        load, suspect = member.load, member.state == "suspect"
        for endpoint in self._endpoints.get(self._url(member.record), ()):
            model = endpoint.model
            if model not in known:
                latencies = (each.latency_s for each in self._groups[model])
                known[model] = min((latency_s for latency_s in latencies if latency_s > 0.0), default=0.0)
            seen = (None, 0.0, 0.0) if self._keeps_keys else (load, endpoint.latency_s, known[model])
            endpoint.weight = placement_weight(*seen, suspect=suspect)
            if load is not None:
                endpoint.reported_load = float(max(load.running + load.queue - endpoint.in_flight, 0))

    def _own_load(self) -> LoadReport:
        running, waiting = self._busy()
        machine = self._machine.read()
        return LoadReport(
            cpu=machine.cpu,
            memory_free=machine.memory_free,
            memory_free_bytes=machine.memory_free_bytes,
            running=running,
            queue=waiting,
        )

    # What is told.

    def counts(self) -> dict[str, float]:
        """Members in each state, this one included."""
        counted = Counter(str(row["state"]) for row in self.rows())
        return {state: float(counted[state]) for state in STATES}

    def gauges(self, gauge: Callable[[str, Gauge], None]) -> None:
        """Tell who shows figures where those of the cluster are read."""
        gauge("mcp_nodes", self.counts)
        gauge("mcp_model_version_info", self.versions)
        for name, read in FACT_FIGURES.items():
            gauge(name, partial(self._figure, read))

    def _figure(self, read: FactFigure) -> Answer:
        return {} if self.member is None else read(self.member.facts)

    def versions(self) -> dict[tuple[str, str, str], float]:
        """1 for each node, model and version that is offered."""
        return {(m.id, name, version): 1.0 for m in self._nodes() if m.present for name, version in m.record.models}

    def served_versions(self, model: str) -> list[tuple[str, str]]:
        """Address and version of each node that offers a model and takes requests."""
        takes = [m for m in self._nodes() if self._takes(m)]
        return sorted(
            (self._url(m.record), version) for m in takes for name, version in m.record.models if name == model
        )

    def other_servers(self) -> list[str]:
        """Addresses of other servers that take requests, the first few by name."""
        members = self.member.members.values() if self.member is not None else ()
        takes = (m.record for m in members if m.present and m.record.role == "server" and not m.record.draining)
        return [each.address for each in sorted(takes, key=lambda record: record.id) if each.address][:ALTERNATIVES_MAX]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each member, this one first."""
        me = self.member
        if me is None:
            return []
        now_s = clock.monotonic()
        facts = me.facts
        mine = _row(me.me, "draining" if me.me.draining else "alive", me.load)
        return [
            mine | _set_on(facts, me.me.id) | {"self": True, "last_heard_s": 0.0, "delay_ms": 0.0},
            *(
                _row(member.record, member.state, member.load)
                | _set_on(facts, member.id)
                | {
                    "self": False,
                    "last_heard_s": round(now_s - member.heard_s, 3),
                    "delay_ms": None if member.delay_s is None else round(member.delay_s * 1000, 3),
                }
                for member in sorted(me.members.values(), key=lambda each: (each.record.role != "server", each.id))
            ),
        ]

    def set_note(self, member_id: str, text: str, version: str) -> dict[str, Any]:
        """Set the note on a member, at all servers; see `node_notes.set_note`.

        Raises:
            RequestError: `not_found`, `conflict`, `invalid_request`.
        """
        me = self.member
        if me is None or (member_id != me.me.id and member_id not in me.members):
            raise RequestError("not_found", f"there is no member {member_id!r}")
        return {"id": member_id, **set_note(me.facts, member_id, text, version)}

    def set_drained(self, member_id: str, drained: bool) -> dict[str, Any]:
        """Have no server send new requests to a node, or have them do so again.

        Raises:
            RequestError: `not_found`; `invalid_request`: it is no node.
        """
        me = self.member
        if me is None or (member_id != me.me.id and member_id not in me.members):
            raise RequestError("not_found", f"there is no member {member_id!r}")
        if member_id == me.me.id or me.members[member_id].record.role != "node":
            raise RequestError("invalid_request", f"{member_id!r} is a server; a signal drains it (SIGTERM)")
        set_drained(me.facts, member_id, drained)
        return {"id": member_id, **_set_on(me.facts, member_id)}


def _set_on(facts: ClusterFacts, member_id: str) -> dict[str, Any]:
    """What operators have set on a member."""
    return {**note_of(facts, member_id), "drained": is_drained(facts, member_id)}


def _row(record: Record, state: str, load: LoadReport | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "role": record.role,
        "class": record.node_class,
        "state": state,
        "address": record.address,
        "gossip": record.gossip,
        "incarnation": record.incarnation,
        "models": [{"name": name, "version": version} for name, version in record.models],
        "load": None if load is None else _load_row(load),
    }


def _load_row(load: LoadReport) -> dict[str, Any]:
    return {
        "cpu": round(load.cpu, 3),
        "memory_free": round(load.memory_free, 3),
        "memory_free_bytes": load.memory_free_bytes,
        "batch_fill": round(load.batch_fill, 3),
        "slots": load.slots,
        "running": load.running,
        "queue": load.queue,
        "tokens_per_s": round(load.tokens_per_s, 1),
    }
