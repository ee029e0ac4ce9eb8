"""Values against the types of their fields, and every problem at once."""

import pytest

from open_autoglm.config.problems import PROBLEMS_MAX

from .conftest import Parse, Problems


def test_every_problem_is_told_at_once_with_its_line(problems: Problems) -> None:
    found = problems(
        """\
        server: {host: 127.0.0.1, port: abc}
        models:
          - name: a
            endpint: http://a/v1
          - name: b
            endpoint: ftp://b
            weight: -1
            timeouts:
              total: 5 parsecs
          - {endpoint: "http://c/v1"}
        routing:
          strategy: fastest
        limits: {burst: [1]}
        auth: yes
        port: 80
        """
    )
    assert [(problem.line, problem.path) for problem in found] == [
        (1, "server.port"),
        (4, "models[0].endpint"),
        (6, "models[1].endpoint"),
        (7, "models[1].weight"),
        (9, "models[1].timeouts.total"),
        (10, "models[2].name"),
        (12, "routing.strategy"),
        (13, "limits.burst"),
        (14, "auth"),
        (15, "port"),
    ]


def test_an_unknown_key_names_the_nearest(problems: Problems) -> None:
    [problem] = problems("models: []\nlogging: {lvl: INFO}")
    assert problem.message == "unknown key 'lvl'; the nearest known key is `level`"


@pytest.mark.parametrize("key", ["url", "base_url", "baseUrl", "api_base"])
def test_a_name_of_other_programs_leads_to_ours_and_is_one_mistake(problems: Problems, key: str) -> None:
    [problem] = problems(f"models: [{{name: a, {key}: 'http://a'}}]")
    assert problem.message == f"unknown key '{key}'; the nearest known key is `endpoint`"


def test_a_key_in_the_wrong_section_names_the_right_one(problems: Problems) -> None:
    [problem] = problems("port: 80")
    assert problem.message.endswith("the nearest known key is `server.port`")


@pytest.mark.parametrize("key", ["max_connections", "max-connections", "maxConnections"])
def test_notations_of_keys(parse: Parse, key: str) -> None:
    assert parse(f"server: {{{key}: 7}}").config.server.max_connections == 7


def test_a_key_may_be_written_once_in_any_notation(problems: Problems) -> None:
    [problem] = problems("server:\n  max-connections: 7\n  maxConnections: 8\n")
    assert (problem.line, problem.path) == (3, "server.max_connections")
    assert "first on line 2" in problem.message
    [problem] = problems("routing: {fallbacks: {a: [b], a: [c]}}\nmodels: [{name: '*', endpoint: http://a}]")
    assert "written twice" in problem.message


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2.0), ("5m", 300.0), ("72h", 259200.0), ("30", 30.0), ("'1.5'", 1.5)]
)
def test_durations(parse: Parse, text: str, seconds: float) -> None:
    assert parse(f"timeouts: {{total: {text}}}").config.timeouts.total_s == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("32MiB", 32 * 2**20), ("64KiB", 65536), ("10MB", 10**7), ("1024", 1024), ("1.5GiB", 3 * 2**29)]
)
def test_sizes(parse: Parse, text: str, size: int) -> None:
    assert parse(f"limits: {{body_bytes: {text}}}").config.wire.body_bytes == size


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("yes", True), ("ON", True), ("false", False), ("No", False), ("off", False)]
)
def test_truth_values(parse: Parse, text: str, value: bool) -> None:
    assert parse(f"logging: {{prompts: {text}}}").config.logging.prompts is value


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_nothing_counts_as_left_out(parse: Parse, nothing: str) -> None:
    config = parse(f"server:\n  port: {nothing}\nmodels: {nothing}\ntls: {nothing}\n").config
    assert config.server.port == 8080


def test_texts_that_look_like_something_else_stay_texts(parse: Parse) -> None:
    """What a word means follows from its field, so no model is ever called False."""
    config = parse("models: [{name: no, endpoint: http://a/v1}, {name: 1.10, endpoint: http://a/v1}]").config
    assert [model.name for model in config.models] == ["no", "1.10"]


def test_a_word_from_a_list_may_be_written_in_any_notation(parse: Parse) -> None:
    config = parse("logging: {level: warning}\nrouting: {strategy: power-of-two}").config
    assert (config.logging.level, config.routing.strategy) == ("WARNING", "power_of_two")


