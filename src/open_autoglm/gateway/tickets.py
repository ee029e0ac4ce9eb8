"""Tickets: a client asks for one, and asks a node itself from then on.

The node is chosen as it is for a request, and what the key's limits still allow is taken from them at once. Invariant:
a ticket is written for a model that its key may use, on a node whose process is known, and never for more requests
than the key could make now.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend
from open_autoglm.backends.node_desk import NodeDesk
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.gateway.framed import FramedGateway
from open_autoglm.gateway.framed_peer import FramedPeer
from open_autoglm.gateway.framed_relay import Lane
from open_autoglm.gateway.usage_book import Lease, UsageAccounts, UsageBook
from open_autoglm.protocol.opcodes import TICKET, TICKET_REQUEST
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.security.keys import Principal
from open_autoglm.security.settings import TicketSettings
from open_autoglm.security.ticket import ISSUER_BYTES, Ticket, seal_ticket

_LEAST: Final = 10
"""A ticket for fewer requests is not worth its while; the server relays them."""
_PLACES_MAX: Final = 0xFFFF
_RETRY_S: Final = 1.0


class TicketOffice:
    """See the module; implements `backends.node_desk.UsageSink`.

    Args:
        accounts: told what nodes report.
        settings: of tickets; another object whenever the configuration changes.

    Attributes:
        settings: as above.
        issuer: see `UsageSink`.
        issued: tickets so far.
        book: of what they took.
    """

    def __init__(self, accounts: UsageAccounts, settings: TicketSettings) -> None:
        self.issuer = secrets.token_bytes(ISSUER_BYTES)
        self.issued = 0
        self.book = UsageBook(self.issuer.hex(), accounts)
        self.settings = settings

    def open(self, hub: FramedGateway) -> None:
        """Take TICKET_REQUEST from clients of a framed listener."""

        def on_request(peer: FramedPeer, flags: int, stream: int, arg: int, payload: bytes) -> None:
            self._on_request(hub, peer, stream, payload)

        hub.others[TICKET_REQUEST] = on_request

    def take(self, number: int, body: dict[str, Any]) -> None:
        """See `UsageSink`."""
        self.book.take(number, body, clock.monotonic())

    def issue(self, hub: FramedGateway, principal: Principal, model: str) -> dict[str, Any]:
        """Write a ticket.

        Args:
            hub: that knows where requests go.
            principal: who asks.
            model: by the name that clients use.

        Returns:
            The body of TICKET.

        Raises:
            RequestError: `model_not_found`, or `rate_limit_exceeded` by the key's limits.
            ServerError: `not_implemented`: requests for this model need the server; `no_healthy_endpoint`: no node
                takes tickets now; `overloaded`.
        """
        now_s = clock.monotonic()
        settings = self.settings
        if not settings.enabled:
            raise ServerError("not_implemented", "no tickets are written here")
        lane = self._lane(hub, principal, model)
        self.book.check_room()
        target, node, desk = _choose(lane, principal, now_s)
        requests, places = settings.requests, 0
        limiter = principal.limiter
        if limiter is not None:
            requests, places = limiter.lease(_LEAST, requests, now_s)
            if not requests:
                raise RequestError(
                    "rate_limit_exceeded",
                    f"the key {principal.name!r} has too little left for a ticket ({limiter.refused_by})",
                    retry_after_s=_RETRY_S,
                )
        self.issued = number = self.issued + 1
        life_ms = int(settings.life_s * 1000)
        lease = Lease(
            principal,
            (lane.group.name, target.name),
            _credit(lane, target),
            requests=requests,
            places=places,
            ends_s=now_s + settings.life_s,
        )
        self.book.open(number, lease)
        ticket = Ticket(
            self.issuer,
            number,
            principal.name,
            model,
            requests,
            desk.node_ms(now_s) + life_ms,
            principal.priority,
            min(places, _PLACES_MAX),
        )
        assert desk.key is not None
        return {
            "ticket": seal_ticket(ticket, desk.key),
            "node": desk.node,
            "address": target.url,
            "name": node.tls_name,
            "requests": requests,
            "concurrency": places,
            "expires_ms": life_ms,
        }

    def _on_request(self, hub: FramedGateway, peer: FramedPeer, stream: int, payload: bytes) -> None:
        principal = peer.current()
        if principal is None:
            return
        connection = peer.connection
        try:
            model = connection.codec.decode(payload).get("model")
            if not isinstance(model, str):
                raise RequestError("invalid_request", "TICKET_REQUEST names no model", param="model")
            told = self.issue(hub, principal, model)
            connection.end(TICKET, stream, connection.codec.encode(told))
        except AutoGLMError as error:
            connection.fail(stream, error)

    @staticmethod
    def _lane(hub: FramedGateway, principal: Principal, model: str) -> Lane:
        if principal.priority < hub.gateway.door.floor:
            raise ServerError("overloaded", "the server has too much to do", retry_after_s=_RETRY_S)
        name = model.encode()
        lanes = hub.lanes_of(principal)
        lane = lanes[name] if name in lanes else hub.lane(principal, name)
        if lane is not None:
            return lane
        if not model or hub.gateway.snapshot.plan(model, principal) is None:
            raise RequestError("model_not_found", f"there is no model {model!r:.80} for this key", param="model")
        raise ServerError("not_implemented", f"requests for the model {model!r:.80} go through the server")


def _credit(lane: Lane, target: Endpoint) -> Callable[[int], None]:
    """Who hears that a node answered: retries are allowed in proportion to what goes well."""
    budget = lane.leg.budget

    def credit(answered: int) -> None:
        budget.succeeded(answered)
        target.good += answered

    return credit


def _choose(lane: Lane, principal: Principal, now_s: float) -> tuple[Endpoint, NodeBackend, NodeDesk]:
    """Choose a node as for a request; one that takes no tickets is passed over."""
    group = lane.group
    tried: list[Endpoint] = []
    while len(tried) < len(group.endpoints):
        target = group.acquire(now_s, 0, tried, principal.priority)
        if target is None:
            break
        target.gate.release(group.permit, now_s)
        node = lane.nodes.get(target)
        if node is not None and node.desk is not None and node.desk.key is not None and node.connections:
            return target, node, node.desk
        tried.append(target)
    raise ServerError("no_healthy_endpoint", "no node takes tickets for this model now", retry_after_s=_RETRY_S)
