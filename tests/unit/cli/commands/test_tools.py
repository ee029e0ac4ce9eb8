"""`autoglm tools`: what it shows, what it calls, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run
from open_autoglm.tools.pins import FILE_NAME, Pins

CONFIG = """\
server: {{data_dir: {data}}}
tools:
  python:
    - {{name: shout, function: "tests.unit.cli.commands.test_tools:shout", class: dangerous}}
    - {{name: broken, function: "tests.unit.cli.commands.test_tools:broken"}}
"""


def shout(text: str) -> str:
    """Write a text in capitals."""
    return text.upper()


def broken() -> str:
    """Fail."""
    raise KeyError("secret")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    return str(path)


def test_tools_are_listed(config: str) -> None:
    terminal = piped()
    assert run(["tools", "list", "--config", config], terminal) == 0
    assert "shout       dangerous  ready  10" in out(terminal)
    assert "Write a text in capitals." in out(terminal)
    terminal = piped()
    assert run(["tools", "list", "--config", config, "--json"], terminal) == 0
    listed = json.loads(out(terminal))
    assert [tool["name"] for tool in listed["tools"]] == ["calculator", "shout", "broken"]
    assert listed["tools"][1]["schema"]["required"] == ["text"]
    assert listed["servers"] == []


@pytest.mark.parametrize(
    ("words", "code", "answer", "complaint"),
    [
        (["calculator", '{"expression": "6 * 7"}'], 0, '"result": "42"', ""),
        (["shout", '{"text": "hi"}'], 1, "", "with --yes you agree"),
        (["shout", '{"text": "hi"}', "--yes"], 0, "HI\n", ""),
        (["shout", '{"text": 4}', "--yes"], 1, "", "invalid_arguments: 'shout': $.text: expected string, got 4"),
        (["whisper"], 1, "", "unknown_tool: there is no tool 'whisper'; `autoglm tools list` shows them"),
        (["broken"], 1, "", "tool_broken: 'broken' failed: KeyError"),
        (["shout", "[]"], 2, "", "no JSON object"),
        (["shout", "{"], 2, "", "no JSON"),
    ],
)
def test_a_tool_is_called(config: str, words: list[str], code: int, answer: str, complaint: str) -> None:
    terminal = piped()
    assert run(["tools", "call", *words, "--config", config], terminal) == code
    assert answer in out(terminal)
    assert complaint in err(terminal)
    assert "secret" not in err(terminal)


def test_a_changed_tool_is_accepted(config: str, tmp_path: Path) -> None:
    pins = Pins(tmp_path / "data" / FILE_NAME)
    assert pins.holds("far.read", "a" * 64)
    terminal = piped()
    assert run(["tools", "accept", "far.read", "--config", config], terminal) == 0
    assert Pins(tmp_path / "data" / FILE_NAME).holds("far.read", "b" * 64)
    terminal = piped()
    assert run(["tools", "accept", "far.other", "--config", config], terminal) == 1
    assert "was never seen" in err(terminal)