def test_one_value_stands_for_a_list_of_one(parse: Parse) -> None:
    config = parse(
        "models: [{name: a, endpoint: http://a}, {name: b, endpoint: http://b}]\nrouting: {fallbacks: {a: b}}"
    )
    assert config.config.routing.fallbacks == {"a": ["b"]}


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("server: {port: 70000}", "server.port", "a whole number from 0 to 65535, got '70000'"),
        ("server: {port: '80'}", "server.port", "a whole number from 0 to 65535 without quotes, got '80'"),
        ("server: {port: 80.0}", "server.port", "a whole number"),
        ("server: {port: 080}", "server.port", "a whole number"),
        ("server: {port: [80]}", "server.port", "got a list"),
        ("server: {port: 99999999999999999999999}", "server.port", "a whole number"),
        ("retries: {budget_ratio: 2}", "retries.budget_ratio", "a number from 0 to 1, got '2'"),
        ("retries: {budget_ratio: 1e999}", "retries.budget_ratio", "a number from 0 to 1"),
        ("retries: {budget_ratio: .nan}", "retries.budget_ratio", "a number from 0 to 1"),
        ("logging: {prompts: maybe}", "logging.prompts", "true or false"),
        ("logging: {level: LOUD}", "logging.level", "one of DEBUG, ERROR, INFO, WARNING, got 'LOUD'"),
        ("timeouts: {gap: 0}", "timeouts.gap", "from 0.001 to 31622400 s, got '0'"),
        ("timeouts: {gap: 1 fortnight}", "timeouts.gap", "a duration like 500ms"),
        ("timeouts: {gap: {s: 1}}", "timeouts.gap", "got a map"),
        ("limits: {body_bytes: 0}", "limits.body_bytes", "a size like 64KiB"),
        ("limits: {body_bytes: 99999999999TiB}", "limits.body_bytes", "a size like 64KiB"),
        ("models: {name: a}", "models", "a list, got a map"),
        ("models: [a]", "models[0]", "a map with `name`, `endpoint`, `dialect` …, got a single value"),
        ("server: [1]", "server", "a map with `host`, `port`, `admin_host` …, got a list"),
        ("routing: {fallbacks: [a]}", "routing.fallbacks", "a map of names, got a list"),
        ("auth: {api_key: {a: b}}", "auth.api_key", "a list, got a map"),
        ("auth: {api_key: [[a]]}", "auth.api_key[0]", "a secret"),
    ],
)
def test_wrong_values_say_what_is_expected(problems: Problems, text: str, path: str, expected: str) -> None:
    [problem] = problems(text)
    assert problem.path == path
    assert expected in problem.message


def test_the_value_of_a_secret_is_never_repeated(problems: Problems) -> None:
    canary = "s3cret\u00e9"
    found = problems(
        f"""\
        server: {{admin_key: {canary}}}
        models:
          - {{name: a, endpoint: http://a/v1, token: {canary}}}
          - {{name: b, endpoint: http://b/v1, tokn: {canary}}}
          - {canary}
        auth: {canary}
        """
    )
    assert len(found) == 5
    assert not any(canary in str(problem) for problem in found)


def test_an_empty_entry_of_a_list_is_a_problem_and_keeps_its_place(problems: Problems) -> None:
    found = problems("models:\n  -\n  - {name: a, endpoint: http://a/v1, weight: x}\n")
    assert [problem.path for problem in found] == ["models[0]", "models[1].weight"]


def test_what_is_no_map_is_no_configuration(problems: Problems) -> None:
    [problem] = problems("- a\n- b\n")
    assert "a map of sections" in problem.message
    [problem] = problems("just words")
    assert "a map of sections" in problem.message


def test_a_control_character_is_refused(problems: Problems) -> None:
    [problem] = problems('logging: {file: "a\\0b"}')
    assert "control character" in problem.message


def test_long_values_are_cut_in_messages(problems: Problems) -> None:
    [problem] = problems(f"server: {{port: {'x' * 3000}}}")
    assert "(3000 characters)" in problem.message
    assert len(problem.message) < 250
    [problem] = problems(f"server: {{host: {'x' * 5000}}}")
    assert "5000 characters" in problem.message


def test_very_many_problems_are_counted(problems: Problems) -> None:
    found = problems("\n".join(f"k{number}: 1" for number in range(PROBLEMS_MAX + 50)))
    assert len(found) == PROBLEMS_MAX + 1
    assert found[-1].message == "and 50 more problems"
