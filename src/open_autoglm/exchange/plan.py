"""Where a request may go: the legs of its route, in order. Built once per configuration, shared by all requests."""

from __future__ import annotations

from open_autoglm.exchange.settings import Timeouts
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group


class Leg:
    """One group of endpoints with its own count of retries.

    Attributes:
        group: endpoints of one model name.
        max_retries: attempts in this leg are one more.
        timeouts: of attempts in this leg.
        budget: shared by all requests of the group.
        has_alternative: another endpoint or leg could take over, so one attempt may not use up all the time.
        reason: why an endpoint of this leg is chosen, as `least_connections of 2`.
    """

    __slots__ = ("budget", "group", "has_alternative", "max_retries", "reason", "timeouts")

    def __init__(
        self,
        group: Group,
        max_retries: int,
        timeouts: Timeouts,
        budget: RetryBudget,
        *,
        has_alternative: bool,
        reason: str,
    ) -> None:
        self.group = group
        self.max_retries = max_retries
        self.timeouts = timeouts
        self.budget = budget
        self.has_alternative = has_alternative
        self.reason = reason

    def in_flight(self) -> int:
        """Requests on the group's endpoints now."""
        return sum(endpoint.in_flight for endpoint in self.group.endpoints)


class Plan:
    """The legs for one model name: its own group, then the fallbacks.

    Attributes:
        model: the name asked for.
        legs: at least one.
        total_s: from arrival to the end, over all attempts.
    """

    __slots__ = ("legs", "model", "total_s")

    def __init__(self, model: str, legs: tuple[Leg, ...]) -> None:
        self.model = model
        self.legs = legs
        self.total_s = legs[0].timeouts.total_s

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint of every leg, in order."""
        return [endpoint for leg in self.legs for endpoint in leg.group.endpoints]
