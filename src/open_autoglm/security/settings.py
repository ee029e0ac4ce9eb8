"""Settings of tickets."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

_Life = Annotated[float, Meta(ge=1, le=3600, extra={"quantity": "duration"})]


class TicketSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Tickets, by which clients ask nodes themselves.

    Attributes:
        enabled: whether any are written; all requests go through the server otherwise.
        requests: that a ticket is good for; fewer where the key's limits allow fewer.
        life_s: how long it is good. A key that is withdrawn may be used at nodes for so long at most.
    """

    enabled: bool = True
    requests: Annotated[int, Meta(ge=10, le=1_000_000)] = 20_000
    life_s: _Life = field(default=60.0, name="life")
