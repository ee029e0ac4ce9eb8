"""Arguments against schemas: what fits, what does not and how it is told, what is not looked at, what is too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.tools.argument_check import PROBLEMS_MAX, problems, unchecked

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 5}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150}},
}

CASES: list[tuple[dict[str, Any], Any, str | None]] = [
    (PERSON, {"name": "Ada", "age": 36}, None),
    (PERSON, {"name": "Ada", "age": 36.0}, None),
    (PERSON, {}, "$: 'name' is missing"),
    (PERSON, {"name": "", "age": 1}, "$.name: is shorter than 1"),
    (PERSON, {"name": "Ada Lovelace"}, "$.name: is longer than 5"),
    (PERSON, {"name": "Ada", "age": 150}, "$.age: 150 is too large"),
    (PERSON, {"name": "Ada", "age": True}, "$.age: expected integer, got true"),
    (PERSON, {"name": "Ada", "Age": 3}, "$: 'Age' is not known; known are name, age"),
    (PERSON, [], "$: expected object, got []"),
    ({"type": ["string", "null"]}, None, None),
    ({"type": ["string", "null"]}, 4, "$: expected string or null, got 4"),
    ({"type": "dragon"}, 4, "$: expected dragon, got 4"),
    ({"enum": [1, "a", [True]]}, 1.0, None),
    ({"enum": [1, "a", [True]]}, True, '$: true is none of [1,"a",[true]]'),
    ({"const": {"a": 1, "b": 2}}, {"b": 2, "a": 1}, None),
    ({"const": 0}, False, "$: false is not 0"),
    ({"items": {"type": "string"}, "minItems": 1, "uniqueItems": True}, ["a", "b"], None),
    ({"items": {"type": "string"}}, ["a", 2], "$[1]: expected string, got 2"),
    ({"uniqueItems": True}, [1, 1.0], "$: holds the same value twice"),
    ({"prefixItems": [{"type": "string"}], "items": False}, ["a", 1], "$[1]: nothing may stand here"),
    ({"multipleOf": 0.1}, 0.3, None),
    ({"multipleOf": 0.1}, 0.35, "$: 0.35 is no multiple of 0.1"),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 1.5, "$: 1.5 fits none of the 2 allowed forms"),
    ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3, "$: 3 fits 2 forms, and must fit one"),
    ({"allOf": [{"minimum": 1}, {"maximum": 5}]}, 6, "$: 6 is too large"),
    ({"not": {"type": "string"}}, "x", '$: "x" has a form that is forbidden'),
    ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, '$.a: expected integer, got "b"'),
    ({"$ref": "#/$defs/none"}, 1, "the schema refers to '#/$defs/none', which is not there"),
    ({"$ref": "https://elsewhere/"}, 1, "the schema refers to 'https://elsewhere/', which is not within it"),
    ({"$ref": "#"}, 1, "$: too large or too deep to be checked"),
    ({"minLength": "long"}, "x", "the schema is malformed: '<' not supported between instances of 'int' and 'str'"),
    ({"exclusiveMinimum": True, "minimum": 1}, 1, None),
]


@pytest.mark.parametrize(("schema", "value", "wanted"), CASES)
def test_each_checked_keyword(schema: dict[str, Any], value: Any, wanted: str | None) -> None:
    found = problems(schema, value)
    assert found == ([] if wanted is None else [wanted])


def test_problems_are_limited() -> None:
    assert len(problems({"items": {"type": "string"}}, [1] * 1000)) == PROBLEMS_MAX


def test_a_value_beyond_all_measure_is_refused() -> None:
    assert problems({"items": {"type": "integer"}}, [1] * 200_000)[-1].endswith("too large or too deep to be checked")
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    nested = {"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}
    assert problems(nested, deep)


def test_a_schema_that_multiplies_its_work_is_stopped() -> None:
    schema: dict[str, Any] = {"$defs": {"n0": {"type": "integer"}}}
    for level in range(1, 30):
        schema["$defs"][f"n{level}"] = {"allOf": [{"$ref": f"#/$defs/n{level - 1}"}] * 4}
    schema["$ref"] = "#/$defs/n29"
    assert problems(schema, 1) == ["$: too large or too deep to be checked"]


def test_what_is_not_checked_is_listed() -> None:
    schema = {
        "properties": {"a": {"format": "date", "pattern": "x"}},
        "items": [{"if": {}}],
        "anyOf": [{"contains": {}}],
    }
    assert unchecked(schema) == ["contains", "format", "pattern"]
    assert unchecked(PERSON) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_const_accepts_its_value_and_nothing_that_differs(value: Any, other: Any) -> None:
    assert problems({"const": value}, value) == []
    assert problems({"not": {"const": value}}, value) != []
    if problems({"const": value}, other) == []:
        assert other == value


@given(st.dictionaries(st.sampled_from(["type", "items", "required", "enum", "minimum", "$ref", "anyOf"]), JSON), JSON)
def test_no_schema_makes_it_fail(schema: dict[str, Any], value: Any) -> None:
    assert all(isinstance(problem, str) for problem in problems(schema, value))
    assert isinstance(unchecked(schema), list)
