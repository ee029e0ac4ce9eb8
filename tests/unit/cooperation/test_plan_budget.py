"""Planners that mean harm, or know no measure: no run takes more tokens, money, calls or time than it may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cooperation.plan_stage import Models, Stage, StreamingModels, Tool, failing

from open_autoglm.cooperation.planner import TASKS_MAX, Roles
from open_autoglm.testing.loop import VirtualLoop

TIMEOUT_S = 20.0


def task(name: object, tool: str, **args: Any) -> dict[str, Any]:
    return {"id": name, "tool": tool, "args": args}


FAN = json.dumps([task(at, "pay", n=at) for at in range(1000)])
ASKING = json.dumps([task(at, "model:helper", prompt=f"say {at}") for at in range(60)])
CHAIN = json.dumps([task(0, "pay"), *(task(at, "pay", n=f"${at - 1}") for at in range(1, 60))])
GREEDY = json.dumps([{**task(at, "fail", n=at), "retries": 10, "timeout_s": 1000} for at in range(30)])
PLANS = {
    "a fan": FAN,
    "a fan of questions": ASKING,
    "a chain": CHAIN,
    "many tries": GREEDY,
    "itself": json.dumps([task(1, "pay", n="$1")]),
    "each other": json.dumps([task(1, "pay", n="$2"), task(2, "pay", n="$1")]),
    "no end": "[" + '{"id": 1, "tool": "pay"},' * 50,
    "words": "Let me think. " * 2000,
    "a deep one": '[{"id":1,"tool":"pay","args":' + '{"a":' * 500,
    "doubling": json.dumps([task(0, "pay"), *(task(at, "pay", n=f"${at - 1} ${at - 1}") for at in range(1, 60))]),
    "slow": json.dumps([task(at, "get", n=at) for at in range(60)]),
}
CAPS: list[dict[str, Any]] = [
    {"tokens": 6000, "money": 0.05, "calls": 12},
    {"tokens": 20_000},
    {"money": 0.03},
    {"calls": 3},
    {},
]
PRICE = 1e-6


def play(say: Callable[[str, str], str], caps: dict[str, Any], roles: Roles, char_s: float = 0.0) -> Stage:
    echo: Callable[[Any], Any] = lambda arguments: arguments.get("n", "x" * 1000)  # noqa: E731
    tools = [
        Tool("pay", echo, cost=0.01, after_s=0.1),
        Tool("fail", failing, cost=0.01),
        Tool("get", echo, after_s=5.0),
    ]
    stage = Stage(StreamingModels(say, char_s), tools, roles, timeout_s=TIMEOUT_S, **caps)
    stage.play()
    calls = [len(tool.calls) for tool in tools]
    money = stage.models.billed_tokens * PRICE + sum(tool.cost * len(tool.calls) for tool in tools)
    assert not stage.tokens or stage.models.billed_tokens <= stage.tokens
    assert not stage.money or money <= stage.money + 1e-9
    assert not stage.calls or sum(calls) + len(stage.models.prompts) <= stage.calls
    assert stage.took_s <= TIMEOUT_S + 1e-6
    spent = stage.ledger.snapshot()
    assert (spent.tokens_reserved, spent.money_reserved, spent.calls_reserved) == (0, 0, 0)
    assert spent.tokens >= stage.models.billed_tokens
    assert spent.money >= money - 1e-9
    outcome = stage.outcome
    assert outcome.plans <= roles.replans + 1
    assert (outcome.reply is None) == (outcome.error is not None)
    return stage


@pytest.mark.parametrize("caps", CAPS, ids=str)
@pytest.mark.parametrize("plan", PLANS)
def test_no_plan_takes_more_than_the_run_may(plan: str, caps: dict[str, Any]) -> None:
    roles = Roles("planner", ("pay", "fail", "get"), ("helper",), aggregator="writer")
    stage = play(lambda member, prompt: "REPLAN: more" if member == "writer" else PLANS[plan], caps, roles)
    assert len(stage.models.prompts) <= (roles.replans + 1) * (TASKS_MAX + 2)
    play(lambda member, prompt: PLANS[plan], caps, roles, char_s=0.01)


_TASKS = st.builds(
    lambda name, tool, refers, retries: {
        **task(name, tool, n=f"${refers}" if refers else name, prompt="say it"),
        "retries": retries,
        "on_failure": "replan" if retries else "skip",
    },
    st.integers(1, 9),
    st.sampled_from(["pay", "fail", "get", "model:helper", "model:planner", "nothing"]),
    st.integers(0, 9),
    st.integers(0, 10),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(_TASKS, max_size=9), min_size=1, max_size=4),
    st.integers(0, 8000),
    st.sampled_from([0.0, 0.011, 0.05]),
    st.integers(0, 9),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.02]),
)
def test_no_planner_takes_more_than_the_run_may(
    plans: list[list[dict[str, Any]]], tokens: int, money: float, calls: int, replans: int, char_s: float
) -> None:
    texts = [json.dumps(plan) for plan in plans]

    def say(member: str, prompt: str) -> str:
        return (texts.pop(0) if len(texts) > 1 else texts[0]) if member == "planner" else "said"

    roles = Roles("planner", ("pay", "fail", "get"), ("helper", "planner"), replans=replans)
    play(say, {"tokens": tokens, "money": money, "calls": calls}, roles, char_s)


def best(caps: dict[str, Any], plan: str, **roles: Any) -> Stage:
    given_roles = Roles("planner", ("pay", "fail", "get"), ("helper",), **roles)
    return play(lambda member, prompt: "[1] says" if member == "writer" else plan, caps, given_roles)


def test_when_the_money_is_at_its_end_the_best_so_far_is_the_answer() -> None:
    stage = best({"money": 0.03}, json.dumps([task(at, "pay", n=f"result {at}") for at in (1, 2, 3, 4)]))
    outcome = stage.outcome
    assert outcome.decision.reason == "budget_exhausted"
    assert outcome.reply is not None
    assert outcome.reply.text == "pay(result 1): result 1\npay(result 2): result 2"
    assert [(kind, data["lacking"]) for kind, data in stage.events if kind == "budget"] == [("budget", "money")]


def test_the_aggregators_call_is_kept_from_the_tasks() -> None:
    stage = best({"calls": 4}, json.dumps([task(at, "pay", n=at) for at in (1, 2)]), aggregator="writer")
    assert stage.outcome.decision.reason == "answered"
    stage = best({"calls": 3}, json.dumps([task(at, "pay", n=at) for at in (1, 2)]), aggregator="writer")
    assert stage.outcome.decision.reason == "budget_exhausted"
    assert stage.outcome.reply is not None
    assert stage.outcome.reply.text == "1"


def test_when_time_is_at_its_end_the_best_so_far_is_the_answer() -> None:
    plan = [task(1, "pay", n="early"), *(task(at, "get", n=f"${at - 1}") for at in range(2, 9))]
    stage = best({}, json.dumps(plan))
    assert stage.outcome.decision.reason == "deadline"
    assert stage.outcome.reply is not None
    assert stage.outcome.reply.text == "early"
    assert stage.took_s == pytest.approx(TIMEOUT_S)


def test_without_any_result_the_lack_of_budget_is_the_error() -> None:
    outcome = best({"tokens": 10}, FAN).outcome
    assert (outcome.reply, outcome.decision.candidate) == (None, -1)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.plans) == ("insufficient_quota", 1)


def test_a_planner_that_is_too_slow_is_cut_off_and_what_it_wrote_is_paid() -> None:
    models = StreamingModels(lambda member, prompt: json.dumps([task(1, "get")]) + "x" * 10_000, char_s=0.01)
    stage = Stage(models, [Tool("get", lambda _: "got")], timeout_s=5.0)
    outcome = stage.play()
    assert outcome.reply is not None
    assert (outcome.reply.text, outcome.decision.reason) == ("got", "deadline")
    assert (models.cancelled, stage.took_s) == (1, pytest.approx(5.0))
    assert stage.ledger.snapshot().tokens > 100


def test_a_planner_is_cut_off_at_the_first_wrong_word() -> None:
    models = StreamingModels(lambda member, prompt: "[{]" + "x" * 10_000, char_s=0.01)
    stage = Stage(models, [], Roles("planner", replans=0))
    stage.play()
    assert stage.took_s < 0.1


def test_a_client_that_leaves_ends_everything() -> None:
    stage = Stage(Models(lambda member, prompt: json.dumps([task(1, "get")])), [Tool("get", after_s=50.0)])

    async def leave() -> None:
        run = asyncio.ensure_future(stage.playing())
        await asyncio.sleep(1.0)
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        assert len(asyncio.all_tasks()) == 1
        assert stage.ledger.snapshot().calls == 2

    VirtualLoop().run(leave())


def test_a_plan_may_be_as_long_as_the_budget_lets_it() -> None:
    stage = best({"tokens": 1000}, json.dumps([task(1, "pay", n="paid")]))
    assert stage.outcome.decision.reason == "answered"
    assert 900 < stage.models.billed_tokens <= 1000
