"""Virtual models in a configuration: both forms, the tunables, and what cannot work."""

from __future__ import annotations

from textwrap import dedent
from typing import get_args

import pytest
from tests.unit.config.conftest import Parse, Problems

from open_autoglm.cooperation.settings import CooperationEntry, CooperationStrategy
from open_autoglm.voting.catalog import STRATEGIES

MODELS = """\
models:
  - {name: a, endpoint: http://a/v1, price: {input_per_million: 1, output_per_million: 2}}
  - {name: b, endpoint: http://b/v1}
  - {name: c, endpoint: http://c/v1, upstream_model: b}
"""


def test_every_strategy_can_be_written() -> None:
    assert set(STRATEGIES) <= set(get_args(CooperationStrategy)), "beside them there are those that do not vote"


def test_the_tunables_stand_in_the_entry(parse: Parse) -> None:
    text = """\
        cooperation:
          v:
            strategy: dynamic_voting
            members: [a, b]
            quorum: 2
            timeout: 5s
            budget: {tokens: 1000, money: 0.5}
            fallback: a
            early-exit: probable
            stopConfidence: 0.9
            hedge_delay: 250ms
            choices: ["yes", "no"]
            thresholds: [0.5, 1]
            answer_schema: {type: object, properties: {n: {type: [integer, "null"], minimum: -1}}, required: [n], x: ~}
        """
    entry = parse(MODELS + dedent(text)).config.cooperation["v"]
    assert (entry.quorum, entry.timeout_s, entry.budget.tokens, entry.fallback) == (2, 5.0, 1000, "a")
    assert (entry.early_exit, entry.stop_confidence, entry.hedge_delay_s) == ("probable", 0.9, 0.25)
    assert (entry.choices, entry.thresholds) == (["yes", "no"], [0.5, 1.0])
    assert entry.answer_schema == {
        "type": "object",
        "properties": {"n": {"type": ["integer", "null"], "minimum": -1}},
        "required": ["n"],
        "x": None,
    }


def test_a_schema_may_come_from_the_environment(parse: Parse) -> None:
    text = MODELS + "cooperation: {v: {strategy: hedged, members: [a]}}"
    environ = {"MCP__COOPERATION__v__ANSWER_SCHEMA": '{"type": "object", "maxProperties": 2}'}
    assert parse(text, environ).config.cooperation["v"].answer_schema == {"type": "object", "maxProperties": 2}


def test_the_flat_form_is_a_virtual_model_over_its_endpoints(parse: Parse) -> None:
    text = "cooperation_strategy: dynamic_voting\nmodel_endpoints: [https://h/v1, https://i/v1, https://h/x/v1]\n"
    config = parse(text + "timeout_seconds: 7\nfallback_enabled: true").config
    assert config.cooperation == {
        "dynamic_voting": CooperationEntry(strategy="dynamic_voting", members=["h", "i"], timeout_s=7.0, fallback="h")
    }
    assert parse(text).config.cooperation["dynamic_voting"].fallback is None


def test_keys_of_the_flat_form_alone_do_nothing_and_say_so(parse: Parse) -> None:
    [warning] = parse(MODELS + "timeout_seconds: 7\nfallback_enabled: true").warnings
    assert warning.startswith("`timeout_seconds`, `fallback_enabled`: ")


def test_a_virtual_model_may_be_named_wherever_a_model_is(parse: Parse) -> None:
    text = """\
        cooperation: {v: {strategy: hedged, members: [a, b]}}
        routing: {default: v, fallbacks: {c: [v]}}
        auth: {api_keys: [{name: k, key: secret-key-of-somebody, models: [v]}]}
        """
    config = parse(MODELS + dedent(text)).config
    assert (config.routing.default, config.routing.fallbacks) == ("v", {"c": ["v"]})


