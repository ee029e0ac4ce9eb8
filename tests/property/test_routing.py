"""Routing under any state of the endpoints: whom it may choose, and how little moves when one comes or goes."""

import random
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.settings import BreakerSettings
from open_autoglm.routing.balancers import ConsistentHash, IpHash, LeastConnections, Weighted, make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.routing.hash_ring import HashRing
from open_autoglm.routing.hashing import spread
from open_autoglm.routing.settings import Strategy

# A slow machine is no failure.
UNTIMED = settings(deadline=None)
KEYS = st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=100)
NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8, unique=True)
WEIGHTS = st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0, 80.0]), min_size=1, max_size=6)


def pool_of(weights: list[float]) -> list[Endpoint]:
    gates = [CircuitBreaker(BreakerSettings(), random.Random(number)) for number in range(len(weights))]
    return [Endpoint(f"e{number}", gate, weight=weights[number]) for number, gate in enumerate(gates)]


@UNTIMED
@given(
    st.sampled_from(get_args(Strategy)),
    WEIGHTS,
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "request",
                    "request",
                    "request",
                    "end",
                    "throttle",
                    "misconfigure",
                    "force",
                    "reset",
                    "eject",
                    "hold",
                    "panic",
                ]
            ),
            st.integers(0, 5),
            st.floats(0.0, 8.0),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_only_usable_endpoints_are_chosen_and_one_is_when_there_is_one(
    strategy: Strategy, weights: list[float], moves: list[tuple[str, int, float]], rng: random.Random
) -> None:
    pool = pool_of(weights)
    group = Group("m", pool, make_balancer(strategy, pool, rng), rng)
    running: list[tuple[Endpoint, int]] = []
    now_s = 100.0
    for what, number, step_s in moves:
        now_s += step_s
        endpoint = pool[number % len(pool)]
        gate = endpoint.gate
        assert isinstance(gate, CircuitBreaker)
        match what:
            case "throttle":
                endpoint.throttle(now_s + 10.0)
            case "misconfigure":
                endpoint.misconfigure(now_s + 20.0)
            case "force":
                gate.force_open(now_s)
                endpoint.look_again()
            case "reset":
                gate.reset(now_s)
                endpoint.look_again()
            case "end":
                if running:
                    ended, permit = running.pop(number % len(running))
                    match rng.randrange(3):
                        case 0:
                            ended.succeed(permit, now_s, 0.2, rng.random() < 0.5, 100)
                        case 1:
                            ended.fail(permit, now_s, False, rng.random() < 0.5)
                        case _:
                            ended.release(permit, now_s, rng.random() < 0.5)
            case "eject":
                endpoint.eject(now_s + 10.0)
            case "hold":
                endpoint.hold_back(rng.choice([0.0, 0.5]))
            case "panic":
                group.panic = not group.panic
            case _:
                tried = tuple(rng.sample(pool, rng.randint(0, len(pool) - 1))) if rng.random() < 0.3 else ()
                usable = [
                    one
                    for one in pool
                    if one not in tried
                    and max(one.throttled_until_s, one.misconfigured_until_s) <= now_s
                    and one.gate.permits(now_s)
                ]
                assert group.has_untried(tried, now_s) == bool(usable)
                retry_at_s = group.retry_at_s(now_s)
                assert retry_at_s >= now_s
                chosen = group.acquire(now_s, rng.choice([0, rng.getrandbits(64)]), tried)
                sure = [one for one in usable if group.panic or not (one.ejected_until_s > now_s or one.refuse_ratio)]
                if sure:
                    assert chosen in usable
                    assert retry_at_s == now_s
                if chosen in usable and chosen.ejected_until_s > now_s:
                    assert group.panic or not sure, "an ejected one only where there is no other"
                if chosen is not None:
                    assert chosen not in tried
                    assert usable or chosen.gate.state == "open", "only a lone trial overrides"
                    assert group.permit > 0
                    chosen.begin()
                    running.append((chosen, group.permit))


@UNTIMED
@given(NAMES, KEYS, st.integers(1, 40))
def test_a_newcomer_on_the_ring_takes_keys_and_moves_no_other(names: list[str], keys: list[int], points: int) -> None:
    before = HashRing((name, name, points) for name in names[:-1])
    after = HashRing((name, name, points) for name in names)
    for key in keys:
        assert after.owner(key) in (before.owner(key), names[-1])
        # And its stand-ins keep their order.
        assert [name for name in after.walk(key) if name != names[-1]] == list(before.walk(key))


@UNTIMED
@given(WEIGHTS.filter(lambda weights: len(weights) > 1), KEYS, st.integers(0, 5))
def test_with_hashing_only_the_keys_of_the_missing_move(weights: list[float], keys: list[int], number: int) -> None:
    pool = pool_of(weights)
    missing = pool[number % len(pool)]
    left = [endpoint for endpoint in pool if endpoint is not missing]
    for balancer in (IpHash(pool), ConsistentHash(pool)):
        for key in keys:
            owner = balancer.pick(pool, 0.0, key)
            stand_in = balancer.pick(left, 0.0, key)
            assert stand_in is owner or owner is missing


@UNTIMED
@given(WEIGHTS, KEYS)
def test_no_load_exceeds_its_bound(weights: list[float], keys: list[int]) -> None:
    pool = pool_of(weights)
    balancer = ConsistentHash(pool)
    whole = sum(weights)
    for sent, key in enumerate(keys * 3, start=1):
        chosen = balancer.pick(pool, 0.0, key)
        chosen.in_flight += 1
        assert chosen.in_flight <= 1.25 * sent * chosen.weight / whole + 1


@UNTIMED
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_smooth_weighted_is_exact_in_every_round(weights: list[int]) -> None:
    pool = pool_of([float(weight) for weight in weights])
    balancer = Weighted()
    for _ in range(3):
        chosen = [balancer.pick(pool, 0.0, 0) for _ in range(sum(weights))]
        assert [chosen.count(endpoint) for endpoint in pool] == weights


@UNTIMED
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 200))
def test_idle_turns_are_shared_by_weight_at_any_time(weights: list[int], picks: int) -> None:
    pool = pool_of([float(weight) for weight in weights])
    balancer = LeastConnections()
    chosen = [balancer.pick(pool, 0.0, 0) for _ in range(picks)]
    for endpoint in pool:
        assert abs(chosen.count(endpoint) - picks * endpoint.weight / sum(weights)) <= len(weights)


@UNTIMED
@given(st.sets(st.integers(0, 2**64 - 1), max_size=100))
def test_spreading_is_one_to_one(numbers: set[int]) -> None:
    assert len({spread(number) for number in numbers}) == len(numbers)
    assert all(0 <= spread(number) < 2**64 for number in numbers)
