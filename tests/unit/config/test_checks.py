"""Values that do not fit together."""

from pathlib import Path

import pytest

from open_autoglm.config import load_config
from open_autoglm.config.checks import is_loopback

from .conftest import Parse, Problems

MODELS = """\
models:
  - {name: chat, endpoint: http://a/v1}
  - {name: backup, endpoint: http://b/v1}
"""


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        ("routing: {fallbacks: {chat: [bakup]}}", 4, "routing.fallbacks.chat[0]", "the nearest is 'backup'"),
        ("routing: {fallbacks: {caht: [backup]}}", 4, "routing.fallbacks.caht", "the nearest is 'chat'"),
        ("routing: {fallbacks: {chat: [chat]}}", 4, "routing.fallbacks.chat[0]", "has been tried by then"),
        ("routing: {fallbacks: {chat: [backup, backup]}}", 4, "routing.fallbacks.chat[1]", "has been tried by then"),
        ("routing: {default: x}", 4, "routing.default", "no model is called 'x'"),
        ("auth: {api_keys: [{name: a, key: k, models: [x]}]}", 4, "auth.api_keys[0].models[0]", "no model is called"),
        ("server: {port: 8081}", 4, "server.port", "both listeners would use port 8081"),
        ("server: {port: 1, admin_port: 1}", 4, "server.admin_port", "both listeners would use port 1"),
        ("server: {grpc_port: 8081}", 4, "server.grpc_port", "another listener would use port 8081 too"),
        ("server: {workers: 2, grpc_port: 0}", 4, "server.grpc_port", "several workers need one port"),
        ("server: {workers: 2}\ncluster: {secret: sixteen-characters}", 4, "server.workers", "one member of a cluster"),
        ("server: {host: '*'}", 4, "server.host", "write 0.0.0.0 for every network"),
        ("server: {host: 'a b'}", 4, "server.host", "no IP address or host name"),
        ("server: {host: '[::1]'}", 4, "server.host", "no IP address or host name"),
        ("server: {host: 0.0.0.0}", 4, "server.host", "authentication is off; set `auth.api_key`"),
        ("server: {host: '::'}\nauth: {enabled: false, api_key: k}", 4, "server.host", "authentication is off"),
        ("server: {context_path: /a//b}", 4, "server.context_path", "a path like /api"),
        ("server: {context_path: /../x}", 4, "server.context_path", "a path like /api"),
        ("auth: {enabled: true}", 4, "auth.enabled", "there is no key; write `api_key: ${MCP_API_KEY}`"),
        ("auth: {api_key: [k, k]}", 4, "auth.api_key[1]", "the same key as that of 'key-1'"),
        ("auth: {api_keys: [{name: a, key: k}, {name: a, key: l}]}", 4, "auth.api_keys[1].name", "names are unique"),
        ("auth: {api_key: k, api_keys: [{name: default, key: l}]}", 4, "auth.api_keys[0].name", "names are unique"),
        ("tls: {client_ca: /dev/null}", 4, "tls.client_ca", "is not a file"),
        ("limits: {body_bytes: 1MiB, wire: {body_bytes: 2MiB}}", 4, "limits.wire.body_bytes", "keep one"),
        (
            "server: {max_connections: 5}\nlimits: {wire: {connections: 6}}",
            5,
            "limits.wire.connections",
            "`server.max_connections` says 5; keep one",
        ),
        ("server: {port: 1}\nservice: {port: 2}", 5, "service.port", "`server.port` says 1; keep one"),
        ("audit: {enabled: false, required: true}", 4, "audit.required", "cannot be required while `audit.enabled`"),
        ("audit: {key: 0123456789abcde}", 4, "audit.key", "is shorter than 16 characters"),
        ("cluster: {join: ['h:1']}", 4, "cluster.join", "no cluster without `cluster.secret`"),
        ("cluster: {secret: short}", 4, "cluster.secret", "is too short; 16 characters are the least"),
        ("cluster: {secret: 0123456789abcdef, join: [h]}", 4, "cluster.join[0]", "is no address; write HOST:PORT"),
        ("cluster: {bind: 'localhost:1'}", 4, "cluster.bind", "no IP address of this machine"),
        ("cluster: {bind: '127.0.0.1:70000'}", 4, "cluster.bind", "no IP address of this machine"),
        ("cluster: {bind: '0.0.0.0:1'}", 4, "cluster.bind", "set `cluster.advertise`"),
        ("cluster: {advertise: host}", 4, "cluster.advertise", "is no IP address"),
        ("cluster: {secret: 0123456789abcdef, join: ['[::1]:1']}", 4, "cluster.join", "not of the same family"),
        ("cluster: {name: 'a b'}", 4, "cluster.name", "is no name"),
        ("sessions: {store: mongodb://u:canary@h}", 4, "sessions.store", "memory, sqlite or redis://HOST:PORT"),
        (
            "concurrency: {max: 2}",
            4,
            "concurrency.max",
            "`concurrency.max` (2) must not be lower than `concurrency.min` (4)",
        ),
        ("concurrency: {min: 2000}", 4, "concurrency.min", "`concurrency.max` (1000) must not be lower"),
        ("overload: {soft: 0.92}", 4, "overload.soft", "`overload.hard` (0.9) must not be lower than `overload.soft`"),
        ("overload: {lag_full: 100ms}", 4, "overload.lag_full", "lower than `overload.lag_hard` (0.25)"),
        ("heartbeat_interval: 3s", 4, "heartbeat_interval", "longer than the heartbeat"),
        (
            "cooperation: {v: {strategy: ahead_by_k, members: [chat], quorum: 2}}",
            4,
            "cooperation.v.quorum",
            "asks for 2 answers, but there are 1 members",
        ),
        ("cooperation: {v: {strategy: ahead_by_k, members: []}}", 4, "cooperation.v.members", "is empty"),
    ],
)
def test_what_does_not_fit(problems: Problems, text: str, line: int, path: str, message: str) -> None:
    [problem] = problems(MODELS + text)
    assert (problem.line, problem.path) == (line, path)
    assert message in problem.message
    assert "canary" not in problem.message


