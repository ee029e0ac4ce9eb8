"""The picture is as wide as it may be, and marks the knee."""

import pytest

from open_autoglm.cli.load.picture import WIDTH_MIN, draw
from open_autoglm.cli.load.step import Step

STEPS = [
    Step(2**i, 1.0, 100, {}, rate, 1.0, p50, p99)
    for i, (rate, p50, p99) in enumerate([(900.0, 1.0, 2.0), (1800.0, 1.1, 4.0), (2000.0, 2.0, 900.0)])
]


@pytest.mark.parametrize("width", [1, 50, 80, 200])
def test_no_line_is_wider_than_asked(width: int) -> None:
    lines = draw(STEPS, STEPS[1], width)
    assert max(map(len, lines)) <= max(width, WIDTH_MIN)
    assert [line.split()[0] for line in lines if line.endswith("<- knee")] == ["2"]


def test_more_is_longer() -> None:
    bars = [line.count("█") for line in draw(STEPS, None, 100)[1:4]]
    assert bars == sorted(bars)
    assert bars[0] < bars[2]


def test_nothing_served_draws_nothing() -> None:
    assert draw([Step(1, 1.0, 0, {"timeout": 3})], None, 80) == []


def test_one_step_of_one_answer() -> None:
    assert draw([Step(1, 1.0, 1, {}, 1.0, 0.0, 0.0, 0.0)], None, 80)
