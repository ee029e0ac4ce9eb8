"""Short forms, inheritance, and parts that are not built yet."""

import pytest

from open_autoglm.config.planned import NOTES
from open_autoglm.errors import ConfigError
from open_autoglm.resilience.settings import KeyLimits

from .conftest import Parse

MODELS = "models: [{name: a, endpoint: http://a/v1}]\n"


def test_a_model_inherits_what_it_leaves_out(parse: Parse) -> None:
    config = parse(
        """\
        timeouts: {gap: 7s, total: 9s}
        models:
          - name: a
            endpoint: http://a/v1
            timeouts: {gap: 1s}
          - {name: b, endpoint: http://b/v1, upstream_model: c, context_window: 8, stream_usage: false}
        """
    ).config
    first, second = config.models
    assert (first.timeouts.gap_s, first.timeouts.total_s, first.timeouts.connect_s) == (1.0, 9.0, 1.0)
    assert (first.upstream_model, first.max_retries, first.context_window, first.price) == ("a", None, None, None)
    assert first.stream_usage
    assert (second.timeouts.gap_s, second.upstream_model, second.context_window) == (7.0, "c", 8)
    assert not second.stream_usage


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", KeyLimits(100.0, 100, 0, 0)),
        ("limits: {requests_per_second: 2.5}", KeyLimits(2.5, 3, 0, 0)),
        (
            "limits: {requests_per_second: 5, burst: 50, requests_per_minute: 60, concurrency: 4}",
            KeyLimits(5.0, 50, 60, 4),
        ),
        ("limits: {requests_per_second: 0}", KeyLimits(0.0, 0, 0, 0)),
        ("limits: {burst: 0}", KeyLimits(100.0, 100, 0, 0)),
    ],
)
def test_limits(parse: Parse, text: str, limits: KeyLimits) -> None:
    assert parse(MODELS + text).config.limits == limits


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ("{}", KeyLimits(10.0, 20, 30, 40)),
        ("{requests_per_second: 3}", KeyLimits(3.0, 3, 30, 40)),
        ("{burst: 7}", KeyLimits(10.0, 7, 30, 40)),
        ("{requests_per_minute: 0, concurrency: 1}", KeyLimits(10.0, 20, 0, 1)),
    ],
)
def test_limits_of_one_key(parse: Parse, own: str, limits: KeyLimits) -> None:
    text = "limits: {requests_per_second: 10, burst: 20, requests_per_minute: 30, concurrency: 40}\n"
    [key] = parse(MODELS + text + f"auth: {{api_keys: [{{name: k, key: s, limits: {own}}}]}}").config.auth.keys
    assert key.limits == limits


def test_keys(parse: Parse) -> None:
    auth = parse(MODELS + "auth: {api_key: [x, y], api_keys: [{name: n, key: z, models: [a]}]}").config.auth
    assert auth.enabled
    assert [(key.name, key.key.reveal(), key.models) for key in auth.keys] == [
        ("key-1", "x", None),
        ("key-2", "y", None),
        ("n", "z", ["a"]),
    ]


def test_authentication_is_off_without_keys_and_when_it_is_said(parse: Parse) -> None:
    assert not parse(MODELS).config.auth.enabled
    assert not parse(MODELS + "auth: {enabled: false, api_key: k}").config.auth.enabled
    assert parse(MODELS + "auth: {api_key: k}").config.auth.enabled


def test_sizes_and_connections(parse: Parse) -> None:
    config = parse(
        MODELS + "server: {max_connections: 5}\nlimits: {body_bytes: 1MiB, response_bytes: 2MiB, stream_bytes: 3MiB, "
        "wire: {header_timeout: 1s}, upstream: {connections: 6}}"
    ).config
    assert (config.wire.connections, config.wire.body_bytes, config.wire.header_timeout_s) == (5, 2**20, 1.0)
    answers = config.answers
    assert (answers.response_bytes, answers.stream_bytes) == (2 * 2**20, 3 * 2**20)
    assert config.pool.connections == 6
    assert parse(MODELS + "limits: {wire: {connections: 9}}").config.wire.connections == 9


@pytest.mark.parametrize(("written", "path"), [("/", ""), ("", ""), ("api", "/api"), ("/a/b.c/", "/a/b.c")])
def test_context_path(parse: Parse, written: str, path: str) -> None:
    assert parse(MODELS + f"server: {{context_path: '{written}'}}").config.server.context_path == path