def test_a_name_may_be_any_name_when_one_model_takes_all(parse: Parse) -> None:
    config = parse("models: [{name: '*', endpoint: http://a/v1}]\nrouting: {default: x, fallbacks: {y: [z]}}").config
    assert (config.routing.default, config.routing.fallbacks) == ("x", {"y": ["z"]})
    assert config.models[0].upstream_model is None


def test_a_refused_model_makes_no_second_problem_of_its_name(problems: Problems) -> None:
    found = problems("models: [{name: chat, endpoint: ''}]\nrouting: {default: chat}")
    assert [problem.path for problem in found] == ["models[0].endpoint"]


def test_the_same_endpoint_twice(problems: Problems) -> None:
    [problem] = problems(
        "models:\n  - {name: a, endpoint: http://h/v1}\n  - {name: a, endpoint: http://h/v1/}\n"
        "  - {name: a, endpoint: http://h/v1, token: other-account}\n  - {name: b, endpoint: http://h/v1}\n"
    )
    assert (problem.line, problem.path) == (3, "models[1]")
    assert "same endpoint for 'a' as models[0]" in problem.message


def test_a_group_without_any_weight(problems: Problems, parse: Parse) -> None:
    assert parse("models: [{name: a, endpoint: http://h/v1, weight: 0}, {name: a, endpoint: http://i/v1}]").config
    [problem] = problems("models: [{name: a, endpoint: http://h/v1, weight: 0}]")
    assert problem.path == "models[0].weight"


def test_a_model_needs_a_name(problems: Problems) -> None:
    [problem] = problems('models: [{name: " ", endpoint: http://h/v1}]')
    assert problem.path == "models[0].name"


def test_an_embedded_model_must_ship(problems: Problems, parse: Parse) -> None:
    assert parse("models: [{name: a, endpoint: embedded:glm-calc-s}]").config.models[0].dialect == "embedded"
    [problem] = problems("models: [{name: a, endpoint: embedded:glm-clac-s}]")
    assert "the nearest is 'glm-calc-s'" in problem.message


def test_a_public_address(parse: Parse) -> None:
    assert parse(MODELS + "server: {host: 0.0.0.0}", insecure=True).config.server.host == "0.0.0.0"
    [warning] = parse(MODELS + "server: {host: 0.0.0.0}\nauth: {api_key: k}").warnings
    assert warning.startswith("`server.host`: 0.0.0.0 can be reached from other machines")
    [warning] = parse(MODELS + "server: {admin_host: 0.0.0.0}").warnings
    assert warning.startswith("`server.admin_host`")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "0.0.0.0/0.0.0.0"])