def test_money_that_nobody_counts_is_worth_a_word(parse: Parse) -> None:
    text = "cooperation: {v: {strategy: hedged, members: [b, c], budget: {money: 1}}}"
    [warning] = parse(MODELS + text).warnings
    assert "`cooperation.v.budget.money`" in warning


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("v: {strategy: hedged, members: [a, bb]}", "cooperation.v.members[1]", "the nearest is 'b'"),
        ("v: {strategy: hedged, members: [a], fallback: x}", "cooperation.v.fallback", "no model is called 'x'"),
        ("v: {strategy: best_of_n, members: [a], judge: x}", "cooperation.v.judge", "no model is called 'x'"),
        ("v: {strategy: hedged, members: [a, a]}", "cooperation.v.members[1]", "is a member already"),
        ("v: {strategy: hedged, members: []}", "cooperation.v.members", "is empty"),
        ("a: {strategy: hedged, members: [b]}", "cooperation.a", "is the name of a model too"),
        ("v: {strategy: hedged, members: [a, b], quorum: 3}", "cooperation.v.quorum", "there are 2 members"),
        ("v: {strategy: dynamic_voting, members: [b, c], quorum: 2}", "cooperation.v", "failure domains"),
        ("v: {strategy: hedged, members: [v]}", "cooperation.v.members", "v -> v"),
        ("v: {strategy: vote, members: [a]}", "cooperation.v.strategy", "one of"),
        ("v: {strategy: hedged, members: [a], stop_confidence: 1}", "cooperation.v.stop_confidence", "below 1"),
        ("v: {strategy: hedged, members: [a], reliability_clip: 0.3}", "cooperation.v.reliability_clip", "to 0.25"),
        ("v: {strategy: hedged, members: [a], answer_schema: x}", "cooperation.v.answer_schema", "expected a map"),
        ("v: {strategy: hedged, members: [a], answer_schema: [1]}", "cooperation.v.answer_schema", "expected a map"),
        (
            "v: {strategy: hedged, members: [a], answer_schema: {x: {y: 1, y: 2}}}",
            "cooperation.v.answer_schema",
            "twice",
        ),
        ("v: {strategy: hedged, members: [a], tokens: 3}", "cooperation.v.tokens", "unknown key"),
    ],
)
def test_what_cannot_work_is_told_with_its_line(problems: Problems, text: str, path: str, message: str) -> None:
    [problem] = problems(f"{MODELS}cooperation:\n  {text}")
    assert (problem.path, problem.line) == (path, 6)
    assert message in problem.message


def test_circles_and_depth(problems: Problems) -> None:
    circle = """\
        cooperation:
          v: {strategy: hedged, members: [a, w]}
          w: {strategy: hedged, members: [b]}
        routing: {fallbacks: {b: [v]}}
        """
    [problem] = problems(MODELS + dedent(circle))
    assert "v -> w -> b -> v" in problem.message
    deep = """\
        cooperation:
          v: {strategy: hedged, members: [w]}
          w: {strategy: hedged, members: [x]}
          x: {strategy: hedged, members: [a]}
        """
    [problem] = problems(MODELS + dedent(deep))
    assert (problem.path, "2 levels" in problem.message) == ("cooperation.v.members[0]", True)


def test_too_many_members(problems: Problems) -> None:
    names = [f"m{number}" for number in range(65)]
    models = "models:\n" + "".join(f"  - {{name: {name}, endpoint: http://{name}/v1}}\n" for name in names)
    [problem] = problems(f"{models}cooperation:\n  v: {{strategy: hedged, members: [{', '.join(names)}]}}")
    assert "64 are the most" in problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cooperation_strategy: hedged", "needs `model_endpoints`"),
        (
            "cooperation_strategy: hedged\nmodel_endpoints: [http://h/v1]\n"
            "cooperation: {hedged: {strategy: hedged, members: [h]}}",
            "rename that one",
        ),
    ],
)
def test_the_flat_form_has_its_own_mistakes(problems: Problems, text: str, message: str) -> None:
    [problem] = problems(text)
    assert problem.path == "cooperation_strategy"
    assert message in problem.message
