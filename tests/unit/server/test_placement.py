"""How much work a node gets."""

import pytest

from open_autoglm.membership.load import LoadReport
from open_autoglm.server.placement import placement_weight

IDLE = LoadReport(slots=4)


def weight(load: LoadReport | None, latency_s: float = 0.0, fastest_s: float = 0.0, *, suspect: bool = False) -> float:
    return placement_weight(load, latency_s, fastest_s, suspect=suspect)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (None, 1.0),
        (IDLE, 1.0),
        (LoadReport(), 1.0),
        (LoadReport(slots=16), 4.0),
        (LoadReport(slots=4, cpu=0.5), 0.5),
        (LoadReport(slots=4, cpu=1.0), 0.1),
        (LoadReport(slots=4, memory_free=0.1), 1.0),
        (LoadReport(slots=4, memory_free=0.05), 0.5),
        (LoadReport(slots=4, memory_free=0.0), 0.05),
        (LoadReport(slots=4, queue=4), 0.5),
        (LoadReport(slots=8, cpu=0.5, memory_free=0.05, queue=8), 0.25),
    ],
)
def test_each_figure_has_its_factor(load: LoadReport | None, expected: float) -> None:
    assert weight(load) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("latency_s", "fastest_s", "expected"),
    [(0.2, 0.1, 0.5), (0.1, 0.1, 1.0), (9.0, 0.1, 0.25), (0.0, 0.1, 1.0), (0.1, 0.0, 1.0)],
)
def test_slower_first_tokens_mean_less_work(latency_s: float, fastest_s: float, expected: float) -> None:
    assert weight(IDLE, latency_s, fastest_s) == pytest.approx(expected)


def test_a_suspect_gets_next_to_nothing_but_more_than_nothing() -> None:
    assert weight(IDLE, suspect=True) == pytest.approx(0.05)
    worst = LoadReport(slots=1, cpu=1.0, memory_free=0.0, queue=2**32 - 1)
    assert weight(worst, 9.0, 0.1, suspect=True) > 0.0
