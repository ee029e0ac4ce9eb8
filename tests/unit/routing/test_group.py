"""Who may take a request: tried, throttled, misconfigured, refused; and the lone trial when all are open."""

import random
from itertools import pairwise
from math import inf

import pytest
from tests.unit.routing.scripted_gate import ScriptedGate, broken

from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.settings import BreakerSettings
from open_autoglm.routing.balancers import LeastConnections, RoundRobin
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group


def group(*gates: ScriptedGate) -> Group:
    pool = [Endpoint("abcdef"[number], gate) for number, gate in enumerate(gates)]
    return Group("m", pool, RoundRobin(random.Random(1)))


def names(tested: Group, draws: int = 12, now_s: float = 1.0, tried: tuple[Endpoint, ...] = ()) -> set[str]:
    return {endpoint.name for _ in range(draws) if (endpoint := tested.acquire(now_s, 0, tried)) is not None}


def test_all_are_chosen_while_all_are_well() -> None:
    assert names(group(ScriptedGate(), ScriptedGate(), ScriptedGate())) == {"a", "b", "c"}


def test_tried_ones_are_not_chosen_again() -> None:
    tested = group(ScriptedGate(), ScriptedGate(), ScriptedGate())
    a, b, c = tested.endpoints
    assert names(tested, tried=(a,)) == {"b", "c"}
    assert names(tested, tried=(c, a)) == {"b"}
    assert tested.acquire(1.0, 0, {a, b, c}) is None
    assert tested.has_untried((a, b), 1.0)
    assert not tested.has_untried((a, b, c), 1.0)


def test_throttled_and_misconfigured_ones_are_left_alone_until_their_time() -> None:
    tested = group(ScriptedGate(), ScriptedGate(), ScriptedGate())
    a, b, c = tested.endpoints
    a.throttle(5.0)
    b.misconfigure(7.0)
    assert names(tested) == {"c"}
    assert not tested.has_untried((c,), 1.0)
    assert names(tested, now_s=5.0) == {"a", "c"}
    assert names(tested, now_s=7.0) == {"a", "b", "c"}


def test_a_gate_that_refuses_is_passed_over() -> None:
    tested = group(ScriptedGate(), broken(10.0))
    assert names(tested) == {"a"}
    assert not tested.has_untried(tested.endpoints[:1], 1.0)
    assert names(tested, now_s=10.0) == {"a", "b"}


def test_a_single_endpoint_is_checked_too() -> None:
    tested = group(ScriptedGate())
    assert names(tested) == {"a"}
    tested.endpoints[0].throttle(5.0)
    assert tested.acquire(1.0) is None


def test_acquire_takes_the_permit_of_the_one_it_returns() -> None:
    tested = group(ScriptedGate(), ScriptedGate())
    for number, endpoint in enumerate(tested.endpoints):
        endpoint.gate.permit = 10 * number + 4  # type: ignore[attr-defined]
    for expected in ("a", 5), ("b", 15), ("a", 5), ("b", 15):
        chosen = tested.acquire(1.0)
        assert chosen is not None
        assert (chosen.name, tested.permit) == expected


def test_while_all_are_open_one_request_every_five_seconds_goes_through() -> None:
    tested = group(broken(100.0), broken(100.0))
    through = []
    for tick in range(200):
        endpoint = tested.acquire(tick * 0.1)
        if endpoint is not None:
            through.append((tick * 0.1, endpoint.name))
    assert [at_s for at_s, _ in through] == pytest.approx([0.0, 5.0, 10.0, 15.0])
    assert {name for _, name in through} == {"a", "b"}, "they take turns"


def test_no_lone_trial_while_another_is_not_open() -> None:
    half_open = ScriptedGate(open_until_s=50.0, state="half_open")
    assert group(broken(100.0), half_open).acquire(1.0) is None
    tested = group(broken(100.0), ScriptedGate())
    assert tested.acquire(1.0, 0, tested.endpoints[1:]) is None, "the tried one is well"


def test_no_lone_trial_while_a_throttled_one_will_be_back() -> None:
    tested = group(broken(100.0), ScriptedGate())
    tested.endpoints[1].throttle(9.0)
    assert tested.acquire(1.0) is None


