"""One server process from start to stop: the composition root.

Start order: the configuration is built whole, then the data listener opens, then the admin listener. A reload goes
through the same `build`; nothing of it is visible before all of it is ready. Stop order is the reverse.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from open_autoglm import clock
from open_autoglm.backends.backend import Backend
from open_autoglm.backends.caller import Origin
from open_autoglm.config import Loaded, Revision, Revisions, diff_configs, load_config, needs_restart, parse_config
from open_autoglm.config.schema import ModelEntry, ServerConfig
from open_autoglm.cooperation.knowledge import Library
from open_autoglm.errors import ConfigError, ServerError
from open_autoglm.gateway.framed import FramedGateway
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.member_call import MemberDesk
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.gateway.tickets import TicketOffice
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.server.accounts import Accountant
from open_autoglm.server.admin_key import find_admin_key
from open_autoglm.server.assembly import Assembly, Built, unavailable
from open_autoglm.server.audit_desk import AuditDesk
from open_autoglm.server.dialects import PLAIN_FACE
from open_autoglm.server.direct_accounts import DirectAccountant
from open_autoglm.server.drain import Drain
from open_autoglm.server.drain_run import run_drain
from open_autoglm.server.figures import register_figures
from open_autoglm.server.grpc_door import GrpcDoor
from open_autoglm.server.health import Health
from open_autoglm.server.lag_witness import LagWitness
from open_autoglm.server.models_view import models_view
from open_autoglm.server.options import Place, ServeOptions, Started
from open_autoglm.server.overload_watch import OverloadWatch
from open_autoglm.server.relayed_accounts import RelayedAccountant
from open_autoglm.server.rollout_nodes import ServerNodes
from open_autoglm.server.rollouts import Rollouts
from open_autoglm.server.teams import Teams
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.loop_lag import LoopLag
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.transport.framed_server import FramedServer
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.ports import listen_or_tell
from open_autoglm.transport.settings import WireLimits, connection_settings
from open_autoglm.transport.tls import listener_context

if TYPE_CHECKING:
    from open_autoglm.backends.embedded_engine import EmbeddedBackend
    from open_autoglm.server.admin import AdminControl
    from open_autoglm.server.admin_listener import AdminListener
    from open_autoglm.server.context_endpoint import ContextEndpoint
    from open_autoglm.server.discovery import Discovery
    from open_autoglm.server.runs import Runs

_log = logging.getLogger(__name__)
_SWEEP_S = 1.0
_LOOK_S = 0.5
_PEPPER_BYTES = 32
_ALONE = Place()


class Server:
    """See the module.

    Args:
        loaded: the configuration to start with.
        options: what was typed.
        loop: where everything runs.
        request_log: already started.
        rng: of balancers, breakers and backoff; a simulation gives its own.
        place: this process among those of the server.
        revisions: that the server has had, when this process takes another one's place.

    Attributes:
        on_applied: told of each configuration that was made the active one, and by whom.
    """

    def __init__(
        self,
        loaded: Loaded,
        options: ServeOptions,
        loop: asyncio.AbstractEventLoop,
        request_log: RequestLog,
        *,
        rng: random.Random | None = None,
        place: Place = _ALONE,
        revisions: Revisions | None = None,
    ) -> None:
        self.options = options
        self.place = place
        self.started_s = clock.monotonic()
        self.revisions = revisions if revisions is not None else Revisions()
        self.on_applied: Callable[[Loaded, str], None] | None = None
        self.revision: Revision = self.revisions.propose(loaded, "start", clock.wall())
        self._loop = loop
        self._rng = rng if rng is not None else random.Random()
        self._engines: dict[str, EmbeddedBackend] = {}
        self.tickets = TicketOffice(DirectAccountant(lambda: self.metrics), loaded.config.tickets)
        pepper = secrets.token_bytes(_PEPPER_BYTES)
        config = loaded.config
        # Of several processes one keeps what virtual models learn; the others begin with it.
        self.teams = Teams(Library(config.server.data_dir, writes=place.index == 0), self._rng, loop)
        self.audit = AuditDesk(config, self.teams)
        self.assembly = Assembly(
            loop, self._rng, pepper, self._open_embedded, clock.monotonic, teams=self.teams, usage=self.tickets
        )
        self.discovery = self._discovery(config) if config.cluster.secret is not None else None
        built = self._build(loaded, self.revision.number)
        self.assembly.adopt(built)
        self.metrics = Metrics(lambda: self.gateway.snapshot.plans.keys())
        self.explain = ExplainStore(config.explain.keep)
        self.request_log = request_log
        self._accountant = Accountant(self.metrics, request_log, self.explain, loop)
        self.sources = SourceWatch(config.sources, self.assembly.pace)
        self.gateway = Gateway(
            built.snapshot,
            self._accountant,
            loop,
            PLAIN_FACE,
            ready=self.unready_reason,
            rng=self._rng,
            sources=self.sources,
        )
        self.teams.desk = MemberDesk(self.gateway, self._rng)
        self.data = HttpServer(self.gateway, self._wire(config), loop)
        self.grpc = GrpcDoor(self.gateway)
        self.relayed = RelayedAccountant(self.metrics, request_log, self.explain)
        self.framed = self._open_framed(config)
        self.tickets.open(self.framed)
        self.relayed.collect = self.framed.collect
        self.framed_data = FramedServer(self.data, self.framed, self.assembly.flusher, loop)
        self.framed_data.stream_target = self.framed.stream_target
        self.admin_key = find_admin_key(config.server)
        self.admin_address: tuple[str, int] | None = None
        self.data_address: tuple[str, int] = ("", 0)
        self._adopt_sources()
        self.overload = OverloadWatch(self)
        self.lag = LoopLag()
        self._admin: AdminListener | None = None
        self.runs: Runs | None = None
        self._context: ContextEndpoint | None = None
        self._witness: LagWitness | None = None
        self.health = Health(self.assembly, loop, self._rng)
        self.health.on_away = self._doubt
        self._sweep_handle: asyncio.TimerHandle | None = None
        self.leaving = False
        register_figures(self)

    @functools.cached_property
    def rollouts(self) -> Rollouts:
        """Rollouts of models over the nodes."""
        return Rollouts(ServerNodes(self), self._rng)

    @property
    def config(self) -> ServerConfig:
        """The active configuration."""
        return self.revision.loaded.config

    def unready_reason(self) -> str:
        """Why requests cannot be served now; empty when they can."""
        if not self.gateway.snapshot.plans:
            return self.gateway.snapshot.absence
        now_s, virtual = clock.monotonic(), self.config.cooperation
        parts = [part for part in self.assembly.parts.values() if part.endpoint.model not in virtual]
        if not any(part.breaker.permits(now_s) for part in parts):
            return "no endpoint is healthy"
        return ""

    # Life.

    async def start(self, inherited: Sequence[socket.socket] = ()) -> None:
        """Open the data listener, or take over sockets that are open.

        Raises:
            ServerError: a port is taken, or an address cannot be had.
            ConfigError: the TLS files cannot be used.
        """
        config = self.config
        server = config.server
        tls = listener_context(config.tls)
        if self.discovery is not None:
            await self.discovery.start(replaces=bool(inherited))
        self.data_address = await listen_or_tell(
            lambda: self.data.listen(server.host, server.port, tls, inherited), server.host, server.port, "port"
        )
        if server.unix is not None:
            try:
                await self.data.listen_unix(server.unix, inherited)
            except OSError as error:
                raise ServerError("internal_error", f"server.unix: {server.unix!r} {error.strerror}") from error
        if inherited and server.port not in (0, self.data_address[1]):
            _log.warning("the socket that was handed over, on port %d, goes over server.port", self.data_address[1])
        await self.grpc.open(config, beside=bool(inherited) or not self.place.is_alone)
        self.gateway.start()
        self.framed.start()
        if self.discovery is not None:
            self.discovery.set_address(*self.data_address)
        self.lag.start(self._loop)
        self.overload.start(self._loop)
        self._sweep()

    async def start_admin(self, inherited: Sequence[socket.socket] = (), control: AdminControl | None = None) -> None:
        """Open the admin listener, or take over sockets that are open.

        Apart from `start`, so that the first answer need not wait for its imports.

        Args:
            inherited: the sockets.
            control: what it asks; this server alone when left out.

        Raises:
            ServerError: its port is taken.
        """
        from open_autoglm.server.admin import build_admin, serve_admin
        from open_autoglm.server.runs import Runs

        self.runs = Runs(self)
        server = self.config.server
        port = server.admin_port
        if control is None:
            from open_autoglm.server.control import Control

            control = Control(self)
        from open_autoglm.server.context_endpoint import ContextEndpoint
        from open_autoglm.server.context_face import ContextFace
        from open_autoglm.server.context_offer import ContextOffer

        caller = self.teams.caller(Origin(client="context protocol"))
        offer = ContextOffer(self.config.context, self.teams.tools.desk)
        self._context = ContextEndpoint(ContextFace(control, caller, offer))
        app = build_admin(control, key=self.admin_key, allowed_hosts=(server.admin_host,), context=self._context)
        admin = await listen_or_tell(
            lambda: serve_admin(app, server.admin_host, port, socks=inherited), server.admin_host, port, "admin-port"
        )
        self._admin = admin
        self.admin_address = admin.address
        if offer.is_wanted:
            self._context.begin()
        self._witness = LagWitness(self.lag.late_s, admin.sockets, admin.serve, self._loop)
        self._witness.start()
        self.runs.start()

    async def look_around(self) -> None:
        """Ask every endpoint whether it is there, for half a second at most, so that the first table tells."""
        await self.health.first_look(_LOOK_S)

    @property
    def sockets(self) -> list[tuple[str, int]]:
        """Name and descriptor of every listening socket, for a process that takes them over."""
        admin = self._admin.sockets if self._admin is not None else []
        return [("data", sock.fileno()) for sock in self.data.sockets] + [("admin", sock.fileno()) for sock in admin]

    def hand_over(self) -> None:
        """Leave the listening sockets to another process; what is open here goes on."""
        self.leaving = True
        self.data.close_listeners()
        if self.discovery is not None:
            self.discovery.close()
        if self._witness is not None:
            self._witness.close()
        if self._admin is not None:
            self._admin.close_listeners()

    async def drain(self, *, hurry: bool = False, replaced: bool = False) -> None:
        """Finish what is begun, by the timeline of `drain.py`; then only `stop` is left to do.

        Args:
            hurry: nobody needs to learn of it first.
            replaced: another process serves on the same sockets, after `hand_over`.
        """
        self.leaving = True
        self.gateway.draining = not replaced  # a probe that asks here still means the service
        if self.discovery is not None and not replaced:
            self.discovery.drain()
        async with asyncio.TaskGroup() as group:
            if self.runs is not None:
                group.create_task(self.runs.close(self.config.drain.unary_s))
            await run_drain(self, Drain(self.config.drain, clock.monotonic(), hurry=hurry, replaced=replaced))

    async def stop(self) -> None:
        """Close everything, once nothing more is to be waited for."""
        if self.runs is not None:
            await self.runs.close(self.config.drain.unary_s)
        self.data.close_listeners()
        if self.discovery is not None:
            await self.discovery.leave()
        await self.grpc.close()
        self.framed.stop()
        self.gateway.stop()
        self.lag.close()
        self.health.close()
        self.overload.close()
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        self.assembly.close()
        await self.teams.close()
        await self.audit.close()
        for engine in self._engines.values():
            engine.stop()
        if self._witness is not None:
            self._witness.close()
        if self._context is not None:
            await self._context.close()
        if self._admin is not None:
            await self._admin.close()
        await asyncio.sleep(0)
        self.framed_data.close()
        self.data.abort()

    # Configuration.

    def reload(self, by: str) -> Revision:
        """Read the file again and apply it.

        Raises:
            ConfigError: with every problem; nothing has changed.
        """
        path = self.options.config_path
        try:
            loaded = load_config(path, self.options.environ(os.environ), insecure=self.options.insecure)
        except ConfigError as error:
            self._refused(error, by)
            raise
        return self.apply(loaded, by)

    def apply(self, loaded: Loaded, by: str) -> Revision:
        """Make a configuration the active one, whole or not at all.

        Raises:
            ConfigError: something it names cannot be made; nothing has changed.
        """
        if loaded.config == self.config:
            return self.revision
        try:
            built = self._build(loaded, self.revisions.next_number)
        except ConfigError as error:
            self._refused(error, by)
            raise
        before = self.config
        revision = self.revisions.propose(loaded, by, clock.wall())
        self.assembly.adopt(built)
        self.gateway.adopt(built.snapshot)
        self.rollouts.renew()
        self.revision = revision
        self._adopt_sources()
        self.overload.renew()
        if self.discovery is not None:
            self.discovery.weigh()
        if before.wire != built.config.wire:
            self.data.renew_limits(self._wire(built.config))
        self.audit.renew(built.config)
        self._accountant.forget()
        self.framed.renew(
            built.config.explain.relayed, connection_settings(built.config.frames, built.config.wire.body_bytes)
        )
        self.tickets.settings = built.config.tickets
        self.metrics.config_reloaded("applied")
        _log.info("configuration revision %d is active, by %s", revision.number, by)
        for warning in loaded.warnings:
            _log.warning("configuration: %s", warning)
        for change in needs_restart(diff_configs(before, loaded.config)):
            _log.warning("configuration: %s takes effect at the next start", change.path)
        if self.on_applied is not None:
            self.on_applied(loaded, by)
        return revision

    def apply_text(self, text: str, by: str) -> Revision:
        """Check a configuration that came over the API, and make it the active one.

        Raises:
            ConfigError: with every problem; nothing has changed.
        """
        try:
            loaded = parse_config(text, source=by, environ=os.environ, trusted=False, insecure=self.options.insecure)
        except ConfigError as error:
            self._refused(error, by)
            raise
        return self.apply(loaded, by)

    def _refused(self, error: ConfigError, by: str) -> None:
        self.metrics.config_reloaded("refused")
        for problem in error.problems:
            _log.error("config_reload_failed by %s, revision %d serves on: %s", by, self.revision.number, problem)

    def _build(self, loaded: Loaded, number: int) -> Built:
        config = loaded.config if self.discovery is None else self.discovery.extended(loaded.config)
        return self.assembly.build(config, number, int(clock.wall()))

    def _renew_models(self) -> None:
        """Serve by the same revision what nodes offer now; what cannot be made leaves all as it is."""
        try:
            built = self._build(self.revision.loaded, self.revision.number)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("models of nodes cannot be served: %s", problem)
            return
        self.assembly.adopt(built)
        self.gateway.adopt(built.snapshot)
        self.rollouts.renew()
        self._adopt_sources()
        self._accountant.forget()

    def _discovery(self, config: ServerConfig) -> Discovery:
        from open_autoglm.server.discovery import Discovery

        return Discovery(
            config.cluster,
            self._loop,
            parts=lambda: self.assembly.parts.values(),
            renew=self._renew_models,
            busy=lambda: (self.gateway.in_flight, int(sum(self.gateway.queue_depths().values()))),
        )

    def _wire(self, config: ServerConfig) -> WireLimits:
        """The limits of this process's connections: those of the server are for all processes together."""
        wire, part = config.wire, self.place.part
        return replace(
            wire, connections=part(wire.connections), connections_per_address=part(wire.connections_per_address)
        )

    def _open_framed(self, config: ServerConfig) -> FramedGateway:
        return FramedGateway(
            self.gateway,
            self.relayed,
            self.sources,
            self._loop,
            settings=connection_settings(config.frames, config.wire.body_bytes),
            keep_share=config.explain.relayed,
            # A client that comes again may reach another process, which knows nothing of its streams.
            resumable=self.place.is_alone,
        )

    def _open_embedded(self, entry: ModelEntry) -> Backend:
        name = entry.endpoint.removeprefix("embedded:")
        backend = self._engines.get(name)
        if backend is None:
            from open_autoglm.backends.embedded_engine import open_embedded

            try:
                backend = open_embedded(name, self._loop)
            except (LookupError, ValueError, OSError, ServerError) as error:
                raise unavailable(entry, str(error)) from error
            self._engines[name] = backend
        return backend

    # Figures.

    def _adopt_sources(self) -> None:
        snapshot = self.gateway.snapshot
        principals = snapshot.keys.principals() if snapshot.keys is not None else []
        self.sources.adopt(self.config.sources, principals, snapshot.proxies, clock.monotonic())
        self.data.proxies = snapshot.proxies

    def _doubt(self, endpoint: Endpoint) -> None:
        self.gateway.doubt(endpoint)
        self.framed.doubt(endpoint)

    def describe(self) -> Started:
        """What to tell whoever started the server."""
        loaded = self.revision.loaded
        return Started(
            data_address=self.data_address,
            admin_address=self.admin_address,
            admin_key=self.admin_key,
            models=models_view(self),
            warnings=loaded.warnings,
            tls=loaded.config.tls.cert is not None,
            context_path=loaded.config.server.context_path,
            grpc_port=self.grpc.port,
            clustered=self.discovery is not None,
        )

    def _sweep(self) -> None:
        # The next one first: whatever fails here fails loudly, and not for ever.
        self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)
        now_s = clock.monotonic()
        for part in self.assembly.parts.values():
            part.backend.sweep(now_s)
        self.health.sweep(now_s, self.config, self.lag.usual_s())
        self.rollouts.sweep(now_s)
        self.tickets.book.sweep(now_s)
        self.teams.sweep(now_s)
