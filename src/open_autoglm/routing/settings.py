"""Settings of routing: which strategy chooses among the endpoints of a name, and where a request may fall back to."""

from typing import Literal

from msgspec import Struct

Strategy = Literal[
    "round_robin",
    "weighted",
    "least_connections",
    "inverse_load",
    "power_of_two",
    "latency",
    "cost",
    "ip_hash",
    "consistent_hash",
]


class RoutingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How a model name becomes an endpoint.

    Attributes:
        strategy: chooses among the endpoints of one name.
        default: the model for requests that name none; the only one, else the first, when left out.
        fallbacks: model name to the names tried in order after it.
    """

    strategy: Strategy = "least_connections"
    default: str | None = None
    fallbacks: dict[str, list[str]] = {}
