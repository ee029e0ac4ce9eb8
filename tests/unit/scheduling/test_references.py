from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.scheduling.references import FILLED_CHARS_MAX, ReferenceProblem, apart, escape, fill, needed, rename

RESULTS: dict[str, Any] = {
    "1": 540,
    "a": {"name": "Ann", "tags": ["x", {"deep": None}], "on": True},
    "step-2": [1.5, "two"],
    "sum": {"result": "540"},
    "text": "costs $1 ${a}",
}


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("$1", 540),
        ("${1}", 540),
        ("$a", RESULTS["a"]),
        ("${a.tags.1.deep}", None),
        ("${a.on}", True),
        ("${step-2.0}", 1.5),
        ("$1-8506", "540-8506"),
        ("$sum-8506", "540-8506"),
        ("$sum", {"result": "540"}),
        ("it is ${a.name}!", "it is Ann!"),
        ("${a.tags}", ["x", {"deep": None}]),
        ("all: ${a.tags}", 'all: ["x",{"deep":null}]'),
        ("${a.on} ", "true "),
        ("$text.", "costs $1 ${a}."),
        ("$$1", "$1"),
        ("$$$1", "$540"),
        ("5 $ and $, $", "5 $ and $, $"),
        ("$$", "$"),
        ("", ""),
    ],
)
def test_what_is_written_becomes(written: str, filled: object) -> None:
    result = fill({"x": [written]}, RESULTS)["x"][0]
    assert (result, type(result)) == (filled, type(filled))


def test_all_else_stays_and_keys_are_not_looked_at() -> None:
    value = {"$1": 1, "b": [None, 2.5, False, {"c": "$1"}]}
    assert fill(value, RESULTS) == {"$1": 1, "b": [None, 2.5, False, {"c": 540}]}
    assert value["b"] == [None, 2.5, False, {"c": "$1"}]


def test_the_ids_that_are_needed_each_once_in_their_order() -> None:
    assert needed({"x": "$b and ${a.f}", "y": ["$$c", {"z": "$b$1"}], "$k": 0}) == ("b", "a", "1")
    assert needed({}) == ()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("$2", "refers to task '2', which has no result"),
        ("${a.none}", "has no 'none'"),
        ("${step-2.7}", "has no '7'"),
        ("${step-2.-1}", "has no '-1'"),
        ("${1.x}", "has no 'x'"),
        ("${}", "no reference"),
        ("${a..b}", "no reference"),
        ("${a b}", "no reference"),
        ("${a", "without its"),
        ("${${a}}", "without its"),
    ],
)
def test_what_points_nowhere_is_an_error(written: str, message: str) -> None:
    with pytest.raises(ReferenceProblem, match=message):
        fill({"x": written}, RESULTS)


def test_references_are_renamed_and_then_written_alike() -> None:
    value = {"x": ["$1-$$1", "${1.a.0} $2"], "$1": 1}
    assert rename(value, {"1": "1-2"}) == {"x": ["${1-2}-$$1", "${1-2.a.0} ${2}"], "$1": 1}
    with pytest.raises(ReferenceProblem):
        rename("${", {})


@pytest.mark.parametrize("written", ["${}", "${a", "${a..b}"])
def test_a_malformed_reference_is_found_before_anything_runs(written: str) -> None:
    with pytest.raises(ReferenceProblem):
        needed([written])


def test_a_value_without_its_ids_tells_whether_renaming_makes_two_equal() -> None:
    rest, ids = apart({"b": "$1 and ${2.x}", "a": ["$$1", "${1}"], "$3": 7})
    assert ids == ("1", "1", "2")
    assert rest == {"b": "${} and ${.x}", "a": ["$$1", "${}"], "$3": 7}
    assert apart({"a": "$1", "b": "$2"}) == apart({"b": "${2}", "a": "${1}"})
    assert apart({"a": "$1", "b": "$2"}) != apart({"a": "$2", "b": "$1"})
    assert apart("$1x") != apart("${1}x")
    with pytest.raises(ReferenceProblem):
        apart({"a": "${"})


def test_filling_is_bounded() -> None:
    big = {"t": "x" * (FILLED_CHARS_MAX // 4)}
    fill(["$t$t", "$t"], big)
    with pytest.raises(ReferenceProblem, match="exceed"):
        fill(["$t$t", "$t$t-"], big)
    for result in (big["t"], [big["t"]]):
        fill(["$t"] * 3, {"t": result})
        with pytest.raises(ReferenceProblem, match="exceed"):
            fill(["$t"] * 5, {"t": result})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text())
def test_an_escaped_text_comes_back(text: str) -> None:
    assert fill(escape(text), {}) == text
    assert needed(escape(text)) == ()


@given(JSON)
def test_a_result_keeps_its_type_and_is_not_looked_into(result: object) -> None:
    assert fill({"x": "${id}"}, {"id": result}) == {"x": result}
    assert fill({"x": "$id"}, {"id": result}) == {"x": result}
