"""When groups panic: Envoy's published tables, row by row.

Source: Envoy's documentation, "Panic threshold" and "Priority levels". Its columns of traffic shares have no
counterpart here: a fallback gets what the group before it cannot take, request by request, and no share fixed ahead.
"""

import pytest

from open_autoglm.routing.panic import level_health, panics, total_health


@pytest.mark.parametrize("first", [72, 71, 50, 25, 0])
def test_beside_a_healthy_level_nobody_panics(first: int) -> None:
    levels = [(first, 100), (100, 100)]
    assert total_health(levels) == 100
    assert panics(levels) == [False, False]


@pytest.mark.parametrize(
    ("first", "second", "panicking", "total"),
    [
        (72, 72, [False, False], 100),
        (71, 71, [False, False], 100),
        (50, 60, [False, False], 100),
        (25, 100, [False, False], 100),
        (25, 25, [True, True], 70),
        (5, 65, [True, False], 98),
    ],
)
def test_two_levels(first: int, second: int, panicking: list[bool], total: int) -> None:
    levels = [(first, 100), (second, 100)]
    assert panics(levels) == panicking
    assert total_health(levels) == total


@pytest.mark.parametrize(("available", "health"), [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)])
def test_the_share_of_the_load_that_one_level_carries(available: int, health: int) -> None:
    """The traffic that Envoy leaves with a level before a healthy one."""
    assert level_health(available, 100) == health


@pytest.mark.parametrize(
    ("levels", "total"),
    [((25, 25, 100), 100), ((25, 25, 20), 98), ((50, 50, 100), 100), ((20, 30, 0), 70)],
)
def test_three_levels(levels: tuple[int, ...], total: int) -> None:
    assert total_health([(level, 100) for level in levels]) == total


@pytest.mark.parametrize(
    ("available", "total", "panicking"), [(0, 1, True), (1, 2, False), (1, 3, True), (2, 4, False)]
)
def test_small_groups_alone(available: int, total: int, panicking: bool) -> None:
    assert panics([(available, total)]) == [panicking]
