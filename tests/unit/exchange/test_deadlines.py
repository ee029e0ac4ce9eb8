"""No work is begun for an answer that cannot come in time."""

import random
from math import inf

import pytest

from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.settings import BreakerSettings
from tests.unit.exchange.harness import Rig


def gate_of(first_token_s: float) -> CircuitBreaker:
    """A breaker that has seen first tokens take so long."""
    breaker = CircuitBreaker(BreakerSettings(), random.Random(1))
    for second in range(30):
        breaker.success(breaker.acquire(second), second, first_token_s)
    return breaker


@pytest.mark.parametrize("legs", ["a", "a,b | c"])
def test_less_time_than_a_first_token_takes_is_told_at_once(legs: str) -> None:
    rig = Rig(legs, total_s=4.0, gate=gate_of(5.0), known_s=990.0)
    assert rig.sink.opened == []
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"
    assert rig.in_flight() == 0


def test_enough_time_is_enough() -> None:
    rig = Rig("a", total_s=6.0, gate=gate_of(5.0), known_s=990.0)
    assert rig.path == "a:running"


def test_a_retry_that_cannot_answer_in_time_is_not_made() -> None:
    rig = Rig("a,b", total_s=8.0, gate=gate_of(5.0), known_s=990.0)
    rig.now_s += 4.0
    rig.fail("connect")
    assert rig.path == "a:connect"
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"


def test_a_second_attempt_that_cannot_answer_in_time_is_not_made() -> None:
    rig = Rig("a,b", stream=True, total_s=30.0, gate=gate_of(20.0), known_s=990.0)
    rig.wait()
    assert len(rig.sink.opened) == 1
    assert rig.sink.ends == []


def test_backoff_does_not_use_up_the_time_to_tell_the_client() -> None:
    rig = Rig("a", total_s=10.0)
    rig.now_s += 9.9
    rig.fail("unavailable", retry_after_s=0.08)
    assert rig.sink.ends == ["fail"]


def test_what_was_known_long_ago_turns_nobody_away() -> None:
    """Otherwise an endpoint that has become fast again would never be found out."""
    rig = Rig("a", total_s=4.0, gate=gate_of(5.0), known_s=900.0)
    assert rig.path == "a:running"


def test_a_slow_client_does_not_move_the_deadline() -> None:
    rig = Rig(stream=True, total_s=40.0)
    rig.content()
    rig.sink.ready_since_s = inf
    assert rig.wait() == 30.0
    assert rig.wait() == 10.0
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"
