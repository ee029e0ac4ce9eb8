"""Making keys."""

import json

import yaml
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.commands.keys import configuration_line
from open_autoglm.cli.main import run
from open_autoglm.config import parse_config
from open_autoglm.ids import key_check

MODELS = "models: [{name: a, endpoint: 'http://h/v1'}, {name: b, endpoint: 'http://h/v1'}]"


def test_a_new_key_alone_goes_to_standard_output() -> None:
    terminal = piped()
    assert run(["keys", "new", "--name", "alice"], terminal) == 0
    key = out(terminal).strip()
    assert key.startswith("mcp_")
    assert key[-2:] == key_check(key[4:-2])
    assert key in err(terminal)


def test_what_is_shown_can_be_pasted_into_a_file() -> None:
    terminal = piped()
    assert run(["keys", "new", "--name", "alice: 'x'", "--model", "a", "--model", "b"], terminal) == 0
    text = err(terminal).partition("auth:")
    loaded = parse_config(f"{MODELS}\n{text[1]}{text[2]}", source="x.yaml", environ={}, trusted=True)
    [entry] = loaded.config.auth.keys
    assert (entry.name, entry.models, entry.key.reveal()) == ("alice: 'x'", ["a", "b"], out(terminal).strip())


def test_json() -> None:
    terminal = piped()
    assert run(["keys", "new", "--json"], terminal) == 0
    told = json.loads(out(terminal))
    assert told["entry"]["key"] == told["key"]


def test_two_keys_differ() -> None:
    first, second = piped(), piped()
    run(["keys", "new"], first)
    run(["keys", "new"], second)
    assert out(first) != out(second)


def test_tokens_are_of_a_later_version() -> None:
    terminal = piped()
    assert run(["keys", "token"], terminal) == 1
    assert "not available in this version" in err(terminal)


def test_the_line_is_yaml_and_json() -> None:
    line = configuration_line("名字", "mcp_x", None)
    assert yaml.safe_load(line) == json.loads(line) == {"name": "名字", "key": "mcp_x"}
