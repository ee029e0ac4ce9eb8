"""What an endpoint knows, and passes on."""

import pytest
from tests.unit.routing.scripted_gate import ScriptedGate

from open_autoglm.routing.endpoint import Endpoint


def endpoint(**fields: float) -> Endpoint:
    return Endpoint("e", ScriptedGate(), **fields)  # type: ignore[arg-type]


def test_latency_goes_up_at_once() -> None:
    tested = endpoint()
    tested.observe_latency(0.0, 0.2)
    tested.observe_latency(0.0, 3.0)
    assert tested.latency_s == 3.0


def test_latency_comes_down_with_time_not_with_the_number_of_samples() -> None:
    few, many = endpoint(), endpoint()
    for tested, step_s in ((few, 1.0), (many, 0.01)):
        tested.observe_latency(0.0, 3.0)
        now_s = 0.0
        while now_s < 10.0:
            now_s += step_s
            tested.observe_latency(now_s, 1.0)
    # e^-1 of the two seconds above is left.
    assert many.latency_s == pytest.approx(1.736, abs=0.02)
    assert few.latency_s == pytest.approx(many.latency_s, rel=0.05)


def test_an_outlier_counts_at_once_and_is_soon_forgotten() -> None:
    tested = endpoint()
    tested.observe_latency(0.0, 0.5)
    tested.observe_latency(1.0, 50.0)
    tested.observe_latency(1.0, 0.5)
    assert tested.latency_s == 50.0
    tested.observe_latency(101.0, 0.5)
    assert tested.latency_s < 5.1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="give it a weight above 0"):
        endpoint(weight=weight)


def test_a_successor_inherits_what_was_learnt_and_not_what_was_configured() -> None:
    former, tested = endpoint(weight=2.0), endpoint(weight=5.0)
    former.observe_latency(3.0, 0.7)
    former.throttle(9.0)
    former.misconfigure(99.0)
    former.reported_load = 4.0
    former.in_flight = 6
    tested.inherit(former)
    assert (tested.latency_s, tested.latency_at_s, tested.throttled_until_s, tested.reported_load) == (
        0.7,
        3.0,
        9.0,
        4.0,
    )
    assert (tested.weight, tested.in_flight) == (5.0, 0)
    assert tested.misconfigured_until_s == 0.0, "its credentials may be others"
