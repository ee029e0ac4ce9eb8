"""What may be written of tools, and what does not fit together."""

from __future__ import annotations

import pytest

from open_autoglm.config import load_config, parse_config
from open_autoglm.errors import ConfigError

GOOD = """\
tools:
  result_bytes: 64KiB
  python:
    - {name: add, function: "operator:add", class: read, timeout: 500ms, cost: 0.01}
  http:
    - name: weather
      url: https://api.example.com/v1/{city}?units={units}
      arguments: {units: {enum: [m, f], required: false}, days: {type: integer}}
      headers: {authorization: "${TOKEN}"}
    - {name: own, method: POST, url: "http://10.0.0.1/x", allow_private: true, arguments: {lines: {type: array}}}
  context:
    - {name: files, command: [npx, server], tools: [read, wipe], classes: {read: read, wipe: dangerous}, env: {A: b}}
    - {name: far, url: "https://tools.example.com/mcp", headers: {x-key: "${TOKEN}"}}
"""

BAD = """\
tools:
  python:
    - {name: calculator, function: "operator:add"}
    - {name: files.x, function: "operator add"}
  http:
    - {name: weather, url: "https://api.example.com/{city}?u={units}", arguments: {city: {type: array}, "a b": {}}}
    - {name: weather, url: "http://10.0.0.1/", headers: {host: y, "a b": c}}
    - {name: "a b", url: "ftp://x/", arguments: {n: {type: integer, enum: [a]}}}
    - {name: got, url: "https://x/", arguments: {n: {type: object}, m: {type: integer, enum: [a]}}}
  context:
    - {name: files, command: [npx], classes: {read: read}, tools: [write], headers: {a: b}, env: {"a-b": c}}
    - {name: none}
    - {name: files, url: "https://u:p@x/", env: {A: b}}
    - {name: a.b, url: "https://x/{y}", command: [x]}
    - {name: far, url: "https://x/{y}"}
    - {name: near, url: "http://x/"}
    - {name: child, command: [x], allow_private: true}
"""

WANTED = [
    (3, "tools.python[0].name", "is the name of tools.calculator too"),
    (4, "tools.python[1].name", "may be the name of a tool of tools.context[0] too"),
    (4, "tools.python[1].function", "expected module:function"),
    (6, "tools.http[0].arguments.city.type", "cannot stand in the URL"),
    (6, "tools.http[0].arguments.a b", "no name of an argument"),
    (7, "tools.http[1].name", "is the name of tools.http[0] too"),
    (7, "tools.http[1].url", "is not encrypted"),
    (7, "tools.http[1].headers.host", "set by the server itself"),
    (7, "tools.http[1].headers.a b", "no name of a header"),
    (8, "tools.http[2].name", "no name of a tool"),
    (8, "tools.http[2].url", "is no address"),
    (9, "tools.http[3].arguments.n.type", "GET, which has no body"),
    (9, "tools.http[3].arguments.m.enum", "is for texts"),
    (11, "tools.context[0].headers", "are for `url`"),
    (11, "tools.context[0].env.a-b", "no name of a variable"),
    (11, "tools.context[0].classes.read", "never called"),
    (12, "tools.context[1]", "either `command`"),
    (13, "tools.context[2].name", "names are unique"),
    (13, "tools.context[2].url", "user or password"),
    (13, "tools.context[2].env", "is for a child"),
    (14, "tools.context[3].name", "is no name"),
    (14, "tools.context[3]", "either `command`"),
    (15, "tools.context[4].url", "without places"),
    (16, "tools.context[5].url", "is not encrypted"),
    (17, "tools.context[6].allow_private", "is for `url`"),
]


def test_what_is_written_is_what_there_is(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    path.chmod(0o600)
    tools = load_config(str(path), {"TOKEN": "t0p"}).config.tools
    assert (tools.result_bytes, tools.calculator) == (65536, True)
    assert (tools.python[0].kind, tools.python[0].timeout_s) == ("read", 0.5)
    assert tools.http[0].headers["authorization"].reveal() == "t0p"
    assert tools.http[0].arguments["units"].enum == ["m", "f"]
    assert tools.context[0].classes == {"read": "read", "wipe": "dangerous"}
    assert tools.context[1].command == []


def test_every_problem_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(BAD, source="test", environ={}, trusted=True)
    found = {(problem.line, problem.path): problem.message for problem in caught.value.problems}
    for line, path, words in WANTED:
        assert words in found.pop((line, path))
    assert found == {}


def test_types_are_told_as_everywhere() -> None:
    with pytest.raises(ConfigError, match=r"line 3: tools\.http\[0\]\.class: expected one of dangerous, read, write"):
        parse_config(
            "tools:\n  http:\n    - {name: a, class: harmless, url: 'https://x/'}\n",
            source="test",
            environ={},
            trusted=True,
        )
