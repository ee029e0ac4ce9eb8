"""A node process: engines behind the framed listener, a health listener, a place in the cluster, an orderly end.

| state | SIGTERM, SIGINT |
|---|---|
| serving | draining: no new requests, running ones have `drain_s`; then the end |
| draining | exit at once, code 130 |

Invariant: what the cluster is told to find here is served already, and is told to go before it ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from open_autoglm import __version__, clock
from open_autoglm.cluster.member import ClusterMember
from open_autoglm.cluster.settings import ClusterSettings, node_key
from open_autoglm.errors import AutoGLMError, ConfigError, ServerError
from open_autoglm.inference import node_figures
from open_autoglm.inference.load_watch import LoadWatch
from open_autoglm.inference.node_http import NodeHttp
from open_autoglm.inference.node_updates import NodeUpdates
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.inference.service import CommandReply, NodeService
from open_autoglm.inference.settings import NodeSettings
from open_autoglm.inference.sources import open_engine
from open_autoglm.membership.member import join_address
from open_autoglm.membership.seal import derive_key
from open_autoglm.secret import Secret
from open_autoglm.telemetry.logs import configure
from open_autoglm.telemetry.settings import LoggingSettings
from open_autoglm.transport.framed_server import FramedServer
from open_autoglm.transport.framed_shell import Flusher
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.settings import TlsFiles, WireLimits
from open_autoglm.transport.tls import listener_context

_log = logging.getLogger(__name__)
_SWITCH_INTERVAL_S: Final = 0.001
"""An engine's thread gives the event loop its turn within this time; Python's own is 5 ms."""
_LOOK_S: Final = 0.05
_LAST_WORDS_S: Final = 1.0
_INTERRUPTED: Final = 130
_TAKEN: Final = (98, 48)


@dataclass(frozen=True, slots=True)
class StartedNode:
    """A node that takes requests.

    Attributes:
        address, admin_address: host and port.
        node_class: what it runs on.
        tls: whether it speaks TLS there.
        models: as `node_figures.describe` says them.
        cluster: name in the cluster; empty for a node that stands alone.
    """

    address: tuple[str, int]
    admin_address: tuple[str, int]
    node_class: str
    tls: bool
    models: list[dict[str, Any]]
    cluster: str


class Node:
    """See the module.

    Args:
        settings: checked.
        models: opened, not started.
        loop: where it runs.
    """

    def __init__(self, settings: NodeSettings, models: list[ServedModel], loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._models = models
        self.service = NodeService({model.name: model for model in models}, loop, peer_keys(settings.secret))
        self.service.commands |= {"status": self._tell_status, "models": self._tell_models, "drain": self._begin_drain}
        limits = WireLimits()
        self._data = HttpServer(NodeHttp(self._unready), limits, loop)
        self._framed = FramedServer(self._data, self.service, Flusher(loop), loop)
        self._admin = HttpServer(NodeHttp(self._unready, self._metrics), limits, loop)
        self._load = LoadWatch(models, self.service.tell_load, loop)
        self._member: ClusterMember | None = None
        self._versions: tuple[tuple[str, str], ...] = ()
        self._updates: NodeUpdates | None = None
        self._stopping = asyncio.Event()
        self.address: tuple[str, int] = ("", 0)
        self.admin_address: tuple[str, int] = ("", 0)

    async def start(self) -> StartedNode:
        """Open the listeners, start the engines and join the cluster.

        Raises:
            ServerError: a port is taken, or cannot be had.
        """
        settings = self._settings
        if settings.data_dir is not None:
            self._updates = self._take_updates(Path(settings.data_dir))
        for model in self._models:
            model.engine.start()
        self.address = await _listen(self._data, settings.host, settings.port, "port", _tls(settings.tls))
        self.admin_address = await _listen(self._admin, "127.0.0.1", settings.admin_port, "admin-port")
        self._load.start()
        if self._updates is not None:
            self._updates.start()
        name = ""
        if settings.join:
            name = await self._join()
        models = [node_figures.describe(model) for model in self._models]
        _log.info(
            "open-autoglm %s, a node at %s:%d for %s",
            __version__,
            *self.address,
            ", ".join(model.name for model in self._models),
        )
        tls = settings.tls.cert is not None
        return StartedNode(self.address, self.admin_address, settings.node_class, tls, models, name)

    def stop(self) -> None:
        """Begin the end; when it has begun already, end at once."""
        if self._stopping.is_set():
            os._exit(_INTERRUPTED)
        self._stopping.set()

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        await self._stopping.wait()
        self._drain()
        await _wait(lambda: self.service.in_flight == 0, self._settings.drain_s)

    async def close(self) -> None:
        """Fail what is left, say good-bye, and close everything."""
        self._load.close()
        if self._member is not None:
            await self._member.leave()
        if self._updates is not None:
            await self._updates.close()
        for model in self._models:
            await self._loop.run_in_executor(None, model.engine.close)
        self.service.outbox.drain()
        self.service.close()

        def left() -> bool:
            self._framed.close_drained()
            return not self._framed.shells

        await _wait(left, _LAST_WORDS_S)
        self._framed.close()
        for listener in (self._data, self._admin):
            listener.close_listeners()
            listener.abort()

    def _drain(self) -> None:
        if self.service.draining:
            return
        _log.info("draining: %d requests run", self.service.in_flight)
        if self._member is not None:
            self._member.drain()
        self.service.drain(self._settings.drain_s)

    def _take_updates(self, data_dir: Path) -> NodeUpdates:
        secret = self._settings.secret
        key = derive_key(secret.reveal().encode(), "models") if secret is not None else None
        try:
            updates = NodeUpdates(
                {model.name: model.engine for model in self._models},
                data_dir,
                key,
                sources={model.name: model.source for model in self._models},
                settings=self._settings.engine,
            )
        except (AutoGLMError, OSError) as error:
            raise ServerError("internal_error", f"--data-dir {data_dir}: {error}") from error
        self.service.updates = updates.desk
        self.service.commands |= updates.commands
        return updates

    async def _join(self) -> str:
        settings = self._settings
        host, port = self.address
        cluster = ClusterSettings(
            secret=settings.secret,
            join=list(settings.join),
            bind=join_address(host, settings.gossip_port),
            advertise=settings.advertise,
            name=settings.name,
        )
        self._member = await ClusterMember.start(
            cluster,
            role="node",
            node_class=settings.node_class,
            address=join_address(settings.advertise or host, port),
            models=self._told_versions(),
            port_option="gossip-port",
        )
        self._member.watch_load(self._load.read)
        self._tell_versions()
        return self._member.me.id

    def _told_versions(self) -> tuple[tuple[str, str], ...]:
        return tuple((model.name, model.engine.version) for model in self._models)

    def _tell_versions(self) -> None:
        """Look once a second whether another version is current, and tell the cluster."""
        member = self._member
        if member is None or self._stopping.is_set():
            return
        self._loop.call_later(1.0, self._tell_versions)
        versions = self._told_versions()
        if versions != self._versions:
            self._versions = versions
            member.set_models(versions)

    def _unready(self) -> str:
        return "the node is stopping" if self.service.draining else ""

    def _metrics(self) -> bytes:
        node = f"{self.address[0]}:{self.address[1]}"
        service = self.service
        updates = None if self._updates is None else self._updates.counts
        return node_figures.render(
            self._models, service.connections, draining=service.draining, node=node, updates=updates
        )

    # Commands of servers.

    def _tell_status(self, fields: dict[str, Any], reply: CommandReply) -> None:
        reply(
            {
                "class": self._settings.node_class,
                "draining": self.service.draining,
                "in_flight": self.service.in_flight,
                "connections": self.service.connections,
                "version": __version__,
                "models": [node_figures.describe(model) for model in self._models],
            }
        )

    def _tell_models(self, fields: dict[str, Any], reply: CommandReply) -> None:
        reply({"models": [node_figures.describe(model) for model in self._models]})

    def _begin_drain(self, fields: dict[str, Any], reply: CommandReply) -> None:
        reply({"draining": True, "in_flight": self.service.in_flight})
        self._drain()


def run_node(settings: NodeSettings, on_ready: Callable[[StartedNode], None] | None = None) -> int:
    """Run a node until a signal; return an exit code.

    Args:
        settings: what was typed.
        on_ready: called once requests are taken, on the event loop: it must not block.

    Raises:
        ServerError: a model cannot be opened, a port is taken, a setting makes no sense.
    """
    settings.check()
    configure(LoggingSettings())
    models = [ServedModel(name, source, open_engine(name, source, settings.engine)) for name, source in settings.models]
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        return runner.run(_main(settings, models, on_ready))


def peer_keys(secret: Secret | None) -> tuple[Secret, ...]:
    """Keys that let a server in: the one that members derive from the secret, or the secret as it is typed."""
    if secret is None:
        return ()
    return node_key(secret), secret


async def _main(
    settings: NodeSettings, models: list[ServedModel], on_ready: Callable[[StartedNode], None] | None
) -> int:
    loop = asyncio.get_running_loop()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    node = Node(settings, models, loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        started = await node.start()
        gc.collect()
        gc.freeze()  # what was made at the start is not looked through again, with every thread held up
        if on_ready is not None:
            on_ready(started)
        await node.run()
    finally:
        await node.close()
    return 0


async def _wait(over: Callable[[], bool], timeout_s: float) -> None:
    """Wait until something is over, or for so long."""
    until_s = clock.monotonic() + timeout_s
    while not over():
        if clock.monotonic() >= until_s:
            return
        await asyncio.sleep(_LOOK_S)


def _loop_factory(settings: NodeSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.standard_loop:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _tls(files: TlsFiles) -> ssl.SSLContext | None:
    try:
        return listener_context(files)
    except ConfigError as error:
        raise ServerError("internal_error", f"--tls-cert: {error.problems[0].message}") from error


async def _listen(
    listener: HttpServer, host: str, port: int, option: str, tls: ssl.SSLContext | None = None
) -> tuple[str, int]:
    try:
        return await listener.listen(host, port, tls)
    except OSError as error:
        reason = (
            f"is taken; choose another one with --{option}, or 0 for a free one"
            if error.errno in _TAKEN
            else f"cannot be had: {error.strerror or error}"
        )
        raise ServerError("internal_error", f"{host}:{port} {reason}") from error
