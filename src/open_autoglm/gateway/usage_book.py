"""The server's side of tickets: what each of them took from its key's limits, and what nodes report of its use.

| a lease | until | then |
|---|---|---|
| holds requests and places of its key | the node reports that its ticket is closed | what was not used is given back |
| holds them | its ticket's time has been over for a minute | the places are given back |

Invariant: a report is counted once however often it comes, because its number grows with each one of the same node and
issuer, and the next one comes when this one was acknowledged. What a lease took is given back once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from open_autoglm.errors import RequestError, ServerError
from open_autoglm.security.keys import Principal

LEASES_MAX: Final = 16_384
_REPORTERS_MAX: Final = 4096
_GRACE_S: Final = 60.0

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class UsageRow(Struct, frozen=True):
    """What was used of one ticket since the report before.

    Attributes:
        ticket: its number; `key` and `model` are those that it is for.
        requests: that have ended, those included that came to nothing, which `errors` has by code.
        prompt_tokens, completion_tokens: of those that were answered.
        seconds: how many took how long, in the buckets of `mcp_request_seconds`; `seconds_sum` together.
        closed: nothing more will come of this ticket.
    """

    ticket: _Count
    key: str
    model: str
    requests: _Count
    prompt_tokens: _Count
    completion_tokens: _Count
    errors: dict[str, _Count]
    seconds: list[_Count]
    seconds_sum: float
    closed: bool


class UsageReport(Struct, frozen=True):
    """USAGE_REPORT; the frame has its number."""

    node: str
    issuer: str
    tickets: list[UsageRow]


class Lease:
    """What one ticket took.

    Attributes:
        principal: whose limits.
        group, endpoint: which node it is for, as in metrics.
        requests, places: taken from the key's rates, and from its requests in flight.
        ends_s: monotonic seconds; its ticket is over by then.
        used: requests that were reported.
        credit: told how many of them were answered.
    """

    __slots__ = ("credit", "endpoint", "ends_s", "group", "places", "principal", "requests", "used")

    def __init__(
        self,
        principal: Principal,
        place: tuple[str, str],
        credit: Callable[[int], None],
        *,
        requests: int,
        places: int,
        ends_s: float,
    ) -> None:
        self.credit = credit
        self.principal = principal
        self.group, self.endpoint = place
        self.requests = requests
        self.places = places
        self.ends_s = ends_s
        self.used = 0

    def end(self, unused: int, now_s: float) -> None:
        """Give back what is left."""
        if self.principal.limiter is not None:
            self.principal.limiter.end_lease(unused, self.places, now_s)


class UsageAccounts(Protocol):
    """Who is told of what was used."""

    def used(self, row: UsageRow, node: str, lease: Lease | None) -> None:
        """Count a row; the lease is None for tickets of another process."""


class UsageBook:
    """See the module.

    Args:
        issuer: our name, in hexadecimal digits.
        accounts: told of everything once.
    """

    def __init__(self, issuer: str, accounts: UsageAccounts) -> None:
        self._issuer = issuer
        self._accounts = accounts
        self._leases: OrderedDict[int, Lease] = OrderedDict()
        self._counted: OrderedDict[tuple[str, str], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    def check_room(self) -> None:
        """See whether one more lease can be kept.

        Raises:
            ServerError: `overloaded`.
        """
        if len(self._leases) >= LEASES_MAX:
            raise ServerError("overloaded", f"{LEASES_MAX} tickets are out", retry_after_s=1.0)

    def open(self, number: int, lease: Lease) -> None:
        """Keep a lease; those of later numbers end later."""
        self._leases[number] = lease

    def take(self, number: int, body: dict[str, Any], now_s: float) -> bool:
        """Count a report; returns whether it was new.

        Raises:
            RequestError: `invalid_request`: it cannot be read.
        """
        try:
            report = msgspec.convert(body, UsageReport)
        except msgspec.ValidationError as error:
            raise RequestError("invalid_request", f"USAGE_REPORT: {error}") from error
        name = (report.node, report.issuer)
        if number <= self._counted.get(name, 0):
            return False
        self._counted[name] = number
        self._counted.move_to_end(name)
        if len(self._counted) > _REPORTERS_MAX:
            self._counted.popitem(last=False)
        for row in report.tickets:
            self._count(row, report, now_s)
        return True

    def sweep(self, now_s: float) -> None:
        """End leases of which nobody says that they are closed."""
        leases = self._leases
        while leases:
            number, lease = next(iter(leases.items()))
            if lease.ends_s + _GRACE_S > now_s:
                return
            del leases[number]
            lease.end(0, now_s)

    def _count(self, row: UsageRow, report: UsageReport, now_s: float) -> None:
        lease = self._leases.get(row.ticket) if report.issuer == self._issuer else None
        if lease is not None:
            lease.used += row.requests
            lease.principal.requests += row.requests
            lease.credit(max(0, row.requests - sum(row.errors.values())))
            if row.closed:
                del self._leases[row.ticket]
                lease.end(max(0, lease.requests - lease.used), now_s)
        if row.requests:
            self._accounts.used(row, report.node, lease)
