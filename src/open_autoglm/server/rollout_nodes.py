"""What rollouts need of a running server: its nodes, their endpoints and figures, and links to tell them something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.backends.node import NodeBackend
from open_autoglm.backends.node_command import command
from open_autoglm.errors import UpstreamError
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.server.rollout_facts import RolloutFacts
from open_autoglm.server.rollouts import Nodes, Served

if TYPE_CHECKING:
    from open_autoglm.server.server import Server

TELL_S: Final = 60.0
"""A node reads and validates a version before it serves it."""


class ServerNodes(Nodes):
    """See `rollouts.Nodes`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def served(self, model: str) -> list[Served]:
        discovery = self._server.discovery
        known = [] if discovery is None else discovery.served_versions(model)
        mine = {part.endpoint.url for part in self._server.assembly.parts.values() if part.endpoint.model == model}
        return [Served(url, version) for url, version in known if url in mine]

    def endpoints(self, model: str) -> Iterable[Endpoint]:
        return [part.endpoint for part in self._server.assembly.parts.values() if part.endpoint.model == model]

    def group(self, model: str) -> Group | None:
        plan = self._server.gateway.snapshot.plans.get(model)
        return None if plan is None else plan.legs[0].group

    def counts(self, endpoint: Endpoint) -> Mapping[str, int]:
        return self._server.metrics.endpoint(endpoint.model, endpoint.name).counts

    def tell(self, url: str, fields: dict[str, Any]) -> Awaitable[dict[str, Any]]:
        for part in self._server.assembly.parts.values():
            if part.endpoint.url == url and isinstance(part.backend, NodeBackend):
                return command(part.backend, fields, TELL_S)
        raise UpstreamError("upstream_error", f"there is no node at {url} any more")

    def keep_together(self, models: frozenset[str]) -> None:
        gateway = self._server.gateway
        if gateway.snapshot.steered != models:
            # Another object, so that whoever keeps something of the one before makes it anew.
            changed = copy(gateway.snapshot)
            changed.steered = models
            gateway.adopt(changed)

    def facts(self) -> RolloutFacts | None:
        discovery = self._server.discovery
        return None if discovery is None or discovery.member is None else RolloutFacts(discovery.member.facts)

    def listen(self, hear: Callable[[str], None]) -> None:
        if self._server.discovery is not None:
            self._server.discovery.on_fact.append(hear)
