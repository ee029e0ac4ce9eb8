"""The endpoints of one model name: which of them may take a request now, and which of those does.

Invariant: `acquire` returns an endpoint together with a permit of its gate, or nothing. A group is part of an
immutable snapshot and is made anew on a reload; what lives longer is in its endpoints.
"""

import random
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Final

from open_autoglm.routing.balancers import Balancer
from open_autoglm.routing.endpoint import Endpoint

CRITICAL: Final = 2
"""The class of a request that says nothing about itself."""

Pick = Callable[[Sequence[Endpoint], float, int], Endpoint]
"""Chooses among two endpoints or more; monotonic seconds and the request's affinity come with them."""

LONE_TRIAL_EVERY_S = 5.0
"""While every endpoint of a group is open, one request is let through so often."""


class Group:
    """Endpoints that answer for one name.

    Attributes:
        name: the model name.
        endpoints: all of them, in the order of the configuration.
        permit: of the last `acquire` that returned an endpoint; to be given back to that endpoint.
        full: whether the last `acquire` that returned none met an endpoint that wanted nothing but room.
        panic: so few endpoints are left that ejections and holding back are ignored; the owner sets it.
        has_fallback: whether another group takes over when this one has nothing to offer; the owner sets it.

    Args:
        name: the model name.
        endpoints: at least one; they belong to no other group that is in use with another balancer.
        balancer: chooses among those that may be used.
        rng: for the requests that are held back; without it none is.

    Raises:
        ValueError: there are no endpoints.
    """

    __slots__ = (
        "_balance",
        "_lone_trial_s",
        "_lone_turn",
        "_pick",
        "_rng",
        "_several",
        "endpoints",
        "full",
        "has_fallback",
        "name",
        "panic",
        "permit",
    )

    def __init__(
        self, name: str, endpoints: Sequence[Endpoint], balancer: Balancer, rng: random.Random | None = None
    ) -> None:
        if not endpoints:
            raise ValueError(f"group {name!r} has no endpoints; give it at least one")
        self.name = name
        self.endpoints = tuple(endpoints)
        self.permit = 0
        self.full = False
        self.panic = False
        self.has_fallback = False
        self._balance: Pick = balancer.pick
        self._pick: Pick = balancer.pick
        self._rng = rng
        self._several = len(self.endpoints) > 1
        self._lone_trial_s = -inf
        self._lone_turn = 0
        for endpoint in endpoints:
            # Turns count within one balancer; an older one's would make the newcomers wait or rush.
            endpoint.credit = 0.0
            endpoint.turn = 0.0

    def acquire(
        self, now_s: float, affinity: int = 0, tried: Collection[Endpoint] = (), priority: int = CRITICAL
    ) -> Endpoint | None:
        """Choose an endpoint and take a permit of its gate, which is then in `permit`.

        While every endpoint is open, one request every 5 s is let through all the same.

        Args:
            now_s: monotonic seconds.
            affinity: 64 bits; requests with the same bits should meet the same endpoint. 0 for no wish.
            tried: endpoints not to be chosen.
            priority: class of the request, 0 (sheddable) to 3; the lower, the sooner an endpoint is full for it.

        Returns:
            The endpoint, or None when there is none; see `retry_at_s` and `full`.
        """
        if not tried:
            for endpoint in self.endpoints:
                if not endpoint.plain or endpoint.in_flight >= endpoint.rooms[priority]:
                    break
            else:
                if self._several:
                    endpoint = self._pick(self.endpoints, now_s, affinity)
                self.permit = endpoint.permit
                return endpoint
        chosen = self._choose(now_s, affinity, tried, priority)
        if chosen is None:
            return None if self.full else self._acquire_trial(now_s, tried)
        self.permit = chosen.permit if chosen.plain else chosen.gate.acquire(now_s)
        return chosen

    def steer(self, narrow: Callable[[Sequence[Endpoint], int], Sequence[Endpoint]] | None) -> None:
        """Choose from now on among those endpoints only that `narrow` leaves of two or more.

        Args:
            narrow: is given the endpoints and the request's affinity, and returns at least one of them; None ends it.
        """
        if narrow is None:
            self._pick = self._balance
            return
        balance = self._balance

        def pick(endpoints: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
            wanted = narrow(endpoints, affinity)
            return balance(wanted, now_s, affinity) if len(wanted) > 1 else wanted[0]

        self._pick = pick

    def has_untried(self, tried: Collection[Endpoint], now_s: float) -> bool:
        """Whether an endpoint that is not among `tried` may be used now, if it has room."""
        return any(endpoint not in tried and endpoint.usable(now_s) for endpoint in self.endpoints)

    def retry_at_s(self, now_s: float) -> float:
        """When the first endpoint may be used again: `now_s` or later, infinite when only an operator can tell."""
        return min(
            max(endpoint.gate.retry_at_s(now_s), endpoint.throttled_until_s, endpoint.misconfigured_until_s)
            for endpoint in self.endpoints
        )

    def _choose(self, now_s: float, affinity: int, tried: Collection[Endpoint], priority: int) -> Endpoint | None:
        """Choose among those of which some are not what they should be. Says in `full` whether only room is wanting."""
        usable = [endpoint for endpoint in self.endpoints if endpoint not in tried and endpoint.usable(now_s)]
        if not self.panic:
            wanted = [endpoint for endpoint in usable if endpoint.ejected_until_s <= now_s and not self._held(endpoint)]
            # Where nobody takes over, an ejected endpoint is better than none.
            if wanted or self.has_fallback:
                usable = wanted
            else:
                usable = [endpoint for endpoint in usable if not endpoint.refuse_ratio]
        candidates = [endpoint for endpoint in usable if endpoint.in_flight < endpoint.rooms[priority]]
        self.full = len(usable) > len(candidates)
        if len(candidates) > 1 and priority > CRITICAL:
            # What matters most is not what to try an endpoint with.
            candidates = [e for e in candidates if e.gate.state != "half_open"] or candidates
        if len(candidates) > 1:
            return self._pick(candidates, now_s, affinity)
        return candidates[0] if candidates else None

    def _held(self, endpoint: Endpoint) -> bool:
        """Whether this request is held back from an endpoint that turns many away."""
        ratio = endpoint.refuse_ratio
        return ratio > 0.0 and self._rng is not None and self._rng.random() < ratio

    def _acquire_trial(self, now_s: float, tried: Collection[Endpoint]) -> Endpoint | None:
        if now_s - self._lone_trial_s < LONE_TRIAL_EVERY_S:
            return None
        # Those that only an operator can bring back say nothing about the others.
        lasting = [
            endpoint
            for endpoint in self.endpoints
            if endpoint.misconfigured_until_s <= now_s and endpoint.gate.state != "forced_open"
        ]
        if any(endpoint.gate.state != "open" for endpoint in lasting):
            return None
        for _ in lasting:
            self._lone_turn += 1
            endpoint = lasting[self._lone_turn % len(lasting)]
            if endpoint in tried or endpoint.throttled_until_s > now_s:
                continue
            permit = endpoint.gate.acquire_trial(now_s)
            if permit:
                self._lone_trial_s = now_s
                self.permit = permit
                return endpoint
        return None
