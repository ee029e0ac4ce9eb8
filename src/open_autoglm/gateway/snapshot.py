"""Everything that a configuration says about serving requests, in one object that is never changed.

A request takes the snapshot that is current when its head arrives and keeps it to its end, so no request ever sees a
mixture of two configurations. A reload builds a new one beside it and swaps a single reference.
"""

from __future__ import annotations

from typing import Literal

from open_autoglm.admission.networks import Networks
from open_autoglm.dialects.face import Face
from open_autoglm.exchange.plan import Plan
from open_autoglm.security.keys import KeyRing, Principal

NAME_SAFE = "/:@+,;=.-_~ "
"""Characters of a model's name that stand in a header as they are; others are percent-encoded."""

Scope = Literal["public", "models", "infer"]
"""Who may call a route: everybody, any key, any key whose models include the one asked for."""


class Route:
    """One route of the data listener.

    Attributes:
        pattern: as in metrics and documents.
        method: `b"GET"` or `b"POST"`.
        scope: see `Scope`; every route declares one.
        face: the dialect that is spoken here; None for routes that answer themselves.
    """

    __slots__ = ("face", "method", "pattern", "scope")

    def __init__(self, pattern: str, method: bytes, scope: Scope, face: Face | None = None) -> None:
        self.pattern = pattern
        self.method = method
        self.scope: Scope = scope
        self.face = face


class Listing:
    """A model name as clients see it in the list of models."""

    __slots__ = ("context_window", "created_s", "name", "owner")

    def __init__(self, name: str, created_s: int, owner: str, context_window: int) -> None:
        self.name = name
        self.created_s = created_s
        self.owner = owner
        self.context_window = context_window


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
        affinity: what the balancers want to know of a request.
        steered: models of which requests of one session have the same affinity whatever the balancers want, because
            two versions of them serve.
        proxies: whose `x-forwarded-for` is believed.
        absence: what to say while there is no model at all.
    """

    __slots__ = (
        "absence",
        "affinity",
        "anonymous",
        "context_path",
        "default_model",
        "keys",
        "listings",
        "model_headers",
        "plans",
        "proxies",
        "revision",
        "routes",
        "steered",
    )

    def __init__(
        self,
        revision: int,
        context_path: str,
        routes: dict[bytes, Route],
        plans: dict[str, Plan],
        default_model: str,
        *,
        keys: KeyRing | None,
        anonymous: Principal,
        listings: tuple[Listing, ...] = (),
        affinity: Literal["none", "client", "session"] = "none",
        model_headers: dict[str, str] | None = None,
        proxies: Networks | None = None,
    ) -> None:
        self.revision = revision
        self.context_path = context_path
        self.routes = routes
        self.plans = plans
        self.default_model = default_model
        self.keys = keys
        self.anonymous = anonymous
        self.listings = listings
        self.affinity: Literal["none", "client", "session"] = affinity
        self.steered: frozenset[str] = frozenset()
        self.absence = "no model is configured; add one under `models:`"
        self.model_headers = model_headers or {}
        self.proxies = Networks(()) if proxies is None else proxies

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
