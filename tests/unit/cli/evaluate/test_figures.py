"""Figures against values computed elsewhere, and laws that they keep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.cli.evaluate.figures import (
    busy_of,
    ceiling,
    interval_95,
    oracle_cost,
    phi,
    quantile,
    ranking,
    same_wrong,
    utilisation,
)

ROWS = st.lists(st.booleans(), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(9, 10, 0.5958, 0.9821), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0), (1476, 1500, 0.9763, 0.9892)],
)
def test_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    assert interval_95(hits, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_share(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        interval_95(hits, count)


def test_phi() -> None:
    one = [True] * 20 + [True] * 10 + [False] * 5 + [False] * 65
    two = [True] * 20 + [False] * 10 + [True] * 5 + [False] * 65
    assert phi(one, two) == pytest.approx((20 * 65 - 10 * 5) / math.sqrt(30 * 70 * 25 * 75))
    assert phi([True, True], [True, False]) is None


@given(ROWS)
def test_phi_of_a_row_with_itself_is_one(row: list[bool]) -> None:
    found = phi(row, row)
    assert found is None if len(set(row)) == 1 else found == pytest.approx(1.0)


def test_same_wrong() -> None:
    right = ["1", "2", "3", "4"]
    assert same_wrong(["1", "7", "8", "9"], ["5", "7", "9", "9"], right) == pytest.approx(2 / 3)
    assert same_wrong(right, ["0"] * 4, right) is None


def test_ranking() -> None:
    assert ranking([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert ranking([0.5, 0.5], [True, False]) == 0.5
    assert ranking([0.5, 0.6], [True, True]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=20))
def test_ranking_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    right = [score for score, hit in rows if hit]
    wrong = [score for score, hit in rows if not hit]
    found = ranking([score for score, _ in rows], [hit for _, hit in rows])
    if not right or not wrong:
        assert found is None
        return
    wins = sum((one > two) + (one == two) / 2 for one in right for two in wrong)
    assert found == pytest.approx(wins / (len(right) * len(wrong)))


def test_quantiles() -> None:
    assert [quantile([4.0, 1.0, 3.0, 2.0], share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.0, 2.0, 3.0, 4.0]
    assert quantile([], 0.5) == 0.0


def test_bounds_of_a_team() -> None:
    right = {"a": [True, False, False, False], "b": [False, True, True, False]}
    assert ceiling(right) == 0.75
    assert oracle_cost(right, {"a": [1.0, 1.0, 1.0, 1.0], "b": [2.0, 2.0, 0.5, 2.0]}) == 1.0 + 2.0 + 0.5 + 1.0
    with pytest.raises(ValueError, match="no items"):
        ceiling({"a": []})


def test_calls_at_once_take_slots_and_calls_in_turn_do_not() -> None:
    assert busy_of([]) == (0.0, 0)
    assert busy_of([(0.0, 1.0), (1.0, 3.0)]) == (3.0, 1)
    assert busy_of([(0.0, 2.0), (1.0, 3.0), (2.5, 4.0)]) == (5.5, 2)
    assert busy_of([(1.0, 1.0)]) == (0.0, 1)
    assert utilisation(5.5, 4.0, 2) == 5.5 / 8
    assert utilisation(0.0, 0.0, 1) == utilisation(1.0, 1.0, 0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted), min_size=1, max_size=20))
def test_nobody_is_busier_than_the_time_and_the_slots_allow(spans: list[list[int]]) -> None:
    busy, slots = busy_of((begin, end) for begin, end in spans)
    wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
    assert busy == sum(end - begin for begin, end in spans)
    assert busy <= wall * slots
    assert 1 <= slots <= len(spans)
    assert utilisation(busy, wall, slots) == (pytest.approx(busy / (wall * slots)) if wall else 0.0)