def test_service_port_is_the_servers(parse: Parse) -> None:
    assert parse(MODELS + "service: {port: 7000}").config.server.port == 7000


def test_the_environment_goes_over_either_way_to_write_the_port(parse: Parse) -> None:
    flat, both = MODELS + "service: {port: 7000}", MODELS + "service: {port: 7000}\nserver: {port: 7000}"
    for text in (flat, both):
        assert parse(text, {"MCP__SERVER__PORT": "9000"}).config.server.port == 9000
        assert parse(text, {"MCP__SERVICE__PORT": "9001"}).config.server.port == 9001


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("auth: {api_key: k, jwt: {secret: s}}", "auth.jwt"),
        ("auth: {signing: {enabled: true}}", "auth.signing"),
        ("budgets: {on_store_failure: closed}", "budgets"),
        ("sessions: {store: redis://h:1}", "sessions"),
        ("database: {url: postgresql://h/d}", "database"),
        ("service: {registry: http://r}", "service.registry"),
        ("mcp: {enabled: false}", "mcp.enabled"),
        ("sync_mode: raft", "sync_mode"),
    ],
)
def test_each_part_that_is_not_built_yet_is_one_warning_by_name(parse: Parse, text: str, key: str) -> None:
    [warning] = parse(MODELS + text).warnings
    assert warning == f"`{key}`: understood, not available in this version; {NOTES[key]}"


def test_what_is_off_or_default_is_no_warning(parse: Parse) -> None:
    text = "server: {workers: 1}\nhedging: {enabled: false}\n"
    text += "auth: {signing: {enabled: false}}\nmcp: {enabled: true, timeout: 1s}\nservice: {name: x}"
    assert parse(MODELS + text).warnings == []


def test_hedging_is_asked_for_as_a_whole_or_by_model(parse: Parse) -> None:
    text = """\
        hedging: {enabled: %s, delay_min: 20ms, spend_per_hour: 2.5}
        models:
          - {name: a, endpoint: http://a/v1}
          - {name: b, endpoint: http://b/v1, hedged: %s}
        """
    for whole, one in (("true", "false"), ("false", "true")):
        config = parse(text % (whole, one)).config
        assert (config.hedging.delay_min_s, config.hedging.spend_per_hour) == (0.02, 2.5)
        assert [str(entry.hedged).lower() for entry in config.models] == [whole, one]


def test_what_happens_to_broken_streams_may_be_said_for_each_model(parse: Parse) -> None:
    loaded = parse(
        """\
        stream_failure: continue
        models:
          - {name: a, endpoint: http://a/v1, continuation: vllm}
          - {name: b, endpoint: http://b/v1, stream_failure: terminate}
        """
    )
    first, second = loaded.config.models
    assert loaded.warnings == []
    assert (first.continuation, first.stream_failure) == ("vllm", "continue")
    assert (second.continuation, second.stream_failure) == ("none", "terminate")


def test_only_openai_endpoints_need_a_word_for_going_on(parse: Parse) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("models: [{name: a, endpoint: http://a/generate, continuation: prefill}]")
    [problem] = caught.value.problems
    assert problem.path == "models[0].continuation"


def test_models_of_other_dialects_are_set_apart(parse: Parse) -> None:
    loaded = parse(
        """\
        models:
          - {name: a, endpoint: http://a/v1}
          - {name: b, endpoint: https://b/v1/messages}
          - {name: c, endpoint: "mcp://c:1"}
        routing: {default: b, fallbacks: {a: [b], b: [a]}}
        """
    )
    config = loaded.config
    assert [model.name for model in config.models] == ["a", "c"]
    assert [model.name for model in config.models_unavailable] == ["b"]
    assert (config.routing.default, config.routing.fallbacks) == (None, {})
    assert [warning.split("; ")[0] for warning in loaded.warnings] == [
        "`models[1].dialect: anthropic`: understood, not available in this version",
    ]


def test_the_address_of_one_route_is_probably_not_meant(parse: Parse) -> None:
    [warning] = parse("models: [{name: a, endpoint: http://h/v1/chat/completions}]").warnings
    assert "write an OpenAI-compatible server up to /v1" in warning


def test_the_flat_form_of_cooperation_alone_is_just_models(parse: Parse) -> None:
    loaded = parse("model_endpoints: [https://h/v1, https://i/v1]")
    assert [model.name for model in loaded.config.models] == ["h", "i"]
    assert loaded.config.cooperation == {}
    assert loaded.warnings == []
