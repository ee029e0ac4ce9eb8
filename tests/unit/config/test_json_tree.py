"""JSON with lines."""

import pytest

from open_autoglm.config.json_tree import parse_json
from open_autoglm.config.tree import DEPTH_MAX, NODES_MAX, Entry, Mapping, Scalar, Sequence, TreeError


def test_each_value_knows_its_line() -> None:
    assert parse_json('{\n "a": [1,\n  true],\n\n "b": "x"\n}') == Mapping(
        (
            Entry("a", 2, Sequence((Scalar("1", 2, True), Scalar("true", 3, True)), 2)),
            Entry("b", 5, Scalar("x", 5, False)),
        ),
        1,
    )


def test_text_from_the_environment_has_no_lines() -> None:
    assert parse_json("\n[1]", "NAME") == Sequence((Scalar("1", 0, True, "NAME"),), 0, "NAME")


def test_repeated_keys_are_kept_for_the_reader_to_refuse() -> None:
    tree = parse_json('{"a": 1, "a": 2}')
    assert isinstance(tree, Mapping)
    assert [entry.key for entry in tree.entries] == ["a", "a"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected a value, found the end of the text"),
        ('{"a": 1\n "b": 2}', 2, 'expected `,` or `}`, found `"`'),
        ('{"a" 1}', 1, "expected `:` after the key, found a number"),
        ("{a: 1}", 1, "expected a key in double quotes, found a word without quotes"),
        ('{"a": 1,\n}', 2, "expected a key in double quotes, found `}`"),
        ("[1,]", 1, "expected a value, found `]`"),
        ("[1] x", 1, "expected the end of the text"),
        ("[01]", 1, "expected `,` or `]`, found a number"),
        ("[NaN]", 1, "expected a value"),
        ('["a\nb"]', 1, "not closed"),
        (r'["\x"]', 1, "wrong escape"),
        (r'["\ud800"]', 1, "surrogate"),
    ],
)
def test_what_is_not_json_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(TreeError) as caught:
        parse_json(text)
    assert message in caught.value.message
    assert caught.value.line == line


def test_a_word_that_may_be_a_secret_is_not_repeated() -> None:
    with pytest.raises(TreeError) as caught:
        parse_json('{"token": sk-very-secret}')
    assert "sk-" not in caught.value.message


def test_depth_is_bounded() -> None:
    parse_json("[" * DEPTH_MAX + "]" * DEPTH_MAX)
    with pytest.raises(TreeError, match="deeper than 32"):
        parse_json("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1))
    with pytest.raises(TreeError, match="deeper than 32"):
        parse_json('{"a": ' * DEPTH_MAX + "1" + "}" * DEPTH_MAX)


def test_number_of_values_is_bounded() -> None:
    with pytest.raises(TreeError, match="more than 100000 values"):
        parse_json("[" + "1," * NODES_MAX + "1]")
