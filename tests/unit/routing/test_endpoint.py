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


class Pace:
    """A limit that is told what to be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.due_s = 0.0
        self.samples: list[tuple[float, bool, int, int]] = []
        self.drops = 0

    def sample(self, now_s: float, first_token_s: float, stream: bool, prompt_bytes: int, in_flight: int) -> None:
        self.samples.append((first_token_s, stream, prompt_bytes, in_flight))
        self.due_s = now_s + 1.0

    def drop(self, now_s: float) -> None:
        self.drops += 1
        self.limit -= 1


def test_an_attempt_is_in_flight_until_one_of_its_three_ends() -> None:
    gate = ScriptedGate()
    tested = Endpoint("e", gate)
    for _ in range(3):
        tested.begin()
    assert tested.in_flight == 3
    tested.succeed(7, 1.0, 0.5, False, 10)
    tested.fail(8, 2.0, False, True)
    tested.release(9, 3.0)
    assert tested.in_flight == 0
    assert gate.told == [("success", 7), ("failure", 8), ("release", 9)]
    assert (tested.good, tested.failures, tested.turned_away, tested.throttled) == (1, 1, 1, 0)


def test_a_429_is_turned_away_and_no_failure() -> None:
    tested = endpoint()
    tested.begin()
    tested.release(1, 1.0, overload=True)
    assert (tested.good, tested.failures, tested.turned_away, tested.throttled) == (0, 0, 1, 1)


def test_failures_in_a_row_start_anew_after_an_answer() -> None:
    tested = endpoint()
    rows = []
    for how in "ffgfffgf":
        tested.begin()
        if how == "f":
            tested.fail(1, 1.0, False, False)
        else:
            tested.succeed(1, 1.0, 0.5, False, 10)
        rows.append(tested.in_a_row)
    assert rows == [1, 2, 2, 1, 2, 3, 3, 1]


def test_a_unary_answers_length_is_not_held_against_the_breaker() -> None:
    told: list[float] = []

    class Listening(ScriptedGate):
        def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
            told.append(first_token_s)

    tested = Endpoint("e", Listening())
    for stream in (False, True):
        tested.begin()
        tested.succeed(1, 1.0, 0.5, stream, 10)
    assert told == [0.0, 0.5]


def test_a_trial_is_decided_by_its_first_token() -> None:
    gate = ScriptedGate(share=0.5)
    tested = Endpoint("e", gate)
    tested.begin()
    assert tested.first_token(5, 1.0, 0.5, 10) == 0
    assert gate.told == [("success", 5)]
    gate.share = 1.0
    assert tested.first_token(6, 1.0, 0.5, 10) == 6
    assert gate.told == [("success", 5)]


def test_samples_are_taken_when_they_are_due_with_those_in_flight() -> None:
    pace = Pace(50)
    tested = Endpoint("e", ScriptedGate(), pace=pace)
    for _ in range(4):
        tested.begin()
    permit = tested.first_token(1, 10.0, 0.5, 77)
    tested.succeed(permit, 10.5, 0.5, True, 77)
    tested.succeed(1, 10.6, 0.6, False, 88)
    assert pace.samples == [(0.5, True, 77, 4)], "the next is due at 11"
    tested.succeed(1, 11.0, 0.7, False, 99)
    assert pace.samples[1:] == [(0.7, False, 99, 2)]


def test_rooms_follow_the_limit_by_class() -> None:
    pace = Pace(100)
    tested = Endpoint("e", ScriptedGate(), pace=pace)
    assert (tested.limit, tested.rooms) == (100, (70, 85, 100, 110))
    pace.limit = 5
    tested.begin()
    tested.fail(1, 1.0, False, True)
    assert (pace.drops, tested.limit, tested.rooms) == (1, 4, (2, 3, 4, 4))
    pace.limit = 2
    tested.begin()
    tested.release(1, 1.0, overload=True)
    assert tested.rooms == (1, 1, 1, 1), "one always may"


def test_without_a_pace_there_is_always_room() -> None:
    assert min(endpoint().rooms) > 1_000_000


@pytest.mark.parametrize("trouble", ["throttle", "misconfigure", "eject", "hold_back", "fail"])
def test_whatever_speaks_against_it_makes_it_less_than_plain(trouble: str) -> None:
    tested = endpoint()
    assert tested.usable(1.0)
    assert tested.plain
    match trouble:
        case "throttle":
            tested.throttle(5.0)
        case "misconfigure":
            tested.misconfigure(5.0)
        case "eject":
            tested.eject(5.0)
        case "hold_back":
            tested.hold_back(0.5)
        case _:
            tested.begin()
            tested.fail(1, 1.0, False, False)
    assert not tested.plain
    assert tested.usable(2.0) == (trouble not in ("throttle", "misconfigure"))
    assert tested.plain == (trouble == "fail"), "a healthy gate forgives"
    tested.hold_back(0.0)
    assert tested.usable(5.0)
    assert tested.plain, "its time is over"


def test_an_answer_that_opens_the_gate_makes_it_less_than_plain() -> None:
    gate = ScriptedGate()
    tested = Endpoint("e", gate)
    tested.usable(0.0)
    gate.state = "open"
    tested.begin()
    tested.succeed(1, 1.0, 9.0, True, 10)
    assert not tested.plain
