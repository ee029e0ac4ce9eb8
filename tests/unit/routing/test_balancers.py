"""Each strategy: whom it chooses, how often, and that it respects weights and slow starts."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from tests.unit.routing.chi_square import fits
from tests.unit.routing.scripted_gate import ScriptedGate

from open_autoglm.routing.balancers import (
    ConsistentHash,
    Cost,
    InverseLoad,
    IpHash,
    Latency,
    LeastConnections,
    PowerOfTwo,
    RoundRobin,
    Weighted,
    make_balancer,
)
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.settings import Strategy

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def endpoints(*weights: float) -> list[Endpoint]:
    return [Endpoint(f"http://10.0.0.{number}", ScriptedGate(), weight=w) for number, w in enumerate(weights)]


def warming(endpoint: Endpoint, share: float) -> Endpoint:
    endpoint.gate = ScriptedGate(share)
    return endpoint


def counts(
    pick: Callable[[Sequence[Endpoint], float, int], Endpoint],
    pool: list[Endpoint],
    draws: int,
    affinity: Callable[[], int] = lambda: 0,
) -> list[int]:
    seen = Counter(pick(pool, 0.0, affinity()) for _ in range(draws))
    return [seen[endpoint] for endpoint in pool]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_strategy_chooses_a_candidate(strategy: Strategy, size: int) -> None:
    rng = random.Random(1)
    pool = endpoints(*[1.0] * size)
    balancer = make_balancer(strategy, pool, rng)
    for draw in range(200):
        candidates = rng.sample(pool, rng.randint(1, size))
        for endpoint in pool:
            endpoint.in_flight = rng.randint(0, 5)
            endpoint.gate = ScriptedGate(rng.choice([1.0, 0.1, 0.5]))
        assert balancer.pick(candidates, float(draw), rng.choice([0, rng.getrandbits(64)])) in candidates


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_idle_endpoints_share_alike(strategy: Strategy) -> None:
    rng = random.Random(2)
    pool = endpoints(1.0, 1.0, 1.0)
    for endpoint in pool:
        endpoint.observe_latency(0.0, 0.5)
    balancer = make_balancer(strategy, pool, rng)
    if strategy == "latency":
        # Measured alike, the running ones decide.
        for _ in range(30):
            balancer.pick(pool, 0.0, 0).in_flight += 1
        assert [endpoint.in_flight for endpoint in pool] == [10, 10, 10]
        return
    shares = counts(balancer.pick, pool, 3000)
    assert fits(shares, [1.0, 1.0, 1.0]), shares


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_endpoint_in_slow_start_gets_less_the_weaker_it_is(strategy: Strategy) -> None:
    got = []
    for share in (0.1, 0.5, 1.0):
        rng = random.Random(3)
        # With its price and latency the one in slow start would win whenever these decide.
        pool = [Endpoint("dear", ScriptedGate(), price_in=9.0), Endpoint("cheap", ScriptedGate(), price_in=1.0)]
        pool[0].observe_latency(0.0, 5.0)
        pool[1].observe_latency(0.0, 0.1)
        warming(pool[1], share)
        balancer = make_balancer(strategy, pool, rng)
        got.append(counts(balancer.pick, pool, 2000, lambda rng=rng: rng.getrandbits(64))[1])  # type: ignore[misc]
    assert 60 < got[0] < 0.6 * got[1] < 0.8 * got[2]


def test_round_robin_goes_round() -> None:
    pool = endpoints(1.0, 1.0, 1.0)
    balancer = RoundRobin(random.Random(1))
    assert [pool.index(balancer.pick(pool, 0.0, 0)) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_round_robin_in_slow_start_keeps_its_ratio() -> None:
    pool = endpoints(1.0, 1.0)
    warming(pool[1], 0.25)
    # Skipped three times of four, one turn in five is its.
    shares = counts(RoundRobin(random.Random(4)).pick, pool, 5000)
    assert fits(shares, [4.0, 1.0]), shares


def test_round_robin_ends_when_all_are_in_slow_start() -> None:
    pool = [warming(endpoint, 0.1) for endpoint in endpoints(1.0, 1.0)]
    assert min(counts(RoundRobin(random.Random(4)).pick, pool, 1000)) > 300


def test_weighted_is_smooth() -> None:
    pool = endpoints(5.0, 1.0, 1.0)
    balancer = Weighted()
    order = "".join("abc"[pool.index(balancer.pick(pool, 0.0, 0))] for _ in range(14))
    assert order == "aabacaa" * 2


def test_weighted_keeps_the_weights_while_members_come_and_go() -> None:
    rng = random.Random(5)
    pool = endpoints(3.0, 2.0, 1.0)
    balancer = Weighted()
    seen: Counter[Endpoint] = Counter()
    for _ in range(3000):
        candidates = pool if rng.random() < 0.7 else pool[:2]
        chosen = balancer.pick(candidates, 0.0, 0)
        if candidates is pool:
            seen[chosen] += 1
    assert all(abs(endpoint.credit) < 12.0 for endpoint in pool)
    assert seen[pool[0]] > seen[pool[1]] > seen[pool[2]] > 200


def test_least_connections_takes_the_emptiest_per_weight() -> None:
    pool = endpoints(4.0, 1.0)
    pool[0].in_flight, pool[1].in_flight = 7, 2
    assert LeastConnections().pick(pool, 0.0, 0) is pool[0]
    pool[0].in_flight = 9
    assert LeastConnections().pick(pool, 0.0, 0) is pool[1]


def test_least_connections_shares_idle_turns_by_weight() -> None:
    pool = endpoints(3.0, 2.0, 1.0)
    assert counts(LeastConnections().pick, pool, 600) == [300, 200, 100]


def test_least_connections_does_not_rush_at_one_that_was_away() -> None:
    pool = endpoints(1.0, 1.0)
    balancer = LeastConnections()
    for _ in range(1000):
        balancer.pick(pool[:1], 0.0, 0)
    assert counts(balancer.pick, pool, 100) in ([50, 50], [49, 51])


def test_least_connections_holds_a_slow_starter_to_its_share_under_load() -> None:
    pool = endpoints(1.0, 1.0)
    warming(pool[1], 0.1)
    balancer = LeastConnections()
    for _ in range(110):
        balancer.pick(pool, 0.0, 0).in_flight += 1
    assert [endpoint.in_flight for endpoint in pool] == [100, 10]


def test_inverse_load_draws_by_weight_over_load() -> None:
    pool = endpoints(1.0, 4.0, 1.0, 2.0)
    pool[1].in_flight = 3
    pool[2].reported_load = 1.0
    shares = counts(InverseLoad(random.Random(6)).pick, pool, 20_000)
    assert fits(shares, [1.0, 1.0, 0.5, 2.0]), shares


def test_power_of_two_never_takes_the_worst_of_three() -> None:
    pool = endpoints(1.0, 1.0, 1.0)
    pool[0].in_flight, pool[1].in_flight, pool[2].reported_load = 1, 2, 9.0
    shares = counts(PowerOfTwo(random.Random(7)).pick, pool, 9000)
    # The best wins two of the three pairs, the middle one the third.
    assert shares[2] == 0
    assert fits(shares[:2], [2.0, 1.0]), shares


def test_power_of_two_shares_idle_draws_by_weight() -> None:
    pool = endpoints(3.0, 1.0)
    shares = counts(PowerOfTwo(random.Random(8)).pick, pool, 8000)
    assert fits(shares, [3.0, 1.0]), shares


def test_power_of_two_compares_loads_per_weight() -> None:
    pool = endpoints(4.0, 1.0)
    pool[0].in_flight, pool[1].reported_load = 6, 2.0
    assert counts(PowerOfTwo(random.Random(8)).pick, pool, 20) == [20, 0]
    assert counts(PowerOfTwo(random.Random(8)).pick, pool[::-1], 20) == [0, 20]
    pool[0].in_flight = 9
    assert counts(PowerOfTwo(random.Random(8)).pick, pool, 20) == [0, 20]


def test_power_of_two_keeps_the_fullest_queue_short() -> None:
    rng = random.Random(9)
    pool = endpoints(*[1.0] * 50)
    balancer = PowerOfTwo(rng)
    for _ in range(5000):
        balancer.pick(pool, 0.0, 0).in_flight += 1
    assert max(endpoint.in_flight for endpoint in pool) <= 104, "one choice alone gives about 125"


def test_latency_weighs_time_and_queue() -> None:
    pool = endpoints(1.0, 1.0)
    pool[0].observe_latency(0.0, 0.1)
    pool[1].observe_latency(0.0, 0.35)
    balancer = Latency(random.Random(1))
    order = []
    for _ in range(8):
        chosen = balancer.pick(pool, 0.0, 0)
        chosen.in_flight += 1
        order.append(pool.index(chosen))
    assert order == [0, 0, 0, 1, 0, 0, 0, 1]


def test_latency_tries_an_unknown_one_once_at_a_time() -> None:
    pool = endpoints(1.0, 1.0)
    pool[0].observe_latency(0.0, 0.1)
    balancer = Latency(random.Random(1))
    assert balancer.pick(pool, 0.0, 0) is pool[1]
    pool[1].in_flight = 1
    pool[0].in_flight = 1000
    assert balancer.pick(pool, 0.0, 0) is pool[0]


def test_latency_returns_to_one_that_was_slow_long_ago() -> None:
    pool = endpoints(1.0, 1.0)
    pool[1].observe_latency(0.0, 2.0)
    balancer = Latency(random.Random(1))
    for now_s in range(200):
        pool[0].observe_latency(float(now_s), 0.5)
        if balancer.pick(pool, float(now_s), 0) is pool[1]:
            break
    assert 25 <= now_s <= 40


def test_cost_takes_the_cheapest_and_then_the_emptiest() -> None:
    pool = [
        Endpoint("dear", ScriptedGate(), price_in=2.0, price_out=2.0),
        Endpoint("cheap-a", ScriptedGate(), price_in=1.0, price_out=2.0),
        Endpoint("cheap-b", ScriptedGate(), price_in=1.0, price_out=2.0),
    ]
    balancer = Cost(random.Random(1))
    assert counts(balancer.pick, pool, 100) == [0, 50, 50]
    pool[1].in_flight = 3
    assert counts(balancer.pick, pool, 100) == [0, 0, 100]
    assert balancer.pick(pool[:1], 0.0, 0) is pool[0]


def test_cost_takes_the_cheapest_however_busy_it_is() -> None:
    pool = [Endpoint("cheap", ScriptedGate(), price_in=1.0), Endpoint("dear", ScriptedGate(), price_in=2.0)]
    pool[0].in_flight = 50
    assert counts(Cost(random.Random(1)).pick, pool, 20) == [20, 0]


def test_cost_shares_among_the_cheapest_by_weight() -> None:
    pool = endpoints(3.0, 1.0)
    balancer = Cost(random.Random(1))
    assert counts(balancer.pick, pool, 100) == [75, 25]
    pool[0].in_flight, pool[1].in_flight = 5, 2
    assert counts(balancer.pick, pool, 20) == [20, 0]


def test_cost_counts_three_tokens_in_for_one_out() -> None:
    assert Endpoint("a", ScriptedGate(), price_in=1.0, price_out=5.0).price == 2.0


@pytest.mark.parametrize("strategy", ["ip_hash", "consistent_hash"])
def test_the_same_key_meets_the_same_endpoint_and_keys_spread_by_weight(strategy: Strategy) -> None:
    pool = endpoints(1.0, 2.0, 1.0, 4.0)
    balancer = make_balancer(strategy, pool, random.Random(1))
    # Neighbouring keys, as addresses are.
    chosen = [balancer.pick(pool, 0.0, key) for key in range(1, 8001)]
    assert chosen == [balancer.pick(pool, 0.0, key) for key in range(1, 8001)]
    shares = [chosen.count(endpoint) / 1000 for endpoint in pool]
    # A ring of finitely many points is not exact; rendezvous hashing is.
    tolerance = 0.35 if strategy == "consistent_hash" else 0.08
    for endpoint, share in zip(pool, shares, strict=True):
        assert share == pytest.approx(endpoint.weight, rel=tolerance)


@pytest.mark.parametrize("strategy", ["ip_hash", "consistent_hash"])
def test_a_key_moves_only_while_its_endpoint_is_away(strategy: Strategy) -> None:
    pool = endpoints(1.0, 1.0, 1.0, 1.0)
    balancer = make_balancer(strategy, pool, random.Random(1))
    keys = range(1, 2001)
    before = {key: balancer.pick(pool, 0.0, key) for key in keys}
    left = [pool[0], *pool[2:]]
    for key in keys:
        if before[key] is pool[1]:
            assert balancer.pick(left, 0.0, key) is not pool[1]
        else:
            assert balancer.pick(left, 0.0, key) is before[key]


@pytest.mark.parametrize("strategy", ["ip_hash", "consistent_hash"])
def test_in_slow_start_keys_come_back_one_by_one_and_stay(strategy: Strategy) -> None:
    pool = endpoints(1.0, 1.0)
    balancer = make_balancer(strategy, pool, random.Random(1))
    keys = range(1, 2001)
    back: set[int] = set()
    sizes = []
    for share in (0.1, 0.4, 0.7, 1.0):
        warming(pool[1], share)
        now = {key for key in keys if balancer.pick(pool, 0.0, key) is pool[1]}
        assert back <= now
        back = now
        sizes.append(len(now))
    assert 50 < sizes[0] < sizes[1] < sizes[2] < sizes[3] < 1200


@pytest.mark.parametrize("strategy", ["ip_hash", "consistent_hash"])
def test_endpoints_of_one_address_share_its_keys(strategy: Strategy) -> None:
    pool = [Endpoint("http://same", ScriptedGate()) for _ in range(3)]
    balancer = make_balancer(strategy, pool, random.Random(1))
    chosen = [balancer.pick(pool, 0.0, key) for key in range(1, 3001)]
    assert min(chosen.count(endpoint) for endpoint in pool) > 700


def test_consistent_hash_bounds_the_load_of_a_hot_key() -> None:
    pool = endpoints(1.0, 1.0, 1.0, 1.0)
    balancer = ConsistentHash(pool)
    for _ in range(400):
        balancer.pick(pool, 0.0, 7).in_flight += 1
    loads = sorted(endpoint.in_flight for endpoint in pool)
    assert loads[-1] <= 126
    assert loads[0] >= 20
    # The key's own order of stand-ins is kept: full ones first.
    assert loads == [25, 125, 125, 125]


def test_consistent_hash_bounds_by_weight() -> None:
    pool = endpoints(3.0, 1.0)
    balancer = ConsistentHash(pool)
    for key in range(1, 801):
        balancer.pick(pool, 0.0, key).in_flight += 1
        total = pool[0].in_flight + pool[1].in_flight
        assert pool[0].in_flight <= 1.25 * total * 0.75 + 1
        assert pool[1].in_flight <= 1.25 * total * 0.25 + 1


def test_hashes_agree_between_processes() -> None:
    pool = endpoints(1.0, 1.0, 1.0)
    rendezvous = IpHash(pool)
    ring = ConsistentHash(pool)
    # Pinned: a change moves every session of a running cluster to another endpoint.
    assert [pool.index(rendezvous.pick(pool, 0.0, key)) for key in range(1, 13)] == [2, 0, 1, 1, 0, 2, 2, 1, 0, 1, 2, 1]
    assert [pool.index(ring.pick(pool, 0.0, key)) for key in range(1, 13)] == [2, 1, 2, 2, 0, 2, 2, 0, 0, 1, 0, 1]
