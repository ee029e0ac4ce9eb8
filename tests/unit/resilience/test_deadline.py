"""The timer wheel at its edges; the property test compares it with a plain model."""

import pytest

from open_autoglm.resilience.deadline import DeadlineWheel


def test_an_item_is_due_at_its_deadline_and_not_before() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel(tick_s=0.1, slots=16)
    wheel.add("a", 1.05)
    assert wheel.due(1.04) == []
    assert wheel.due(1.15) == ["a"]
    assert wheel.due(99.0) == []


@pytest.mark.parametrize("start_s", [0.0, 3.7, 1e6 + 0.13])
def test_a_deadline_beyond_the_span_waits_for_later_rounds(start_s: float) -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel(tick_s=0.05, slots=8)
    wheel.due(start_s)
    wheel.add("late", start_s + 5.0)
    now_s = start_s
    while not wheel.due(now_s):
        now_s += 0.01
        assert now_s < start_s + 5.1
    assert start_s + 5.0 <= now_s <= start_s + 5.07


def test_moving_a_deadline_back_and_forth() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel(tick_s=0.1, slots=16)
    wheel.add("a", 0.5)
    wheel.add("a", 1.0)
    assert wheel.due(0.9) == []
    wheel.add("a", 5.0)
    wheel.add("a", 1.2)
    assert len(wheel) == 1
    assert wheel.due(1.35) == ["a"]
    assert len(wheel) == 0


def test_discarded_items_are_gone_at_once() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    wheel.add("a", 1.0)
    wheel.discard("a")
    wheel.discard("never there")
    assert "a" not in wheel
    assert wheel.next_due_s() is None
    assert wheel.due(2.0) == []


def test_a_deadline_in_the_past_is_due_at_the_next_tick() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel(tick_s=0.1, slots=16)
    wheel.due(10.0)
    wheel.add("past", 3.0)
    assert wheel.due(10.1) == ["past"]


def test_after_a_long_pause_everything_due_comes_at_once() -> None:
    wheel: DeadlineWheel[int] = DeadlineWheel(tick_s=0.05, slots=8)
    for number in range(100):
        wheel.add(number, number * 0.1)
    assert sorted(wheel.due(5.0)) == list(range(51))
    assert sorted(wheel.due(1000.0)) == list(range(51, 100))


def test_the_next_time_to_look_is_no_later_than_the_first_deadline_allows() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel(tick_s=0.1, slots=16)
    wheel.due(2.0)
    wheel.add("a", 2.42)
    wheel.add("b", 9.0)
    first_s = wheel.next_due_s()
    assert first_s is not None
    assert 2.42 <= first_s <= 2.52
    assert wheel.due(first_s + 1e-9) == ["a"]


def test_equal_runs_give_equal_orders() -> None:
    orders = []
    for _ in range(2):
        wheel: DeadlineWheel[object] = DeadlineWheel(tick_s=0.1, slots=16)
        items = [object() for _ in range(50)]
        for place, item in enumerate(items):
            wheel.add(item, 1.0 + (place * 7 % 13) * 0.01)
        orders.append([items.index(item) for item in wheel.due(5.0)])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 50


@pytest.mark.parametrize("slots", [0, 1, 3, 100, -8])
def test_a_wheel_needs_a_power_of_two_of_slots(slots: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        DeadlineWheel(slots=slots)
