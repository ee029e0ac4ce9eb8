"""The environment over a file, and in place of one."""

import pytest

from open_autoglm.config import load_config
from open_autoglm.config.environment import ollama_url
from open_autoglm.errors import ConfigError

from .conftest import Parse, Problems

MODELS = "models: [{name: a, endpoint: http://a/v1, token: old}, {name: b, endpoint: http://b/v1}]"


def test_environment_goes_over_file_over_default(parse: Parse) -> None:
    text = "server: {port: 1000, max-connections: 5}"
    assert parse("models: []").config.server.port == 8080
    assert parse(text).config.server.port == 1000
    config = parse(text, {"MCP__SERVER__PORT": "9000", "MCP__SERVER__MAX_CONNECTIONS": "6"}).config
    assert (config.server.port, config.server.max_connections) == (9000, 6)


def test_an_alias_in_the_file_is_the_same_key(parse: Parse) -> None:
    assert parse("server: {worker-threads: 4}", {"MCP__SERVER__WORKERS": "2"}).config.server.workers == 2


def test_entries_of_lists(parse: Parse) -> None:
    environ = {
        "MCP__MODELS__0__TOKEN": "new",
        "MCP__MODELS__2__NAME": "c",
        "MCP__MODELS__2__ENDPOINT": "http://c/v1",
        "MCP__AUTH__API_KEY": "key",
    }
    config = parse(MODELS, environ).config
    assert [model.name for model in config.models] == ["a", "b", "c"]
    assert config.models[0].token is not None
    assert config.models[0].token.reveal() == "new"
    assert config.auth.keys[0].key.reveal() == "key"


def test_lists_and_maps_are_written_in_json(parse: Parse) -> None:
    environ = {
        "MCP__MODELS": '[{"name": "x", "endpoint": "http://x/v1"}, {"name": "y", "endpoint": "http://y/v1"}]',
        "MCP__MODELS__1__WEIGHT": "3",
        "MCP__ROUTING__FALLBACKS": '{"x": ["y"]}',
        "MCP__TIMEOUTS": '{"total": "9s"}',
    }
    config = parse(MODELS, environ).config
    assert [(model.name, model.weight) for model in config.models] == [("x", 1.0), ("y", 3.0)]
    assert config.routing.fallbacks == {"x": ["y"]}
    assert config.timeouts.total_s == 9.0


def test_a_name_of_the_users_is_taken_as_it_stands(parse: Parse) -> None:
    assert parse(MODELS, {"MCP__ROUTING__FALLBACKS__a": "b"}).config.routing.fallbacks == {"a": ["b"]}


def test_what_aliases_share_is_not_changed_elsewhere(parse: Parse) -> None:
    text = """\
        models:
          - {name: a, endpoint: http://a, price: &p {input_per_million: 1}}
          - {name: b, endpoint: http://b, price: *p}
        """
    config = parse(text, {"MCP__MODELS__0__PRICE__INPUT_PER_MILLION": "2"}).config
    assert [model.price.input_per_million for model in config.models if model.price] == [2.0, 1.0]


def test_references_are_resolved(parse: Parse) -> None:
    environ = {"MCP__AUTH__API_KEY": "${KEY}", "KEY": "k"}
    assert parse("models: []", environ, trusted=False).config.auth.keys[0].key.reveal() == "k"


@pytest.mark.parametrize(
    ("name", "value", "path", "message"),
    [
        ("MCP__SERVER__PROT", "1", "server.PROT", "unknown key 'PROT'; the nearest known key is `port`"),
        ("MCP__SEVER__PORT", "1", "SEVER", "the nearest known key is `server`"),
        ("MCP__SERVER__PORT", "x", "server.port", "a whole number from 0 to 65535, got 'x'"),
        ("MCP__MODELS__7__NAME", "x", "", "the list has 2 entries"),
        ("MCP__MODELS__X__NAME", "x", "", "the list has 2 entries"),
        ("MCP__MODELS", "[{]", "models", "not JSON"),
        ("MCP__MODELS", "x", "models", "expected a list"),
        ("MCP__SERVER____PORT", "1", "", "is no path"),
        ("MCP__", "1", "", "is no path"),
        ("MCP__MODELS__0__NAME__X", "1", "", "leads through a single value"),
    ],
)
def test_what_is_wrong_names_the_variable(problems: Problems, name: str, value: str, path: str, message: str) -> None:
    [problem] = problems(MODELS, {name: value})
    assert (problem.path, problem.line) == (path, 0)
    assert message in problem.message
    assert f"environment variable {name})" in problem.message


def test_cross_checks_name_the_variable_too(problems: Problems) -> None:
    [problem] = problems(MODELS, {"MCP__SERVER__HOST": "0.0.0.0"})
    assert problem.path == "server.host"
    assert "MCP__SERVER__HOST" in problem.message


def test_variables_of_others_are_left_alone(parse: Parse) -> None:
    assert parse("models: []", {"MCP_SERVER_PORT": "1", "mcp__server__port": "1"}).config.server.port == 8080


def test_without_a_file_openai() -> None:
    loaded = load_config(None, {"OPENAI_API_KEY": "sk-1"})
    [model] = loaded.config.models
    assert (model.name, model.endpoint, model.upstream_model) == ("*", "https://api.openai.com/v1", None)
    assert model.token is not None
    assert model.token.reveal() == "sk-1"
    assert "sk-1" not in loaded.text
    assert loaded.warnings == []


def test_without_a_file_another_address() -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1", "MCP__SERVER__PORT": "0"}
    config = load_config(None, environ).config
    assert config.models[0].endpoint == "http://127.0.0.1:8000/v1"
    assert config.server.port == 0


def test_without_a_file_ollama() -> None:
    [model] = load_config(None, {"OLLAMA_HOST": "0.0.0.0"}).config.models
    assert (model.name, model.endpoint, model.token) == ("*", "http://127.0.0.1:11434/v1", None)


def test_without_a_file_a_wrong_address_has_no_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "api.openai.com"})
    assert "1 problem\n  models[0].endpoint: 'api.openai.com' is no address" in str(caught.value)


def test_two_vendors_need_a_file() -> None:
    loaded = load_config(None, {"OPENAI_API_KEY": "sk-1", "OLLAMA_HOST": "x", "ANTHROPIC_API_KEY": "y"})
    assert [model.endpoint for model in loaded.config.models] == ["https://api.openai.com/v1"]
    assert [warning.split(":")[0] for warning in loaded.warnings] == ["`OLLAMA_HOST`", "`ANTHROPIC_API_KEY`"]


def test_without_anything_there_is_no_model() -> None:
    loaded = load_config(None, {})
    assert loaded.config.models == []
    assert loaded.warnings == ["`models`: there is none; the server starts, but is not ready"]


def test_keys_without_a_file() -> None:
    config = load_config(None, {"MCP_API_KEY": "k", "MCP_ADMIN_KEY": "a"}).config
    assert config.auth.enabled
    assert config.auth.keys[0].key.reveal() == "k"
    assert config.server.admin_key is not None
    assert config.server.admin_key.reveal() == "a"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("gpu-1", "http://gpu-1:11434/v1"),
        ("gpu-1:8000", "http://gpu-1:8000/v1"),
        (":8000", "http://127.0.0.1:8000/v1"),
        ("http://gpu-1", "http://gpu-1:80/v1"),
        ("https://gpu-1/ollama/", "https://gpu-1:443/ollama/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        (" 127.0.0.1:11434 ", "http://127.0.0.1:11434/v1"),
    ],
)
def test_ollama_hosts(host: str, url: str) -> None:
    assert ollama_url(host) == url