def test_proxies_everywhere(parse: Parse, network: str) -> None:
    assert parse(MODELS + "server: {trusted_proxies: [10.0.0.0/8, unix, '::1']}").warnings == []
    [warning] = parse(MODELS + f"server: {{trusted_proxies: [unix, '{network}']}}").warnings
    assert warning.startswith(f"`server.trusted_proxies[1]`: {network} is every address")


@pytest.mark.parametrize("hedge", ["60s", "61s"])
def test_a_second_attempt_after_the_first_was_given_up(parse: Parse, hedge: str) -> None:
    [warning] = parse(MODELS + f"timeouts: {{first_token_hedge: {hedge}}}").warnings
    assert warning.startswith("`timeouts.first_token_hedge`: after 6")
    assert "(60 s)" in warning
    entry = f"models: [{{name: chat, endpoint: http://a/v1, timeouts: {{first_token_hedge: {hedge}}}}}]"
    [warning] = parse(entry).warnings
    assert warning.startswith("`models[0].timeouts.first_token_hedge`")


@pytest.mark.parametrize("timeouts", ["{first_token: 5s}", "{first_token_hedge: 59s}", "{}"])
def test_a_time_that_nobody_wrote_is_not_warned_of(parse: Parse, timeouts: str) -> None:
    assert parse(MODELS + f"timeouts: {timeouts}").warnings == []


def test_a_port_may_be_shared_between_addresses_and_left_to_the_system(parse: Parse) -> None:
    assert parse(MODELS + "server: {host: 127.0.0.2, port: 8081}").config.server.port == 8081
    assert parse(MODELS + "server: {port: 0, admin_port: 0}").config.server.admin_port == 0


def test_tls_files(tmp_path: Path, problems: Problems) -> None:
    for name in ("cert.pem", "key.pem", "config.yaml"):
        (tmp_path / name).write_text(MODELS + "tls: {cert: cert.pem, key: key.pem}", encoding="utf-8")
    (tmp_path / "key.pem").chmod(0o600)
    loaded = load_config(str(tmp_path / "config.yaml"), {})
    assert loaded.config.tls.cert == str(tmp_path / "cert.pem")
    assert loaded.warnings == []
    (tmp_path / "key.pem").chmod(0o644)
    [warning] = load_config(str(tmp_path / "config.yaml"), {}).warnings
    assert warning.startswith("`tls.key`: others can read")
    [problem] = problems(MODELS + f"tls: {{cert: {tmp_path}/cert.pem}}")
    assert (problem.path, problem.message) == ("tls.cert", "needs `tls.key` beside it")
    [problem] = problems(MODELS + f"tls: {{cert: {tmp_path}/none.pem, key: {tmp_path}/key.pem}}")
    assert "no such file" in problem.message
    [problem] = problems(f"models: [{{name: a, endpoint: https://a/v1, ca: {tmp_path}/none.pem}}]")
    assert problem.path == "models[0].ca"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "127.evil.org", "")),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (["name: chat, endpoint: http://a/v1", "name: chat, endpoint: http://b/v1"], "chat"),
        (["name: chat, endpoint: http://a/v1", "name: chat, endpoint: http://b/v1, continuation: vllm"], ""),
        (["name: plain, endpoint: http://a/generate", "name: small, endpoint: embedded:glm-nano"], ""),
    ],
)
def test_streams_that_are_to_go_on_need_an_endpoint_that_can(parse: Parse, entries: list[str], names: str) -> None:
    models = "models: [" + ", ".join(f"{{{entry}}}" for entry in entries) + "]\n"
    assert parse(models).warnings == []
    warnings = parse(models + "stream_failure: continue\n").warnings
    assert [f"no entry of '{names}' says by `continuation`" in warning for warning in warnings] == [True] * bool(names)


def test_names_may_be_those_of_models_that_nodes_bring_later(parse: Parse) -> None:
    text = "cluster: {secret: 0123456789abcdef}\nrouting: {default: later, fallbacks: {later: [other]}}\n"
    loaded = parse(text)
    assert loaded.config.routing.default == "later"
    assert loaded.config.routing.fallbacks == {"later": ["other"]}
    assert loaded.warnings == []


def test_every_problem_of_a_cluster_is_told(problems: Problems) -> None:
    found = problems("cluster: {secret: short, bind: x, name: '-'}\n")
    assert {problem.path for problem in found} == {"cluster.secret", "cluster.bind", "cluster.name"}
