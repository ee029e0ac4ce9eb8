"""Tools as members of virtual models, in a configuration: what is taken, and what is refused and why."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest
from tests.unit.config.conftest import Parse, Problems

from open_autoglm.config.cooperation_checks import team_members
from open_autoglm.config.tool_members import tool_cost
from open_autoglm.voting.knowledge import Member

SELF = "tests.unit.config.test_tool_members"
HEAD = f"""\
models: [{{name: a, endpoint: http://a/v1}}]
tools:
  calculator: true
  python:
    - {{name: again, function: "{SELF}:again", class: read, cost: 0.5}}
    - {{name: change, function: "{SELF}:again"}}
    - {{name: other, function: "{SELF}:other", class: read}}
    - {{name: gone, function: "{SELF}:nothing", class: read}}
  http:
    - {{name: check, url: "https://example.org/?a={{answer}}", arguments: {{question: {{}}, reasoning: {{}}}}}}
    - {{name: city, url: "https://example.org/{{city}}"}}
    - {{name: post, url: "https://example.org/check", method: POST, arguments: {{answer: {{}}}}}}
  context:
    - {{name: shop, url: https://example.org/mcp, tools: [verify, buy], classes: {{verify: read}}, cost: 2}}
"""


def again(question: str, answer: str, reasoning: str) -> str | None:
    """Can be a member."""
    return answer or question or reasoning


def other(expression: str) -> str:
    """Cannot: it takes something else."""
    return expression


def entry(*tools: str, strategy: str = "cascade", allowed: bool = True, more: str = "") -> str:
    members = ", ".join(["a", *(f'"tool:{tool}"' for tool in tools)])
    listed = ", ".join(tools) if allowed else "calculator"
    return HEAD + dedent(f"cooperation: {{v: {{strategy: {strategy}, members: [{members}], tools: [{listed}]{more}}}}}")


def test_a_tool_may_be_a_member_of_a_cascade(parse: Parse) -> None:
    config = parse(entry("again", "check", "shop.verify", more=", tool_confidence: 0.9")).config
    virtual = config.cooperation["v"]
    assert (virtual.members, virtual.tool_confidence) == (["a", "tool:again", "tool:check", "tool:shop.verify"], 0.9)
    assert team_members(config, virtual) == (
        Member("a", domain="a"),
        Member("tool:again", price=0.5, kind="tool"),
        Member("tool:check", kind="tool"),
        Member("tool:shop.verify", price=2.0, kind="tool"),
    )
    assert [tool_cost(config.tools, name) for name in ("again", "calculator", "nothing")] == [0.5, 0.0, 0.0]


def test_a_budget_of_money_says_something_where_a_tool_costs(parse: Parse) -> None:
    def warnings(tool: str) -> list[str]:
        told = parse(entry(tool, more=", budget: {money: 1}")).warnings
        return [warning for warning in told if "budget.money" in warning]

    assert (warnings("again"), len(warnings("check"))) == ([], 1)


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("change", "has the class `write`, but a member may only read"),
        ("post", "has the class `write`"),
        ("shop.buy", "has the class `write`"),
        ("other", "does not take the texts `question`, `answer` and `reasoning`: $"),
        ("calculator", "does not take the texts"),
        ("city", "does not take the texts"),
        ("gone", "cannot be had: "),
    ],
)
def test_a_tool_that_cannot_be_one_is_refused(problems: Problems, tool: str, told: str) -> None:
    [problem] = problems(entry(tool))
    assert problem.path == "cooperation.v.members[1]"
    assert problem.line
    assert told in problem.message


@pytest.mark.parametrize("tool", ["agian", "shop", "shop.steal", "nowhere.verify"])
def test_a_tool_that_is_not_there_is_refused(problems: Problems, tool: str) -> None:
    told = {problem.path: problem.message for problem in problems(entry(tool))}
    assert told["cooperation.v.members[1]"].startswith(f"no tool is called '{tool}'; the nearest is ")


def test_a_tool_that_the_team_may_not_use_is_refused(problems: Problems) -> None:
    [problem] = problems(entry("again", allowed=False))
    assert (problem.path, "is not among the `tools`" in problem.message) == ("cooperation.v.members[1]", True)


@pytest.mark.parametrize("strategy", ["dynamic_voting", "hedged", "plan_execute"])
def test_only_a_cascade_has_tools(problems: Problems, strategy: str) -> None:
    [problem] = problems(entry("again", strategy=strategy))
    assert problem.path == "cooperation.v.members[1]"
    assert problem.message == f"is a tool; only a cascade has tools as members, and `{strategy}` has models"


def test_a_cascade_does_not_begin_with_a_tool(problems: Problems) -> None:
    [problem] = problems(entry("again", more=', cascade_steps: [["tool:again"], [a]]'))
    assert (problem.path, "begins with ['tool:again']" in problem.message) == ("cooperation.v", True)


def test_what_comes_over_the_network_imports_nothing(parse: Parse, problems: Problems) -> None:
    text = entry("gone").replace(f"{SELF}:nothing", "tests.unit.config.imported_by_nobody:f")
    assert "cannot be had" in problems(text)[0].message
    assert parse(text, trusted=False).config.cooperation["v"].members == ["a", "tool:gone"]
    parse(entry("gone").replace(f"{SELF}:nothing", "antigravity:fly"), trusted=False)
    assert "antigravity" not in sys.modules
