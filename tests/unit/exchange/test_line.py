"""Requests that wait for room."""

from math import inf

import pytest

from open_autoglm.exchange.line import Line
from tests.unit.exchange.harness import Rig


class Counter:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def make_room(rig: Rig, name: str = "a", attempts: int = 1) -> None:
    rig.endpoints[name].rooms = (attempts,) * 4


def test_a_request_without_room_waits_and_is_served_when_there_is_some() -> None:
    rig = Rig("a", rooms={"a": 0})
    assert rig.exchange.state == "queued"
    assert rig.record.queue_position == 1
    rig.now_s += 0.2
    make_room(rig)
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.path == "a:running"
    assert rig.record.queued_s == pytest.approx(0.2)
    rig.whole()
    assert rig.sink.ends == ["whole"]
    assert rig.record.rejected == ""


def test_without_room_after_all_it_keeps_its_place() -> None:
    rig = Rig("a", rooms={"a": 0})
    line = rig.plan.legs[0].line
    line.pump(rig.now_s)
    assert (rig.exchange.state, line.queue.waiting, rig.sink.opened) == ("queued", 1, [])


def test_a_full_leg_leads_to_the_next_one_that_has_room() -> None:
    rig = Rig("a | b", rooms={"a": 0})
    assert rig.path == "b:running"
    assert rig.record.queue_position == 0


def test_where_no_leg_has_room_the_line_of_the_first_is_joined() -> None:
    rig = Rig("a | b", rooms={"a": 0, "b": 0})
    assert [leg.queue.waiting for leg in rig.plan.legs] == [1, 0]
    make_room(rig, "b")
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.path == "b:running"


def test_whoever_comes_later_stands_behind() -> None:
    line = Line()
    first = Rig("a", rooms={"a": 0}, lines=(line,))
    later = Rig("a", lines=(line,))
    assert (first.record.queue_position, later.record.queue_position) == (1, 2)
    assert later.sink.opened == []
    make_room(first)
    line.pump(later.now_s)
    assert (first.path, later.path) == ("a:running", "a:running")


def test_who_overtakes_lower_classes_is_looked_at_at_once() -> None:
    line = Line()
    line.wake = wake = Counter()
    rooms = {"a": 0}
    Rig("a", rooms=rooms, lines=(line,), priority=0)
    Rig("a", rooms=rooms, lines=(line,), priority=0)
    assert wake.calls == 0, "nobody else waited, or those before have a better claim"
    higher = Rig("a", lines=(line,), priority=2)
    assert (higher.exchange.state, wake.calls) == ("queued", 1)
    line.pump(higher.now_s)
    assert higher.path == "a:running"


def test_a_retry_without_room_waits_for_it_in_line() -> None:
    rig = Rig("a,c | b", rooms={"b": 0, "c": 0})
    first = rig.path.partition(":")[0]
    rig.fail("unavailable", retry_after_s=inf)
    assert (rig.exchange.state, rig.plan.legs[0].queue.waiting) == ("queued", 1), (
        "nobody else is left, but they are well"
    )
    make_room(rig, first)
    make_room(rig, "b")
    rig.now_s += 0.2
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.path == f"{first}:unavailable b:running", "who wants no more of us is left alone"
    rig.whole()
    assert rig.plan.legs[0].budget.active == 0


def test_a_retry_in_line_does_not_go_back_to_who_failed() -> None:
    rig = Rig("a,b")
    failed = rig.path.partition(":")[0]
    other = "b" if failed == "a" else "a"
    make_room(rig, other, 0)
    rig.fail("connect")
    line = rig.plan.legs[0].line
    line.pump(rig.now_s)
    assert (rig.exchange.state, rig.path) == ("queued", f"{failed}:connect")
    make_room(rig, other)
    line.pump(rig.now_s)
    assert rig.path == f"{failed}:connect {other}:running"


def test_a_retry_that_waits_in_vain_gives_everything_back() -> None:
    rig = Rig("a | b", rooms={"b": 0})
    rig.fail("unavailable", retry_after_s=inf)
    rig.now_s += 30.0
    rig.plan.legs[0].line.pump(rig.now_s)
    assert (rig.sink.ends, rig.plan.legs[0].budget.active) == (["fail"], 0)
    assert rig.sink.error is not None
    assert rig.sink.error.http_status == 503


