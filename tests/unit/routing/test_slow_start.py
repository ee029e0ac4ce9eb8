"""An endpoint that has been unwell gets its share back slowly, whatever the strategy: from a tenth to all in 30 s."""

import random
from itertools import pairwise
from typing import get_args

import pytest

from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.settings import BreakerSettings
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.routing.settings import Strategy

RATE = 100
LASTS_S = 0.2


def returned(now_s: float) -> CircuitBreaker:
    """A breaker that has just closed again."""
    breaker = CircuitBreaker(BreakerSettings(), random.Random(1))
    for _ in range(5):
        breaker.failure(breaker.acquire(now_s - 20.0), now_s - 20.0)
    for permit in [breaker.acquire(now_s) for _ in range(3)]:
        breaker.success(permit, now_s, 0.1)
    assert breaker.state == "closed"
    assert not breaker.healthy
    return breaker


def shares(strategy: Strategy, seed: int) -> list[float]:
    """The share of the returned one of two, in each tenth of the 40 s after its return."""
    rng = random.Random(seed)
    pool = [
        Endpoint("http://10.0.0.1", CircuitBreaker(BreakerSettings(), rng)),
        Endpoint("http://10.0.0.2", returned(0.0)),
    ]
    group = Group("m", pool, make_balancer(strategy, pool, rng), rng)
    for endpoint in pool:
        endpoint.observe_latency(0.0, LASTS_S)
    running: list[tuple[float, Endpoint, int]] = []
    counts = [[0, 0] for _ in range(10)]
    for step in range(40 * RATE):
        now_s = step / RATE
        while running and running[0][0] <= now_s:
            _, ended, permit = running.pop(0)
            ended.succeed(permit, now_s, LASTS_S, True, 100)
            ended.observe_latency(now_s, LASTS_S)
        chosen = group.acquire(now_s, rng.getrandbits(64) | 1)
        assert chosen is not None
        chosen.begin()
        running.append((now_s + LASTS_S, chosen, group.permit))
        counts[int(now_s / 4)][chosen is pool[1]] += 1
    return [tested / (well + tested) for well, tested in counts]


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_its_share_grows_from_a_tenth_to_all_in_thirty_seconds(strategy: Strategy) -> None:
    measured = [sum(values) / 5 for values in zip(*(shares(strategy, seed) for seed in range(5)), strict=True)]
    # A weight of w beside a weight of 1.
    weights = [min(1.0, 0.1 + 0.9 * (4 * tenth + 2) / 30) for tenth in range(10)]
    expected = [weight / (1 + weight) for weight in weights]
    assert measured[0] < 0.25, "no rush at its return"
    assert max(abs(share - wanted) for share, wanted in zip(measured[8:], expected[8:], strict=True)) < 0.08
    assert max(abs(share - wanted) for share, wanted in zip(measured, expected, strict=True)) < 0.12
    assert all(later > earlier - 0.05 for earlier, later in pairwise(measured))
