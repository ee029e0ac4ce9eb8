"""A client at a node that has shown tickets instead of the cluster's key: it may ask their models, and nothing else."""

from __future__ import annotations

from typing import Any

from open_autoglm.errors import RequestError
from open_autoglm.inference.ticket_desk import TicketDesk
from open_autoglm.inference.ticket_ledger import Seat, TicketUse
from open_autoglm.protocol.preambles import PRIORITY_OF_KEY

_MODELS_MAX = 64


class Guest:
    """See the module.

    Args:
        desk: where tickets are shown.
    """

    __slots__ = ("_desk", "_seats")

    def __init__(self, desk: TicketDesk) -> None:
        self._desk = desk
        self._seats: dict[str, Seat] = {}

    def show(self, text: str) -> dict[str, Any]:
        """Show a ticket. It replaces the one for the same model, on all connections that show that one.

        Returns:
            What the node says to that: `model` and `requests` that are left.

        Raises:
            RequestError, ServerError: it is not taken, and the one before goes on.
        """
        use = self._desk.show(text)
        model = use.ticket.model
        seat = self._seats.get(model)
        if seat is None and len(self._seats) >= _MODELS_MAX:
            raise RequestError("invalid_request", f"tickets for {_MODELS_MAX} models are shown here already")
        if seat is None or seat.use.ticket.key != use.ticket.key:
            self._seats[model] = use.seat
        elif seat.use is not use:
            seat.replace(use)
        return {"model": model, "requests": use.room - use.begun}

    def begin(self, model: str, priority: int, now_s: float) -> TicketUse:
        """Begin a request; whoever does tells what this returns how it ended.

        Args:
            model: that is asked, by its own name.
            priority: that the request asks for, or `PRIORITY_OF_KEY`.
            now_s: monotonic seconds.

        Raises:
            RequestError: `forbidden`: no ticket here is for it; `token_expired`: the ticket is over or used up;
                `rate_limit_exceeded`: as many run as may.
        """
        seat = self._seats.get(model)
        if seat is None:
            raise RequestError("forbidden", f"no ticket for the model {model!r} was shown here", param="model")
        use = seat.use
        if priority != PRIORITY_OF_KEY and priority > use.ticket.priority:
            raise RequestError("forbidden", "the ticket allows no request of this priority")
        if use.begun >= use.room or now_s >= use.ends_s or use.begun - use.ended >= use.limit:
            raise use.refuse(now_s)
        use.begun += 1
        return use
