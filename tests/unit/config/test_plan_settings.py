"""Virtual models that plan, in a configuration."""

from __future__ import annotations

from textwrap import dedent

import pytest
from tests.unit.config.conftest import Parse, Problems

HEAD = """\
models: [{name: a, endpoint: http://a/v1}, {name: b, endpoint: http://b/v1}]
tools:
  calculator: true
  http: [{name: time, url: https://example.org/time}]
  context: [{name: shop, url: https://example.org/mcp}]
"""


def entry(fields: str) -> str:
    return HEAD + dedent(f"cooperation: {{v: {{strategy: plan_execute, {fields}}}}}")


def test_a_planner_with_tools_needs_no_members(parse: Parse) -> None:
    text = entry("members: [], planner: a, tools: [calculator, time, shop.buy], replans: 1, plan_cache: 10")
    planned = parse(text).config.cooperation["v"]
    assert (planned.planner, planned.tools, planned.replans) == ("a", ["calculator", "time", "shop.buy"], 1)
    assert (planned.plan_cache, planned.members) == (10, [])


def test_models_alone_are_enough_and_the_first_plans(parse: Parse) -> None:
    planned = parse(entry("members: [a, b]")).config.cooperation["v"]
    assert (planned.planner, planned.replans, planned.plan_cache) == ("", 2, 0)


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ("members: [], tools: [calculator]", "cooperation.v.members", "is empty"),
        ("members: [], planner: a", "cooperation.v.members", "is empty"),
        ("members: [a], planner: c", "cooperation.v.planner", "no model is called 'c'"),
        ("members: [a], tools: [calculatr]", "cooperation.v.tools[0]", "nearest is 'calculator'"),
        ("members: [a], tools: [buy]", "cooperation.v.tools[0]", "no tool is called 'buy'"),
        ("members: [a], replans: 3", "cooperation.v.replans", "3"),
        ("members: [a], planner: v", "cooperation.v.members", "round in a circle: v -> v"),
    ],
)
def test_what_cannot_work_is_told(problems: Problems, fields: str, path: str, told: str) -> None:
    [problem] = problems(entry(fields))
    assert problem.path == path
    assert told in problem.message
