"""The timeline of a stop, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.config.schema import DrainSettings
from open_autoglm.server.drain import Drain, InFlight, Phase

SETTINGS = DrainSettings()
NOTHING = InFlight(0, 0, 0)
UNARY = InFlight(1, 0, 1)
STREAM = InFlight(0, 1, 1)
BOTH = InFlight(1, 1, 2)
IDLE = InFlight(0, 0, 1)


def steps(drain: Drain, now_s: float, left: InFlight) -> list[Phase]:
    """The phases that are entered one after the other."""
    entered = []
    while (phase := drain.step(now_s, left)) is not None:
        entered.append(phase)
    return entered


def test_one_phase_is_entered_at_a_time() -> None:
    drain = Drain(SETTINGS, 0.0, hurry=True)
    assert [drain.step(0.0, NOTHING) for _ in range(4)] == ["closing", "streams", "over", None]


def test_it_goes_on_accepting_even_when_idle() -> None:
    drain = Drain(SETTINGS, 100.0)
    assert drain.phase == "accepting"
    assert drain.due_s == 105.0
    assert steps(drain, 104.9, NOTHING) == []
    assert steps(drain, 105.0, NOTHING) == ["closing", "streams", "over"]
    assert drain.due_s is None


def test_what_runs_is_waited_for_and_no_longer() -> None:
    drain = Drain(SETTINGS, 0.0)
    assert steps(drain, 5.0, BOTH) == ["closing"]
    assert steps(drain, 29.9, BOTH) == []
    assert steps(drain, 29.95, STREAM) == ["streams"]
    assert steps(drain, 299.9, STREAM) == []
    assert steps(drain, 299.95, NOTHING) == ["over"]


def test_what_does_not_end_is_ended() -> None:
    drain = Drain(SETTINGS, 0.0)
    assert steps(drain, 5.0, BOTH) == ["closing"]
    assert steps(drain, 30.0, BOTH) == ["streams"]
    assert steps(drain, 300.0, BOTH) == ["over"]


def test_nobody_needs_to_learn_of_ctrl_c() -> None:
    assert steps(Drain(SETTINGS, 7.0, hurry=True), 7.0, IDLE) == ["closing", "streams", "over"]
    drain = Drain(SETTINGS, 7.0, hurry=True)
    assert steps(drain, 7.0, UNARY) == ["closing"]
    assert drain.due_s == 37.0
    assert steps(drain, 8.0, NOTHING) == ["streams", "over"]


def test_with_a_successor_idle_connections_may_leave_by_themselves() -> None:
    drain = Drain(SETTINGS, 0.0, replaced=True)
    assert steps(drain, 0.9, NOTHING) == []
    assert steps(drain, 1.0, IDLE) == []
    assert steps(drain, 1.1, NOTHING) == ["closing", "streams", "over"]
    assert steps(Drain(SETTINGS, 0.0, replaced=True), 5.0, IDLE) == ["closing", "streams", "over"]


def test_the_last_bound_holds_for_unary_requests_too() -> None:
    drain = Drain(DrainSettings(accept_s=1.0, unary_s=30.0, stream_s=10.0), 0.0)
    running = InFlight(3, 0, 3)
    assert steps(drain, 9.0, running)[-1] == "closing"
    assert steps(drain, 10.0, running)[-1] == "over"


def test_a_shorter_time_never_comes_before_a_longer_one() -> None:
    drain = Drain(DrainSettings(accept_s=10.0, unary_s=2.0, stream_s=1.0), 0.0)
    assert steps(drain, 9.9, BOTH) == []
    assert steps(drain, 10.0, BOTH) == ["closing", "streams", "over"]


seconds = st.floats(0, 400, allow_nan=False)


@given(
    settings=st.builds(DrainSettings, seconds, seconds, seconds),
    hurry=st.booleans(),
    replaced=st.booleans(),
    looks=st.lists(
        st.tuples(
            seconds,
            st.integers(0, 2),
            st.integers(0, 2),
        )
    ),
)
def test_phases_come_in_order_each_once_and_end(
    settings: DrainSettings, hurry: bool, replaced: bool, looks: list[tuple[float, int, int]]
) -> None:
    drain = Drain(settings, 0.0, hurry=hurry, replaced=replaced)
    entered = [drain.phase]
    now_s = 0.0
    for step_s, unary, streams in looks:
        now_s += step_s
        new = steps(drain, now_s, InFlight(unary, streams, unary + streams))
        entered += new
        assert drain.phase == entered[-1]
        if "over" in new:
            assert (not unary and not streams) or now_s >= settings.stream_s
        if "closing" in new and not replaced and not hurry:
            assert now_s >= settings.accept_s
    entered += steps(drain, now_s + 1e9, BOTH)
    assert entered == ["accepting", "closing", "streams", "over"]