def test_lone_trials_do_not_wait_for_those_only_an_operator_brings_back() -> None:
    forced = ScriptedGate(open_until_s=inf, state="forced_open")
    tested = group(broken(100.0), forced, ScriptedGate())
    tested.endpoints[2].misconfigure(1000.0)
    endpoint = tested.acquire(1.0)
    assert endpoint is tested.endpoints[0]
    assert group(forced).acquire(1.0) is None


def test_a_lone_trial_goes_to_one_that_takes_it_and_was_not_tried() -> None:
    tested = group(broken(100.0), broken(100.0, trials=False), broken(100.0))
    assert tested.acquire(1.0, 0, tested.endpoints[:1]) is tested.endpoints[2]
    assert group(broken(100.0, trials=False)).acquire(1.0) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_lone_trial_finds_the_only_one_that_was_not_tried(place: int) -> None:
    tested = group(broken(100.0), broken(100.0), broken(100.0))
    tried = tuple(endpoint for number, endpoint in enumerate(tested.endpoints) if number != place)
    assert tested.acquire(1.0, 0, tried) is tested.endpoints[place]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_lone_trial_spares_those_that_asked_to_be_left_alone(place: int) -> None:
    tested = group(broken(100.0), broken(100.0), broken(100.0))
    for number, endpoint in enumerate(tested.endpoints):
        endpoint.throttle(0.0 if number == place else 50.0)
    assert tested.acquire(1.0) is tested.endpoints[place]
    tested.endpoints[place].throttle(50.0)
    assert tested.acquire(20.0) is None


def test_a_refused_lone_trial_does_not_use_up_the_five_seconds() -> None:
    gate = broken(100.0, trials=False)
    tested = group(gate)
    assert tested.acquire(1.0) is None
    gate.trials = True
    assert tested.acquire(1.1) is tested.endpoints[0]


def test_the_time_to_retry_is_that_of_the_first_to_be_back() -> None:
    tested = group(broken(30.0), broken(20.0), ScriptedGate())
    tested.endpoints[2].throttle(25.0)
    assert tested.retry_at_s(1.0) == 20.0
    tested.endpoints[1].misconfigure(40.0)
    assert tested.retry_at_s(1.0) == 25.0
    assert tested.retry_at_s(26.0) == 26.0
    assert group(broken(inf)).retry_at_s(1.0) == inf


def test_a_group_needs_endpoints() -> None:
    with pytest.raises(ValueError, match="'m' has no endpoints"):
        Group("m", [], LeastConnections())


def test_a_new_group_starts_its_turns_anew() -> None:
    pool = [Endpoint(name, ScriptedGate()) for name in "ab"]
    old = Group("m", pool[:1], LeastConnections())
    for _ in range(1000):
        old.acquire(1.0)
    new = Group("m", pool, LeastConnections())
    assert [new.acquire(1.0) for _ in range(4)] == [pool[0], pool[1], pool[0], pool[1]]


def test_with_real_breakers_an_outage_is_noticed_probed_and_survived() -> None:
    pool = [
        Endpoint(name, CircuitBreaker(BreakerSettings(), random.Random(number))) for number, name in enumerate("ab")
    ]
    tested = Group("m", pool, LeastConnections())
    called_s = []
    for tick in range(900):
        now_s = tick * 0.1
        endpoint = tested.acquire(now_s)
        if endpoint is None:
            continue
        called_s.append(now_s)
        endpoint.begin()
        if now_s < 60.0:
            endpoint.fail(tested.permit, now_s, False, True)
        else:
            endpoint.succeed(tested.permit, now_s, 0.1, True, 100)
    assert [endpoint.gate.state for endpoint in pool] == ["closed", "closed"]
    outage_s = [now_s for now_s in called_s if now_s < 60.0]
    # Five failures each, then trials; without a breaker it would be 600 calls.
    assert 10 + 2 * 3 <= len(outage_s) <= 50
    # One every 5 s is let through, so the end of the outage is noticed in that time.
    gaps_s = [after - before for before, after in pairwise(outage_s)]
    assert max(gaps_s) < 6.2
    served_s = [now_s for now_s in called_s if now_s >= 60.0]
    assert served_s[0] < 65.2
    assert len(served_s) > 240


