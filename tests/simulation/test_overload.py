"""Four times what an upstream can do, and one key beside a greedy one, in virtual time: who is served, and how soon."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from open_autoglm.testing.reply import Asked, Behaviour, Reply, Steps
from open_autoglm.testing.scenario import Load, Scenario
from open_autoglm.testing.world import World

SLOTS = 8
SERVICE_S = 0.1
CAPACITY = SLOTS / SERVICE_S
WARM_S, MEASURE_S = 3.0, 9.0
PRIORITIES = {"critical": "critical", "sheddable": "sheddable", "modest": "critical", "greedy": "critical"}


class Crowded(World):
    """A world whose upstream serves `SLOTS` requests at a time and lets all others wait."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self._free_s = [0.0] * SLOTS

    def _behave(self, host: str, asked: Asked) -> Behaviour:
        def behave(reply: Reply) -> Steps:
            now_s = self.loop.time()
            ends_s = max(now_s, heapq.heappop(self._free_s)) + SERVICE_S
            heapq.heappush(self._free_s, ends_s)
            yield ends_s - now_s
            reply.whole()

        return behave


@dataclass
class Outcome:
    """What became of one key's requests after the warm-up."""

    offered: int
    served_s: list[float]
    refused_s: list[float]


def outcomes(seed: int, **rates: float) -> dict[str, Outcome]:
    """Have each key send at a rate, and return what became of it."""
    keys = [{"name": name, "key": f"key-{name}", "priority": PRIORITIES[name]} for name in rates]
    scenario = Scenario(
        upstreams=1,
        config={
            "auth": {"api_keys": keys},
            "limits": {"requests_per_second": 0, "wire": {"connections_per_address": 10_000}},
            "concurrency": {"start": SLOTS, "min": 4, "max": SLOTS},
        },
        loads=tuple(Load(rate, WARM_S + MEASURE_S, key=name) for name, rate in rates.items()),
        calm_s=0.0,
    )
    world = Crowded(scenario, seed)
    began_s = world.loop.time() + WARM_S
    world.run()
    found = {}
    for name in rates:
        seen = [seen for asked, seen in world.seen.values() if asked.key == f"key-{name}" and seen.sent_s >= began_s]
        assert all(each.right or each.status in (429, 503) for each in seen)
        found[name] = Outcome(
            len(seen),
            sorted(each.ended_s - each.sent_s for each in seen if each.right),
            sorted(each.ended_s - each.sent_s for each in seen if not each.right),
        )
    return found


def p99(times_s: list[float]) -> float:
    return times_s[int(len(times_s) * 0.99)]


def test_at_four_times_the_capacity_it_stays_busy_with_what_matters_and_says_no_at_once() -> None:
    found = outcomes(1, critical=0.8 * CAPACITY, sheddable=3.2 * CAPACITY)
    critical, sheddable = found["critical"], found["sheddable"]
    assert len(critical.served_s) >= 0.99 * critical.offered
    assert len(critical.served_s) + len(sheddable.served_s) >= 0.8 * CAPACITY * MEASURE_S
    assert p99(sheddable.refused_s) <= 0.05


def test_one_class_alone_uses_all_of_the_capacity() -> None:
    found = outcomes(2, sheddable=0.1, critical=4.0 * CAPACITY)["critical"]
    assert len(found.served_s) >= 0.9 * CAPACITY * MEASURE_S
    assert p99(found.refused_s) <= 0.05


def test_a_greedy_key_delays_another_by_the_turns_that_are_running_and_no_more() -> None:
    found = outcomes(3, modest=CAPACITY / 4, greedy=5.0 * CAPACITY)
    modest = found["modest"]
    assert len(modest.served_s) >= 0.99 * modest.offered
    assert p99(modest.served_s) <= 1.5 * SERVICE_S, "running requests end one by one, and unused turns were saved"
