"""The nine ways to choose among the endpoints of a group.

| strategy | chooses |
|---|---|
| round_robin | one after the other |
| weighted | one after the other, as often as its weight says, evenly interleaved |
| least_connections | fewest attempts in flight per weight; among equals whoever's turn it is |
| inverse_load | at random, the likelier the lower its load |
| power_of_two | the less loaded of two drawn at random |
| latency | lowest time to first token times the attempts that would be in flight |
| cost | cheapest; among equals as least_connections |
| ip_hash | the same one for the same key, by rendezvous hashing |
| consistent_hash | the same one for the same key, unless it has over 1.25 times its fair load |

All respect the slow start of an endpoint that has been unwell: where weights count, its weight is lowered; where a
winner takes all, it stands aside as often as its missing weight says.
"""

import random
from collections.abc import Sequence
from hashlib import blake2b
from math import inf, log
from typing import Protocol

from open_autoglm.routing.endpoint import LATENCY_HALF_S, Endpoint
from open_autoglm.routing.hash_ring import HashRing
from open_autoglm.routing.hashing import spread
from open_autoglm.routing.settings import Strategy


class Balancer(Protocol):
    """Chooses an endpoint."""

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """Choose one.

        Args:
            candidates: at least one, each able to take a request now.
            now_s: monotonic seconds.
            affinity: 64 bits; requests with the same bits should meet the same endpoint. 0 for no wish.
        """


def make_balancer(strategy: Strategy, endpoints: Sequence[Endpoint], rng: random.Random) -> Balancer:
    """A balancer for a group.

    Args:
        strategy: one of the nine.
        endpoints: all of the group.
        rng: the only source of chance; it may be shared.
    """
    match strategy:
        case "round_robin":
            return RoundRobin(rng)
        case "weighted":
            return Weighted()
        case "least_connections":
            return LeastConnections()
        case "inverse_load":
            return InverseLoad(rng)
        case "power_of_two":
            return PowerOfTwo(rng)
        case "latency":
            return Latency(rng)
        case "cost":
            return Cost(rng)
        case "ip_hash":
            return IpHash(endpoints)
        case "consistent_hash":
            return ConsistentHash(endpoints)


def _stands_aside(endpoint: Endpoint, now_s: float, rng: random.Random) -> bool:
    return not endpoint.gate.healthy and rng.random() >= endpoint.gate.weight(now_s)


