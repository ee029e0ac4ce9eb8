"""Version vectors: order, joining, pruning, shape."""

from typing import Any

import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.version_vector import check_vector, compare, covers, includes, join, prune


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ({}, {}, "equal"),
        ({"a": 0}, {}, "equal"),
        ({"a": 1}, {"a": 1, "b": 0}, "equal"),
        ({}, {"a": 1}, "before"),
        ({"a": 1}, {"a": 2, "b": 1}, "before"),
        ({"a": 2}, {"a": 1}, "after"),
        ({"a": 1}, {"b": 1}, "concurrent"),
        ({"a": 2, "b": 1}, {"a": 1, "b": 2}, "concurrent"),
    ],
)
def test_order(left: dict[str, int], right: dict[str, int], order: str) -> None:
    assert compare(left, right) == order


def test_a_join_knows_what_each_knows_and_no_more() -> None:
    left, right = {"a": 2, "b": 1}, {"b": 3, "c": 1}
    assert join(left, right) == {"a": 2, "b": 3, "c": 1}
    assert left == {"a": 2, "b": 1}
    assert includes(join(left, right), left)
    assert covers(left, "a", 2)
    assert not covers(left, "a", 3)


def test_pruning_leaves_out_who_is_gone_and_then_the_lowest() -> None:
    vector = {"a": 9, "b": 1, "c": 5, "gone": 7}
    assert prune(vector, {"gone"}, (), 64) == {"a": 9, "b": 1, "c": 5}
    assert prune(vector, {"gone"}, {"b"}, 2) == {"a": 9, "b": 1}
    assert prune(vector, {"gone"}, {"gone"}, 64) == vector


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"": 1},
        {"m" * 65: 1},
        {1: 1},
        {"a": -1},
        {"a": 2**53},
        {"a": True},
        {"a": 1.0},
        {str(n): 1 for n in range(65)},
    ],
)
def test_what_is_no_vector_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError) as refused:
        check_vector(value)
    assert refused.value.code == "invalid_request"


def test_a_vector_is_taken() -> None:
    assert check_vector({"a": 0, "b": 2**53 - 1}) == {"a": 0, "b": 2**53 - 1}
