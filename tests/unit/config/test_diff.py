"""What is shown of a change."""

from open_autoglm.config import Change, ServerConfig, diff_configs, needs_restart

from .conftest import Parse


def test_nothing_changed(parse: Parse) -> None:
    config = parse("auth: {api_key: k}\nmodels: [{name: a, endpoint: http://a/v1}]").config
    same = parse("models:\n- name: a\n  endpoint: http://a/v1/\nauth:\n  api-key: [k]\n").config
    assert diff_configs(config, same) == []


def test_each_value_has_its_path(parse: Parse) -> None:
    before = parse(
        """\
        server: {port: 1}
        models:
          - {name: a, endpoint: http://a/v1}
          - {name: a, endpoint: http://b/v1}
        routing: {fallbacks: {a: [c]}}
        model_endpoints: [http://c/v1]
        timeouts: {gap: 1s}
        """
    ).config
    after = parse(
        """\
        server: {port: 2}
        models:
          - {name: a, endpoint: http://a/v1}
          - {name: a, endpoint: http://b/v1, weight: 2, timeouts: {gap: 5s}}
          - {name: d, endpoint: http://d/v1}
        timeouts: {gap: 1s}
        """
    ).config
    changes = {change.path: change for change in diff_configs(before, after)}
    assert list(changes) == [
        "server.port",
        "models[a#2].weight",
        "models[a#2].timeouts.gap",
        "models[c]",
        "models[d]",
        "routing.fallbacks.a",
    ]
    assert changes["server.port"] == Change("server.port", 1, 2)
    assert changes["models[a#2].timeouts.gap"] == Change("models[a#2].timeouts.gap", 1.0, 5.0)
    assert changes["models[c]"].after is None
    assert changes["models[d]"].before is None
    assert changes["models[d]"].after["endpoint"] == "http://d/v1"
    assert changes["routing.fallbacks.a"] == Change("routing.fallbacks.a", ["c"], None)


def test_secrets_are_not_shown_but_that_they_changed_is(parse: Parse) -> None:
    def config(secret: str) -> ServerConfig:
        return parse(
            f"auth: {{api_keys: [{{name: a, key: {secret}}}]}}\n"
            f"models: [{{name: m, endpoint: http://m/v1, token: {secret}}},"
            f" {{name: {secret[:1]}, endpoint: http://x/v1, token: {secret}}}]\n"
            f"database: {{url: 'postgresql://u:{secret}@h/d?password={secret}'}}"
        ).config

    changes = diff_configs(config("canary-1"), config("Canary-2"))
    shown = {change.path: change for change in changes}
    assert shown["auth.keys[a].key"] == Change("auth.keys[a].key", "***", "***")
    assert shown["models[m].token"] == Change("models[m].token", "***", "***")
    assert shown["models[c]"].before["token"] == "***"
    assert shown["database.url"].after == "postgresql://***@h/d?password=***"
    assert "anary-" not in repr(changes)


def test_what_only_a_restart_can_change(parse: Parse) -> None:
    before = parse("server: {port: 1}\ntimeouts: {gap: 1s}").config
    after = parse("server: {port: 2, context_path: /x}\ntimeouts: {gap: 2s}\nlogging: {file: x.log}").config
    changes = diff_configs(before, after)
    assert [change.path for change in needs_restart(changes)] == ["server.port", "logging.file"]
    assert len(changes) == 4
