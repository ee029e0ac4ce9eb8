"""Everything that a configuration says about serving requests, in one immutable object.

A request takes the snapshot that is current when its head arrives and keeps it to its end, so no request ever sees a
mixture of two configurations. A reload builds a new one beside it and swaps a single reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from open_autoglm.admission.networks import Networks
from open_autoglm.dialects.face import Face
from open_autoglm.exchange.plan import Plan
from open_autoglm.security.keys import KeyRing, Principal

NAME_SAFE = "/:@+,;=.-_~ "
"""Characters of a model's name that stand in a header as they are; others are percent-encoded."""

Scope = Literal["public", "models", "infer"]
"""Who may call a route: everybody, any key, any key whose models include the one asked for."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the data listener.

    Attributes:
        pattern: as in metrics and documents.
        method: `b"GET"` or `b"POST"`.
        scope: see `Scope`; every route declares one.
        face: the dialect that is spoken here; None for routes that answer themselves.
    """

    pattern: str
    method: bytes
    scope: Scope
    face: Face | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A model name as clients see it in the list of models."""

    name: str
    created_s: int
    owner: str
    context_window: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """See the module.

    Attributes:
        revision: number of the configuration.
        context_path: before every route, `""` or `/api`.
        routes: by exact path, context path included.
        plans: by model name; `*` stands for any other name.
        default_model: for requests that name none; empty when there is no model at all.
        keys: None when authentication is off, and everybody is `anonymous`.
        listings: names that clients may ask for.
        affinity: what a plan's balancer wants to know of a request, by plan.
        proxies: whose `x-forwarded-for` is believed.
    """

    revision: int
    context_path: str
    routes: dict[bytes, Route]
    plans: dict[str, Plan]
    default_model: str
    keys: KeyRing | None
    anonymous: Principal
    listings: tuple[Listing, ...]
    affinity: Literal["none", "client", "session"] = "none"
    model_headers: dict[str, str] = field(default_factory=dict)
    proxies: Networks = field(default_factory=lambda: Networks(()))

    def visible(self, principal: Principal) -> list[Listing]:
        """The models that a key may see."""
        return [listing for listing in self.listings if principal.may_use(listing.name)]

    def plan(self, model: str, principal: Principal) -> Plan | None:
        """Return where requests for a model go, or None when there is none that this key may use."""
        plan = self.plans.get(model)
        if plan is None:
            plan = self.plans.get("*")
        if plan is None or (principal.models is not None and not principal.may_use(model)):
            return None
        return plan