def limited(endpoint: Endpoint, rooms: tuple[int, int, int, int]) -> None:
    endpoint.rooms = rooms


def test_an_endpoint_without_room_is_passed_over_and_a_group_without_room_is_full() -> None:
    tested = group(ScriptedGate(), ScriptedGate())
    a, b = tested.endpoints
    limited(a, (1, 1, 1, 1))
    limited(b, (2, 2, 2, 2))
    for expected in ({"a", "b"}, {"b"}):
        assert names(tested) == expected
        (a if expected == {"a", "b"} else b).begin()
    b.begin()
    assert tested.acquire(1.0) is None
    assert tested.full
    b.release(1, 1.0)
    assert tested.acquire(1.0) is b


def test_a_lower_class_finds_an_endpoint_full_sooner() -> None:
    tested = group(ScriptedGate())
    (only,) = tested.endpoints
    limited(only, (1, 2, 3, 4))
    taken = []
    for _ in range(4):
        taken.append([tested.acquire(1.0, 0, (), priority) is not None for priority in range(4)])
        only.begin()
    assert taken == [[True] * 4, [False, True, True, True], [False, False, True, True], [False, False, False, True]]


def test_a_group_is_full_only_when_nothing_but_room_is_wanting() -> None:
    tested = group(ScriptedGate(), broken(10.0))
    a, b = tested.endpoints
    limited(a, (0, 0, 0, 0))
    limited(b, (0, 0, 0, 0))
    assert tested.acquire(1.0) is None
    assert tested.full
    a.throttle(5.0)
    assert tested.acquire(1.0) is None
    assert not tested.full


def test_ejected_ones_are_left_alone_but_in_a_panic_and_where_nobody_takes_over() -> None:
    tested = group(ScriptedGate(), ScriptedGate())
    a, b = tested.endpoints
    a.eject(10.0)
    assert names(tested) == {"b"}
    tested.panic = True
    assert names(tested) == {"a", "b"}
    tested.panic = False
    b.throttle(5.0)
    assert names(tested) == {"a"}, "better than none"
    tested.has_fallback = True
    assert names(tested) == set()
    assert not tested.full
    assert names(tested, now_s=10.0) == {"a", "b"}


def test_requests_are_held_back_by_chance() -> None:
    pool = [Endpoint("a", ScriptedGate())]
    tested = Group("m", pool, LeastConnections(), random.Random(1))
    pool[0].hold_back(0.8)
    through = sum(tested.acquire(1.0) is not None for _ in range(1000))
    assert 160 <= through <= 240
    tested.panic = True
    assert all(tested.acquire(1.0) is not None for _ in range(100))


def test_a_request_held_back_from_one_goes_to_the_other() -> None:
    pool = [Endpoint(name, ScriptedGate()) for name in "ab"]
    tested = Group("m", pool, RoundRobin(random.Random(1)), random.Random(1))
    pool[0].hold_back(0.99)
    assert all(tested.acquire(1.0) is not None for _ in range(200))


def test_what_matters_most_is_not_what_an_endpoint_is_tried_with() -> None:
    half_open = ScriptedGate(0.5, state="half_open")
    tested = group(half_open, ScriptedGate())
    assert {endpoint.name for _ in range(40) if (endpoint := tested.acquire(1.0, 0, (), 3))} == {"b"}
    assert {endpoint.name for _ in range(40) if (endpoint := tested.acquire(1.0, 0, (), 2))} == {"a", "b"}
    assert group(half_open).acquire(1.0, 0, (), 3) is not None, "there is no other"


def test_what_an_operator_closed_is_left_alone_from_the_next_request_on() -> None:
    gates = [CircuitBreaker(BreakerSettings(), random.Random(1)) for _ in range(2)]
    pool = [Endpoint(name, gate) for name, gate in zip("ab", gates, strict=True)]
    tested = Group("m", pool, LeastConnections())
    assert tested.acquire(1.0) is not None
    gates[0].force_open(2.0)
    pool[0].look_again()
    assert all(tested.acquire(2.0) is pool[1] for _ in range(20))
