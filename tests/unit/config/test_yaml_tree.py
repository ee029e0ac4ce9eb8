"""YAML with lines, and what of YAML has no place in a configuration."""

import pytest

from open_autoglm.config.tree import DEPTH_MAX, NODES_MAX, Entry, Mapping, Node, Scalar, Sequence, TreeError
from open_autoglm.config.yaml_tree import parse_yaml


def entries(node: Node) -> dict[str, Node]:
    assert isinstance(node, Mapping)
    return {entry.key: entry.value for entry in node.entries}


def test_each_value_knows_its_line() -> None:
    assert parse_yaml("a:\n  - 1\n  - 'x'\n\nb: yes\n") == Mapping(
        (
            Entry("a", 1, Sequence((Scalar("1", 2, True), Scalar("x", 3, False)), 2)),
            Entry("b", 5, Scalar("yes", 5, True)),
        ),
        1,
    )


def test_a_reference_may_stand_unquoted_inside_braces() -> None:
    tree = parse_yaml("server: {key: ${KEY}, port: 1}\nb: x-${A}-$${B}\nc: '${C}'\n")
    inner = entries(entries(tree)["server"])
    assert inner["key"] == Scalar("${KEY}", 1, True)
    assert inner["port"] == Scalar("1", 1, True)
    assert entries(tree)["b"] == Scalar("x-${A}-$${B}", 2, True)
    assert entries(tree)["c"] == Scalar("${C}", 3, False)


def test_aliases_and_merges() -> None:
    tree = parse_yaml("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [*x, {r: 4}]}\n")
    assert entries(tree)["b"] == entries(tree)["a"]
    assert {key: value for key, value in entries(entries(tree)["c"]).items() if isinstance(value, Scalar)} == {
        "q": Scalar("3", 3, True),
        "p": Scalar("1", 1, True),
    }
    assert list(entries(entries(tree)["d"])) == ["p", "q", "r"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "is empty"),
        ("# nothing\n", 0, "is empty"),
        ("a:\n\tb: 1", 2, "a tab in the indentation"),
        ("a: [1, 2\nb: 3\n", 2, "begun on line 1"),
        ("a: b: c", 1, "mapping values are not allowed"),
        ("x: 1\na: !!python/object:os.system x", 2, "a tag"),
        ("a: !secret x", 1, "a tag"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("&a [*a]", 1, "takes an anchor"),
        ("a: *b", 1, "takes an anchor"),
        ("? [a]\n: 1", 1, "a key must be a plain word"),
        ("a: 1\nb: {<<: 3}", 2, "`<<` takes a map"),
        ("a: @x", 1, "needs quotes"),
        ("a: 1\nb: \x07", 2, "U+0007"),
        ("a: 1\nb: \ud800", 2, "U+D800"),
        ("a: \ue000", 1, "U+E000"),
    ],
)
def test_what_has_no_place_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(TreeError) as caught:
        parse_yaml(text)
    assert message in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize("text", ["a: *sk-secret", "a: !sk-secret x", "token: sk-secret: x"])
def test_a_word_that_may_be_a_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(TreeError) as caught:
        parse_yaml(text)
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000])
def test_depth_is_bounded_before_it_is_read(text: str) -> None:
    with pytest.raises(TreeError, match="deeper than 32"):
        parse_yaml(text)


def test_depth_through_aliases_is_bounded() -> None:
    levels = [f"l{n}: &l{n} [*l{n - 1}]" for n in range(1, DEPTH_MAX + 1)]
    with pytest.raises(TreeError, match="through an alias"):
        parse_yaml("\n".join(["l0: &l0 [x]", *levels]))


def test_an_alias_bomb_is_refused() -> None:
    levels = [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(TreeError, match=f"more than {NODES_MAX}"):
        parse_yaml("\n".join(["l0: &l0 [x]", *levels]))
