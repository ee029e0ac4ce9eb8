"""Where a request may go: the legs of its route, in order. Built once per configuration, shared by all requests."""

from __future__ import annotations

from math import inf

from open_autoglm.exchange.line import Line
from open_autoglm.exchange.settings import StreamFailure, Timeouts
from open_autoglm.resilience.hedge_budget import HedgeBudget
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group


class Leg:
    """One group of endpoints with its own count of retries.

    Attributes:
        group: endpoints of one model name.
        max_retries: attempts in this leg are one more.
        timeouts: of attempts in this leg; `gap_s` is one of them.
        budget: shared by all requests of the group.
        has_alternative: another endpoint or leg could take over, so one attempt may not use up all the time.
        reason: why an endpoint of this leg is chosen, as `least_connections of 2`.
        line: where requests wait for room; `queue` is the line's.
        hedging: when a second attempt is started early; None where that was not asked for, or cannot be.
        hedge_s: after so long without a first token a second attempt is started; infinite where none can be.
    """

    __slots__ = (
        "budget",
        "gap_s",
        "group",
        "has_alternative",
        "hedge_s",
        "hedging",
        "line",
        "max_retries",
        "queue",
        "reason",
        "timeouts",
    )

    def __init__(
        self,
        group: Group,
        max_retries: int,
        timeouts: Timeouts,
        budget: RetryBudget,
        *,
        has_alternative: bool,
        reason: str,
        line: Line | None = None,
        hedging: HedgeBudget | None = None,
    ) -> None:
        self.group = group
        self.max_retries = max_retries
        self.timeouts = timeouts
        self.gap_s = timeouts.gap_s
        self.budget = budget
        self.has_alternative = has_alternative
        self.reason = reason
        self.line = line or Line()
        self.queue = self.line.queue
        self.hedging = hedging if has_alternative else None
        self.hedge_s = timeouts.first_token_hedge_s if has_alternative else inf

    def in_flight(self) -> int:
        """Requests on the group's endpoints now."""
        return sum(endpoint.in_flight for endpoint in self.group.endpoints)


class Plan:
    """The legs for one model name: its own group, then the fallbacks.

    Attributes:
        model: the name asked for.
        legs: at least one.
        stream_failure: what happens when a stream breaks after content.
        total_s: from arrival to the end, over all attempts.
    """

    __slots__ = ("legs", "model", "stream_failure", "total_s")

    def __init__(self, model: str, legs: tuple[Leg, ...], stream_failure: StreamFailure = "terminate") -> None:
        self.model = model
        self.legs = legs
        self.stream_failure = stream_failure
        self.total_s = legs[0].timeouts.total_s

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint of every leg, in order."""
        return [endpoint for leg in self.legs for endpoint in leg.group.endpoints]
