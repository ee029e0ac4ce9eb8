"""Scenarios as text: every sentence of the grammar, what is refused, and that random ones survive being written."""

from __future__ import annotations

import pytest

from open_autoglm.testing.chance import random_scenario
from open_autoglm.testing.scenario import Event, Expectation, Load, ScenarioError, read_scenario, seconds, written

TEXT = """
about: everything at once
upstreams: 3
config: {retries: {max: 1}}
others: {second: {retries: {max: 2}}}
network: {loss: 0.01}
load:
  - 10 requests/s for 20s, 40% streams, 5% leave, 10% hurry, 10% slow, 50% fresh
  - 2.5 requests/s for 500ms from 3s, key batch
events:
  - at 1s: freeze up-1 for 10s
  - at 2s: reset up-2
  - at 2500ms: cut up-1 to gateway for 1m
  - at 3s: lose 5% for 2s
  - at 4s: up-2 answers error-500 for 3s, 50%
  - at 5s: up-2 is-slow by 10x for 3s
  - at 6s: reload second
  - at 7s: drain
expect:
  - at least 99% answered
  - at least 90% answered of class batch
  - at most 1.1 calls per request
  - at least 3 continued
calm: false
"""


def test_every_sentence() -> None:
    scenario = read_scenario(TEXT)
    assert scenario.upstreams == 3
    assert scenario.loads[0] == Load(
        10.0, 20.0, 0.0, {"streams": 0.4, "leave": 0.05, "hurry": 0.1, "slow": 0.1, "fresh": 0.5}
    )
    assert scenario.loads[1] == Load(2.5, 0.5, 3.0, {}, "batch")
    assert scenario.events == (
        Event(1.0, "freeze", "up-1", for_s=10.0),
        Event(2.0, "reset", "up-2"),
        Event(2.5, "cut", "up-1", "gateway", 60.0),
        Event(3.0, "lose", for_s=2.0, share=0.05),
        Event(4.0, "answers", "up-2", "error-500", 3.0, 0.5),
        Event(5.0, "is-slow", "up-2", "10", 3.0),
        Event(6.0, "reload", what="second"),
        Event(7.0, "drain"),
    )
    assert scenario.expects == (
        Expectation(True, 0.99, "answered"),
        Expectation(True, 0.9, "answered", "batch"),
        Expectation(False, 1.1, "calls"),
        Expectation(True, 3.0, "continued"),
    )
    assert scenario.calm_s == 0.0
    assert scenario.drains
    assert scenario.ends_s == 62.5
    assert read_scenario(written(scenario)) == scenario


@pytest.mark.parametrize("seed", range(50))
def test_a_random_scenario_survives_being_written(seed: int) -> None:
    scenario = random_scenario(seed)
    assert read_scenario(written(scenario)) == scenario
    assert scenario == random_scenario(seed)
    assert not any(event.who == f"up-{scenario.upstreams}" for event in scenario.events)


@pytest.mark.parametrize(
    "text",
    [
        "load: many requests",
        "load: 3 requests/s for 2s, 10% nonsense",
        "events: [{at 5s: fly to the moon}]",
        "events: [freeze up-1 for 3s]",
        "expect: [that all goes well]",
        "surprise: 1",
        "- just a list",
    ],
)
def test_what_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        read_scenario(text)


def test_durations() -> None:
    assert [seconds(text) for text in ("250ms", "1.5s", "2m", "1h")] == [0.25, 1.5, 120.0, 3600.0]
    with pytest.raises(ScenarioError):
        seconds("soon")
