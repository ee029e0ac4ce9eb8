"""What a node knows of the tickets that it was shown: how many requests are left, what was used, what was told of it.

| a ticket is | until | then |
|---|---|---|
| open | its requests are used up, its time is over, a newer one has replaced it | closed |
| closed | nothing of it runs, and all was reported, the closing too | settled |
| settled | its time is over | forgotten |

Invariant: over all connections that show a ticket, no more requests begin than it is good for, nor run at once than it
allows; and each request that began is in one report, or in the figures of the next one. A ticket is not forgotten
within its time, so nobody can show it anew; when the ledger is full, new ones are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from open_autoglm.engines.events import Usage
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.security.ticket import Ticket
from open_autoglm.telemetry.series import Histogram

TICKETS_MAX: Final = 4096
SECONDS_MAX: Final = 1024
"""Times that are kept one by one; more are put into their buckets."""


class TicketUse:
    """One ticket; see the module.

    Args:
        ticket: as it was shown.
        ends_s: when it is over, monotonic seconds.

    Attributes:
        ticket, ends_s: as above.
        room: how many requests may begin in all; as many as have begun when nothing begins any more.
        limit: how many may run at once.
        begun, ended: requests so far.
        prompt_tokens, completion_tokens, seconds: of those that were answered and not reported yet.
        seat: of the connections that show it.
        settled: see the module.
    """

    __slots__ = (
        "_errors",
        "_histogram",
        "_told",
        "_told_closed",
        "begun",
        "completion_tokens",
        "ended",
        "ends_s",
        "limit",
        "prompt_tokens",
        "room",
        "seat",
        "seconds",
        "settled",
        "ticket",
    )

    def __init__(self, ticket: Ticket, ends_s: float) -> None:
        self.ticket = ticket
        self.ends_s = ends_s
        self.room = ticket.requests
        self.limit = ticket.concurrency or ticket.requests
        self.begun = self.ended = 0
        self.seat = Seat(self)
        self.settled = False
        self._told = 0
        self._told_closed = False
        self._clear()

    @property
    def closed(self) -> bool:
        """Whether nothing begins any more."""
        return self.begun >= self.room

    @property
    def has_news(self) -> bool:
        """Whether there is something to report."""
        if self.ended > self._told:
            return True
        return self.begun == self.ended >= self.room and not self._told_closed

    def close(self) -> None:
        """Let nothing begin any more."""
        self.room = min(self.room, self.begun)

    def refuse(self, now_s: float) -> RequestError:
        """Why no request may begin now."""
        if self.closed or now_s >= self.ends_s:
            self.close()
            return _over("this ticket's time is over, or it is used up")
        return RequestError(
            "rate_limit_exceeded", f"{self.limit} requests of this ticket run already", retry_after_s=1.0
        )

    def fold(self) -> None:
        """Put times into their buckets."""
        self._histogram.observe_all(self.seconds)
        self.seconds.clear()

    def answered(self, usage: Usage, seconds: float) -> None:
        """A request was answered after so long."""
        self.ended += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.seconds.append(seconds)
        if len(self.seconds) >= SECONDS_MAX:
            self.fold()

    def failed(self, seconds: float, code: str) -> None:
        """A request came to nothing."""
        self.ended += 1
        self._errors[code] = self._errors.get(code, 0) + 1
        self._histogram.observe(seconds)

    def take_news(self) -> dict[str, Any]:
        """What has happened since the last call, as a row of USAGE_REPORT; it is the caller's from now on."""
        self.fold()
        over = self.begun == self.ended >= self.room
        row: dict[str, Any] = {
            "ticket": self.ticket.number,
            "key": self.ticket.key,
            "model": self.ticket.model,
            "requests": self.ended - self._told,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "errors": self._errors,
            "seconds": self._histogram.buckets,
            "seconds_sum": round(self._histogram.sum_s, 6),
            "closed": over,
        }
        self._told, self._told_closed = self.ended, over
        self._clear()
        return row

    def _clear(self) -> None:
        self.prompt_tokens = self.completion_tokens = 0
        self.seconds: list[float] = []
        self._errors: dict[str, int] = {}
        self._histogram = Histogram()


class Seat:
    """What connections that showed the same ticket have in common: the one that holds for them now."""

    __slots__ = ("use",)

    def __init__(self, use: TicketUse) -> None:
        self.use = use

    def replace(self, use: TicketUse) -> None:
        """A newer ticket holds from now on."""
        self.use.close()
        self.use = use
        use.seat = self


class TicketLedger:
    """See the module.

    Args:
        now_s: monotonic seconds.
        tickets_max: how many are known at once.
    """

    def __init__(self, now_s: Callable[[], float], tickets_max: int = TICKETS_MAX) -> None:
        self._now_s = now_s
        self._began_s = now_s()
        self._tickets_max = tickets_max
        self._uses: dict[tuple[bytes, int], TicketUse] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def now_ms(self) -> int:
        """The node's own time: milliseconds since its start."""
        return int((self._now_s() - self._began_s) * 1000)

    def show(self, ticket: Ticket) -> TicketUse:
        """A connection shows a ticket whose seal is right.

        Raises:
            RequestError: `token_expired`: it is over, or used up.
            ServerError: `overloaded`: too many tickets are known already.
        """
        ends_s = self._began_s + ticket.expires_ms / 1000
        if self._now_s() >= ends_s:
            raise _over("this ticket's time is over")
        name = (ticket.issuer, ticket.number)
        use = self._uses.get(name)
        if use is None:
            if len(self._uses) >= self._tickets_max:
                raise ServerError("overloaded", "this node knows too many tickets", retry_after_s=1.0)
            use = self._uses[name] = TicketUse(ticket, ends_s)
        elif use.closed:
            raise _over("this ticket was used up, or replaced")
        return use

    def news(self, issuer: bytes, most: int) -> list[dict[str, Any]]:
        """Rows for a report to whoever issued these tickets, at most so many."""
        rows: list[dict[str, Any]] = []
        for use in self._uses.values():
            if use.ticket.issuer == issuer and use.has_news:
                rows.append(use.take_news())
                if len(rows) == most:
                    break
        return rows

    def issuers(self) -> set[bytes]:
        """Whose tickets have news."""
        return {use.ticket.issuer for use in self._uses.values() if use.has_news}

    def settle(self, issuer: bytes, numbers: list[int]) -> None:
        """These tickets' closings have been acknowledged."""
        for number in numbers:
            use = self._uses.get((issuer, number))
            if use is not None:
                use.settled = True

    def sweep(self) -> None:
        """Close what has run out of time; forget what is settled and over."""
        now_s = self._now_s()
        for name, use in list(self._uses.items()):
            if now_s >= use.ends_s:
                use.close()
                if use.settled:
                    del self._uses[name]


def _over(message: str) -> RequestError:
    return RequestError("token_expired", f"{message}; ask the server for another")