def test_waits_at_the_door_and_for_room_add_up() -> None:
    rig = Rig("a", rooms={"a": 0}, start=False)
    rig.record.queued_s, rig.record.queue_position = 2.0, 7
    rig.exchange.start(rig.now_s)
    rig.now_s += 0.5
    make_room(rig)
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.record.queued_s == pytest.approx(2.5)
    turned_away = Rig("a", rooms={"a": 0}, start=False)
    turned_away.plan.legs[0].queue.capacity = 0
    turned_away.record.queue_position = 7
    turned_away.exchange.start(turned_away.now_s)
    assert (turned_away.record.rejected, turned_away.record.queue_position) == ("queue_full", 7)


def test_the_end_of_an_attempt_wakes_the_line() -> None:
    line = Line()
    line.wake = wake = Counter()
    running = Rig("a", lines=(line,))
    failing = Rig("a", lines=(line,))
    Rig("a", lines=(line,), rooms={"a": 0})
    assert wake.calls == 0
    running.whole()
    assert wake.calls == 1
    failing.fail("refused")
    assert wake.calls == 2


def test_nobody_is_woken_where_nobody_waits() -> None:
    line = Line()
    line.wake = wake = Counter()
    Rig("a", lines=(line,)).whole()
    assert wake.calls == 0


def test_whoever_waits_too_long_is_told_to_come_back() -> None:
    rig = Rig("a", rooms={"a": 0})
    rig.plan.legs[0].line.pump(rig.now_s + 2.0)
    assert rig.sink.error is not None
    assert rig.sink.error.code == "overloaded"
    assert rig.sink.error.retry_after_s == 1.0
    assert rig.record.rejected == "shed_in_queue"
    assert rig.record.queued_s == 2.0


def test_a_full_line_takes_nobody() -> None:
    line = Line()
    line.queue.capacity = 0
    rig = Rig("a", rooms={"a": 0}, lines=(line,))
    assert rig.sink.error is not None
    assert rig.sink.error.code == "overloaded"
    assert rig.record.rejected == "queue_full"


def test_whoever_runs_out_of_time_in_the_line_is_counted_as_that() -> None:
    rig = Rig("a", rooms={"a": 0}, total_s=0.5)
    rig.wait()
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"
    assert rig.record.rejected == "expired_in_queue"
    assert rig.plan.legs[0].queue.waiting == 0


def test_whoever_is_shed_after_its_time_hears_that_its_time_was_over() -> None:
    """As when the whole process stood still."""
    rig = Rig("a", rooms={"a": 0}, total_s=20.0)
    rig.plan.legs[0].line.pump(rig.now_s + 100.0)
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"
    assert rig.record.rejected == "expired_in_queue"


def test_no_work_is_begun_for_whoever_has_no_time_left_when_its_turn_comes() -> None:
    rig = Rig("a", rooms={"a": 0}, total_s=0.5)
    make_room(rig)
    assert rig.exchange.granted(rig.now_s + 0.49)
    assert rig.sink.opened == []
    assert rig.record.rejected == "expired_in_queue"
    assert rig.sink.ends == ["fail"]


def test_whoever_leaves_is_out_of_the_line() -> None:
    rig = Rig("a", rooms={"a": 0})
    rig.exchange.client_gone(rig.now_s)
    assert rig.plan.legs[0].queue.waiting == 0
    assert rig.sink.ends == []
    make_room(rig)
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.sink.opened == []


def test_whoever_waits_is_told_when_nobody_can_serve_it_any_more() -> None:
    rig = Rig("a", rooms={"a": 0})
    rig.endpoints["a"].misconfigure(rig.now_s + 60.0)
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.sink.error is not None
    assert rig.sink.error.code == "no_healthy_endpoint"


def test_turns_and_refusals_that_come_late_are_nothing() -> None:
    rig = Rig("a")
    assert rig.exchange.granted(rig.now_s)
    rig.exchange.shed(rig.now_s)
    assert rig.path == "a:running"
    assert rig.sink.ends == []


def test_a_retry_that_finds_its_group_full_goes_to_the_fallback() -> None:
    rig = Rig("a,b | c")
    make_room(rig, "b", 0)
    rig.fail("connect")
    assert rig.path == "a:connect c:running"


def test_a_retry_waits_for_room_where_there_is_no_fallback() -> None:
    rig = Rig("a,b")
    make_room(rig, "a", 0)
    make_room(rig, "b", 0)
    rig.fail("connect")
    assert rig.exchange.state == "queued"
    make_room(rig, "b")
    rig.plan.legs[0].line.pump(rig.now_s)
    assert rig.path == "a:connect b:running"
