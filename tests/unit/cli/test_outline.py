"""Values nobody knows in advance, line by line."""

from typing import Any

from open_autoglm.cli.outline import DEPTH_MAX, outline


def test_maps_lists_and_values() -> None:
    value = {"ready": True, "reason": "", "n": None, "rate": 1.5, "models": [{"name": "a"}, "b"], "none": []}
    assert list(outline(value)) == [
        "ready: yes",
        "reason: -",
        "n: -",
        "rate: 1.5",
        "models:",
        "  -",
        "    name: a",
        "  - b",
        "none: none",
    ]


def test_one_field_is_one_line() -> None:
    assert list(outline({"a\n": "b\nc\x1b[2J"})) == ["a\\x0a: b\\x0ac\\x1b[2J"]


def test_depth_ends() -> None:
    value: Any = "bottom"
    for _ in range(DEPTH_MAX + 5):
        value = [value]
    lines = list(outline(value))
    assert lines[-1].strip() == "…"
    assert len(lines) == DEPTH_MAX + 2
