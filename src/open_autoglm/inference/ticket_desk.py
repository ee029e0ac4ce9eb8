"""Tickets at a node: who shows one, which servers there are, and reports to these of what was used.

A report goes to the server that issued its tickets, over any connection that this one has open, until it is
acknowledged. While a server is away its figures wait in the ledger; when it stays away, one of the others gets them.

| a report is | until | then |
|---|---|---|
| being sent, again every 2 s | it is acknowledged | the next one is made, when there is news |
| being sent | its server is away for 10 s | sent to any other server |

Invariant: for each issuer one report is under way at most, its number grows, and what is sent under one number is
always the same. So a server that counts a number once per node and issuer counts everything once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from open_autoglm.errors import RequestError
from open_autoglm.inference.ticket_ledger import TICKETS_MAX, TicketLedger, TicketUse
from open_autoglm.membership.seal import derive_key
from open_autoglm.secret import Secret
from open_autoglm.security.ticket import ISSUER_BYTES, TicketKey, open_ticket

NODE_BYTES: Final = 8
REPORT_S: Final = 0.5
ROWS_MAX: Final = 256
_AGAIN_S: Final = 2.0
_AWAY_S: Final = 10.0


class ServerLine(Protocol):
    """A connection of a server."""

    def report(self, number: int, body: dict[str, Any]) -> None:
        """Send USAGE_REPORT."""


class _Outbox:
    """Reports to one issuer; `rows` is empty while none is under way."""

    __slots__ = ("line", "number", "rows", "seen_s", "sent_s")

    def __init__(self, now_s: float) -> None:
        self.number = 0
        self.rows: list[dict[str, Any]] = []
        self.line: ServerLine | None = None
        self.sent_s = 0.0
        self.seen_s = now_s


class TicketDesk:
    """See the module.

    Args:
        secrets: that servers of this node show.
        node: 8 bytes that no other process of any node has.
        now_s: monotonic seconds.
        tickets_max: how many are known at once.

    Attributes:
        ledger: of the tickets.
        now_s: as above.
    """

    def __init__(
        self, secrets: Sequence[Secret], node: bytes, now_s: Callable[[], float], tickets_max: int = TICKETS_MAX
    ) -> None:
        self._node = node
        self._keys = [ticket_key(secret, node) for secret in secrets]
        self.now_s = now_s
        self.ledger = TicketLedger(now_s, tickets_max)
        self._lines: dict[ServerLine, bytes] = {}
        self._boxes: dict[bytes, _Outbox] = {}
        self._number = 0

    @property
    def idle(self) -> bool:
        """Whether nothing has to be done by and by."""
        return not len(self.ledger) and not self._boxes

    def show(self, text: str) -> TicketUse:
        """A client shows a ticket.

        Raises:
            RequestError, ServerError: it is not taken; see `open_ticket` and `TicketLedger.show`.
        """
        return self.ledger.show(open_ticket(text, self._keys))

    def introduce(self, line: ServerLine, issuer: str) -> dict[str, Any]:
        """A server says who it is; return what it has to know to write tickets.

        Raises:
            RequestError: `invalid_request`: the name is no name of an issuer.
        """
        self._lines[line] = _read_issuer(issuer)
        return {"node": self._node.hex(), "clock_ms": self.ledger.now_ms()}

    def gone(self, line: ServerLine) -> None:
        """A connection has ended."""
        self._lines.pop(line, None)

    def acknowledged(self, number: int, issuer: str) -> None:
        """A server has counted a report."""
        name = _read_issuer(issuer)
        box = self._boxes.get(name)
        if box is not None and box.rows and box.number == number:
            self.ledger.settle(name, [row["ticket"] for row in box.rows if row["closed"]])
            box.rows = []
            self._report(name, self.now_s())

    def tick(self) -> None:
        """Report what is to be reported; call it every `REPORT_S`."""
        self.ledger.sweep()
        now_s = self.now_s()
        for issuer in self.ledger.issuers().union(self._boxes):
            self._report(issuer, now_s)

    def _report(self, issuer: bytes, now_s: float) -> None:
        box = self._boxes.get(issuer)
        if box is None:
            box = self._boxes[issuer] = _Outbox(now_s)
        line = self._line(issuer, box, now_s)
        if line is None:
            return
        if not box.rows:
            box.rows = self.ledger.news(issuer, ROWS_MAX)
            if not box.rows:
                del self._boxes[issuer]
                return
            self._number += 1
            box.number, box.line = self._number, None
        if box.line is not line or now_s - box.sent_s >= _AGAIN_S:
            box.line, box.sent_s = line, now_s
            line.report(box.number, {"node": self._node.hex(), "issuer": issuer.hex(), "tickets": box.rows})

    def _line(self, issuer: bytes, box: _Outbox, now_s: float) -> ServerLine | None:
        """Over which connection a report goes now; None while it has to wait."""
        own = box.line if box.line is not None and self._lines.get(box.line) == issuer else None
        if own is None:
            own = next((line for line, name in self._lines.items() if name == issuer), None)
        if own is not None:
            box.seen_s = now_s
            return own
        if now_s - box.seen_s < _AWAY_S:
            return None
        return box.line if box.line in self._lines else next(iter(self._lines), None)


def ticket_key(secret: Secret, node: bytes) -> TicketKey:
    """The key for the tickets of one process of a node."""
    return TicketKey(derive_key(secret.reveal().encode(), "ticket", node))


def _read_issuer(text: str) -> bytes:
    try:
        issuer = bytes.fromhex(text)
    except ValueError:
        issuer = b""
    if len(issuer) != ISSUER_BYTES:
        raise RequestError("invalid_request", f"an issuer has {ISSUER_BYTES} bytes, in hexadecimal digits")
    return issuer