class RoundRobin:
    """One after the other."""

    __slots__ = ("_rng", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turn = -1

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        count = len(candidates)
        for _ in range(count):
            self._turn = turn = self._turn + 1
            endpoint = candidates[turn % count]
            if endpoint.gate.healthy or not _stands_aside(endpoint, now_s, self._rng):
                break
        return endpoint


class Weighted:
    """Smooth weighted round robin, as in nginx: everybody gains its weight, the richest is chosen and pays for all."""

    __slots__ = ()

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        total = 0.0
        best = candidates[0]
        for endpoint in candidates:
            gate = endpoint.gate
            weight = endpoint.weight if gate.healthy else endpoint.weight * gate.weight(now_s)
            total += weight
            endpoint.credit += weight
            if endpoint.credit > best.credit:
                best = endpoint
        best.credit -= total
        return best


class LeastConnections:
    """Fewest attempts in flight per weight.

    Among equals the lowest turn is chosen. A chosen endpoint's turn moves on by one over its weight, and starts no
    earlier than the turn chosen before, so that an endpoint gains nothing by having been away (start-time fair
    queueing, Goyal and others, 1996).
    """

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = 0.0

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        best = candidates[0]
        best_weight = 1.0
        least = inf
        for endpoint in candidates:
            gate = endpoint.gate
            weight = endpoint.weight if gate.healthy else endpoint.weight * gate.weight(now_s)
            load = endpoint.in_flight / weight
            if load < least or (load == least and endpoint.turn < best.turn):
                best = endpoint
                best_weight = weight
                least = load
        turn = best.turn
        if turn < self._turn:
            turn = self._turn
        self._turn = turn
        best.turn = turn + 1.0 / best_weight
        return best


class InverseLoad:
    """At random, with a chance of weight / (1 + attempts in flight + reported load)."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        draw = self._random
        best = candidates[0]
        total = 0.0
        for endpoint in candidates:
            gate = endpoint.gate
            chance = endpoint.weight / (1.0 + endpoint.in_flight + endpoint.reported_load)
            if not gate.healthy:
                # Its load counts for more as well: few in flight because it gets few are no reason to send it more.
                share = gate.weight(now_s)
                chance = endpoint.weight * share / (1.0 + (endpoint.in_flight + endpoint.reported_load) / share)
            # Replacing the choice so far with the share of the newcomer gives everybody its share in one pass.
            total += chance
            if draw() * total < chance:
                best = endpoint
        return best


class PowerOfTwo:
    """The less loaded of two drawn at random (Mitzenmacher, 2001); among equals at random by weight."""

    __slots__ = ("_random", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        draw = self._random
        count = len(candidates)
        place, other = 0, 1
        if count > _PAIR:
            place = int(draw() * count)
            other = int(draw() * (count - 1))
            other += other >= place
        best = candidates[place]
        rival = candidates[other] if count > 1 else best
        load = (best.in_flight + best.reported_load) / best.weight
        rival_load = (rival.in_flight + rival.reported_load) / rival.weight
        if rival_load < load or (rival_load == load and draw() * (best.weight + rival.weight) < rival.weight):
            best, rival = rival, best
        if best.gate.healthy or not _stands_aside(best, now_s, self._rng):
            return best
        return rival


_PAIR = 2
# Slower than anything that was measured.
_UNKNOWN_LATENCY_S = 1e6


class Latency:
    """Lowest time to first token times the attempts that would be in flight; an unknown one is tried once at a time."""

    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        best = self._fastest(candidates, now_s)
        while not best.gate.healthy and len(candidates) > 1 and _stands_aside(best, now_s, self._rng):
            candidates = [endpoint for endpoint in candidates if endpoint is not best]
            best = self._fastest(candidates, now_s)
        return best

    @staticmethod
    def _fastest(candidates: Sequence[Endpoint], now_s: float) -> Endpoint:
        best = candidates[0]
        least = inf
        for endpoint in candidates:
            in_flight = endpoint.in_flight
            if endpoint.latency_s > 0.0:
                # The older, the lower, so that an endpoint that was slow once is tried again.
                age_s = now_s - endpoint.latency_at_s
                wait = endpoint.latency_s * LATENCY_HALF_S / (LATENCY_HALF_S + age_s) * (in_flight + 1)
            else:
                # Not yet measured: at once when idle, otherwise behind everything that is.
                wait = in_flight * _UNKNOWN_LATENCY_S
            if wait < least:
                best = endpoint
                least = wait
        return best


class Cost:
    """Cheapest; among equally cheap ones fewest attempts in flight per weight, among these whoever's turn it is."""

    __slots__ = ("_rng", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turn = 0.0

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        best = self._cheapest(candidates)
        while not best.gate.healthy and len(candidates) > 1 and _stands_aside(best, now_s, self._rng):
            candidates = [endpoint for endpoint in candidates if endpoint is not best]
            best = self._cheapest(candidates)
        # Turns move on as in `LeastConnections`.
        self._turn = max(self._turn, best.turn)
        best.turn = self._turn + 1.0 / best.weight
        return best

    @staticmethod
    def _cheapest(candidates: Sequence[Endpoint]) -> Endpoint:
        best = candidates[0]
        price = least = inf
        for endpoint in candidates:
            if endpoint.price > price:
                continue
            load = endpoint.in_flight / endpoint.weight
            if endpoint.price < price or load < least or (load == least and endpoint.turn < best.turn):
                best = endpoint
                price = endpoint.price
                least = load
        return best


def _name_apart(endpoints: Sequence[Endpoint]) -> list[str]:
    """A name of its own for each endpoint, and a seed that follows from it: two may share an address."""
    names: list[str] = []
    for endpoint in endpoints:
        name = endpoint.name
        while name in names:
            name += "+"
        names.append(name)
        endpoint.seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    return names


class IpHash:
    """The same endpoint for the same key, shares by weight; keys of an endpoint that is away spread over the others.

    Rendezvous hashing (Thaler and Ravishankar, 1996), weighted as a race: each endpoint runs an exponential time that
    follows from key and endpoint, divided by its weight. In slow start it gets its keys back one by one.

    Args:
        endpoints: all that can ever be candidates.
    """

    __slots__ = ("_least_connections",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._least_connections = LeastConnections()
        _name_apart(endpoints)

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        if not affinity:
            return self._least_connections.pick(candidates, now_s, affinity)
        best = candidates[0]
        least = inf
        for endpoint in candidates:
            gate = endpoint.gate
            weight = endpoint.weight if gate.healthy else endpoint.weight * gate.weight(now_s)
            time = -log((spread(affinity ^ endpoint.seed) + 1) * 2.0**-64) / weight
            if time < least:
                best = endpoint
                least = time
        return best


LOAD_BOUND = 1.25
"""An endpoint takes at most this many times its fair share of the attempts in flight."""

_POINTS_PER_WEIGHT = 128
_WEIGHT_MAX = 8.0


class ConsistentHash:
    """The same endpoint for the same key, as long as it has room: consistent hashing with bounded loads.

    An overloaded endpoint's keys go on to the next on the ring (Mirrokni, Thorup and Zadimoghaddam, 2018). In slow
    start an endpoint gets its keys back one by one.

    Args:
        endpoints: all that can ever be candidates.
    """

    __slots__ = ("_count", "_least_connections", "_ring")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._count = len(endpoints)
        self._least_connections = LeastConnections()
        # Points depend on an endpoint's own weight, and on the others' only when the largest doubles.
        scale = 1.0
        while max(endpoint.weight for endpoint in endpoints) > _WEIGHT_MAX * scale:
            scale *= 2.0
        self._ring = HashRing(
            (endpoint, name, max(1, round(_POINTS_PER_WEIGHT * endpoint.weight / scale)))
            for endpoint, name in zip(endpoints, _name_apart(endpoints), strict=True)
        )

    def pick(self, candidates: Sequence[Endpoint], now_s: float, affinity: int) -> Endpoint:
        """See `Balancer`."""
        if not affinity:
            return self._least_connections.pick(candidates, now_s, affinity)
        in_flight = 1
        weight = 0.0
        for endpoint in candidates:
            in_flight += endpoint.in_flight
            weight += endpoint.weight
        bound = LOAD_BOUND * in_flight / weight
        key = spread(affinity)
        complete = len(candidates) == self._count
        owner = self._ring.owner(key)
        if complete and owner.gate.healthy and owner.in_flight < bound * owner.weight:
            return owner
        for endpoint in self._ring.walk(key):
            if endpoint.in_flight >= bound * endpoint.weight or not (complete or endpoint in candidates):
                continue
            if endpoint.gate.healthy or spread(key ^ endpoint.seed) < endpoint.gate.weight(now_s) * 2.0**64:
                return endpoint
        return self._least_connections.pick(candidates, now_s, affinity)
