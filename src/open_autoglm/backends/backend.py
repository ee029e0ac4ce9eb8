"""What the request path asks of a model, whatever runs it.

A backend is given an attempt and a call, and tells the call's exchange what becomes of it. It never raises: a
request that it cannot express is an attempt that failed as `unsupported`.
"""

from __future__ import annotations

from typing import Protocol

from open_autoglm.dialects.continuation import Delivered
from open_autoglm.dialects.face import Face, RequestView
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.scheduling.budget import Ledger


class ModelCall:
    """One client request as backends see it.

    Attributes:
        exchange: who is told of events.
        record: where usage and finish reason are noted.
        face: dialect of the client's route; `view` its quick reading of `body`, the client's bytes.
        model: the name asked for, resolved.
        request_id, trace_id: sent on.
        deadline_s: monotonic seconds.
        created_s: wall seconds of arrival, whole.
        delivered: of a stream only: what the client has got, where another endpoint may go on with it; else None.
    """

    __slots__ = (
        "body",
        "created_s",
        "deadline_s",
        "delivered",
        "exchange",
        "face",
        "model",
        "record",
        "request_id",
        "trace_id",
        "view",
    )

    exchange: Exchange
    record: RequestRecord
    face: Face
    view: RequestView
    body: bytes
    model: str
    request_id: str
    trace_id: str
    deadline_s: float
    created_s: int
    delivered: Delivered | None

    @property
    def hops(self) -> int:
        """How many servers have it from another server, where that is said."""
        return self.view.hops

    @property
    def ledger(self) -> Ledger | None:
        """What pays for all that it asks in turn; None where a client asks, for each answer has a budget of its own."""
        return None

    def header(self, name: str) -> bytes | None:
        """A header of the client's request, by its name in lower case; None where it has none."""
        return None


def unsent(error: AutoGLMError) -> str:
    """The outcome of an attempt that ended before anything was sent.

    A request that is wrong in itself is wrong everywhere; what this endpoint cannot express another one may.
    """
    return "refused" if error.code == "invalid_request" else "unsupported"


class Handle(Protocol):
    """A running attempt's work."""

    def cancel(self) -> None:
        """Stop at once; the exchange hears no more of it. Idempotent."""

    def finish(self) -> bytes:
        """Stop at once, after the finish reason was passed on; return what closes the client's stream."""

    def pause(self) -> None:
        """The client reads slowly: produce no more for now."""

    def resume(self) -> None:
        """Go on."""


class Backend(Protocol):
    """One endpoint's way to its model."""

    dialect_name: str

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        """Start the attempt and put its `Handle` into `attempt.handle`."""

    @property
    def connections(self) -> int:
        """Open connections."""

    async def reachable(self, timeout_s: float) -> bool:
        """Whether the endpoint is there and answers something. Never asks a model anything."""

    def sweep(self, now_s: float) -> None:
        """Drop what has been idle too long. Called each second."""

    def close(self) -> None:
        """The endpoint was removed: finish what runs, take nothing new."""
