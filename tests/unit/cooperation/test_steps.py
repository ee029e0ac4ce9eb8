"""Steps by tools and by models."""

from __future__ import annotations

import asyncio
import contextlib
from math import inf
from typing import Any

import pytest

from open_autoglm.cooperation.caller import Origin, Reply
from open_autoglm.cooperation.executor import StepCall
from open_autoglm.cooperation.steps import ANSWER_TOKENS, Steps
from open_autoglm.cooperation.team_run import Rates
from open_autoglm.dialects.canonical import Message
from open_autoglm.errors import AutoGLMError, RequestError, UpstreamError
from open_autoglm.scheduling.budget import Ledger, Snapshot
from open_autoglm.scheduling.run_account import Quote
from open_autoglm.scheduling.task import Task
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.settings import HttpToolEntry
from open_autoglm.tools.tool import Arguments, ToolError, ToolKind


class _Tool:
    """Says which key it was called with."""

    description = ""
    schema: dict[str, Any] = {"type": "object"}
    timeout_s = 5.0

    def __init__(self, name: str, kind: ToolKind) -> None:
        self.name = name
        self.kind = kind
        self.cost = 0.25 if name == "put" else 0.0

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        return [arguments, idempotency_key]


class _Caller:
    """Repeats what it is asked; its own source of callers."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.origin = Origin()
        self.error: BaseException | None = None

    def caller(self, origin: Origin) -> _Caller:
        self.origin = origin
        return self

    async def ask(self, member: str, messages: list[Message], **settings: Any) -> Reply:
        self.asked = {"member": member, **settings}
        if self.error is not None:
            raise self.error
        text = " | ".join(f"{message.role}: {message.text()}" for message in messages)
        return Reply(text, prompt_tokens=5, completion_tokens=10, cost=0.125)


RATES = {
    "glm": Rates(1000.0, 2000.0),
    "none": Rates(),
    "team": Rates(answers=False, drawn_tokens=500, drawn_money=inf),
    "team-or-glm": Rates(1000.0, 2000.0, drawn_tokens=500, drawn_money=0.5),
}


def _steps() -> tuple[Steps, _Caller]:
    desk = ToolDesk([_Tool("look", "read"), _Tool("put", "write"), _Tool("drop", "dangerous")])
    desk.add(HttpTool(HttpToolEntry("order", "https://shop.example/orders", "POST", kind="write")))
    desk.add(HttpTool(HttpToolEntry("refund", "https://shop.example/refunds", "POST", kind="dangerous")))
    caller = _Caller()
    return Steps(desk, caller, lambda: {"glm"}, lambda name: RATES[name]), caller


async def _perform(steps: Steps, tool: str, arguments: dict[str, Any], confirmation: str = "") -> Any:
    deadline_s = asyncio.get_running_loop().time() + 5.0
    return await steps.perform(StepCall("r1", Task("t", tool), arguments, 1, "r1:t", deadline_s, confirmation))


async def test_a_tool_is_given_its_arguments_and_the_key() -> None:
    assert await _perform(_steps()[0], "look", {"x": 1}) == [{"x": 1}, "r1:t"]


async def test_a_dangerous_tool_asks_for_a_word_and_takes_it() -> None:
    steps, _ = _steps()
    with pytest.raises(ToolError) as caught:
        await _perform(steps, "drop", {"x": 1})
    confirmation = caught.value.confirmation  # type: ignore[attr-defined]
    assert await _perform(steps, "drop", {"x": 1}, confirmation) == [{"x": 1}, "r1:t"]
    with pytest.raises(ToolError, match="must agree"):
        await _perform(steps, "drop", {"x": 2}, confirmation)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": "hi"}, "user: hi"),
        ({"prompt": {"a": 1}, "system": "be brief"}, 'system: be brief | user: {"a":1}'),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "user: a | assistant: b",
        ),
    ],
)
async def test_a_model_is_asked_and_its_text_is_the_result(arguments: dict[str, Any], said: str) -> None:
    steps, caller = _steps()
    assert await _perform(steps, "model:glm", {**arguments, "max_tokens": 5, "seed": 1}) == said
    assert (caller.asked["member"], caller.asked["max_tokens"], caller.asked["temperature"]) == ("glm", 5, None)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        {"promt": "a"},
        {"prompt": "a", "max_tokens": -1},
        {"prompt": "a", "max_tokens": 10**400},
    ],
)
async def test_wrong_arguments_of_a_model_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        await _perform(_steps()[0], "model:glm", arguments)
    with pytest.raises(RequestError):
        _steps()[0].price(Task("t", "model:glm"), arguments)


@pytest.mark.parametrize(
    ("tool", "repeatable"),
    [
        ("model:glm", True),
        ("look", True),
        ("put", False),
        ("drop", False),
        ("order", True),
        ("refund", False),
        ("gone", False),
    ],
)
def test_only_what_does_no_harm_is_repeated_unasked(tool: str, repeatable: bool) -> None:
    assert _steps()[0].repeatable(Task("t", tool)) is repeatable


def test_a_graph_knows_tools_and_models() -> None:
    graph = _steps()[0].new_graph()
    graph.add([Task("a", "look"), Task("b", "model:glm"), Task("c", "approval")])
    for tool in ("gone", "model:gone"):
        with pytest.raises(RequestError, match="there is no"):
            graph.add([Task("d", tool)])


@pytest.mark.parametrize(
    ("tool", "arguments", "quote"),
    [
        ("put", {}, Quote(money=0.25)),
        ("gone", {}, Quote()),
        ("model:glm", {"prompt": "12345678", "max_tokens": 10}, Quote(12, 0.022)),
        ("model:none", {"prompt": "12345678"}, Quote(2 + ANSWER_TOKENS)),
        ("model:team", {"prompt": "12345678"}, Quote(500, inf, elastic=True)),
        ("model:team-or-glm", {"prompt": "12345678", "max_tokens": 10}, Quote(512, 0.522, elastic=True)),
    ],
)
def test_a_try_has_a_price(tool: str, arguments: dict[str, Any], quote: Quote) -> None:
    assert _steps()[0].price(Task("t", tool), arguments) == quote


async def _paid(steps: Steps, tool: str, ledger: Ledger, **arguments: Any) -> Snapshot:
    deadline_s = asyncio.get_running_loop().time() + 5.0
    with contextlib.suppress(AutoGLMError, asyncio.CancelledError):
        await steps.perform(StepCall("r1", Task("t", tool), arguments, 1, "r1:t", deadline_s, ledger=ledger))
    return ledger.snapshot()


async def test_tries_draw_what_they_cost() -> None:
    steps, caller = _steps()
    assert await _paid(steps, "put", Ledger(money=1.0)) == Snapshot(money=0.25, calls=1)
    assert await _paid(steps, "put", Ledger(money=0.2)) == Snapshot()
    assert await _paid(steps, "model:glm", Ledger(2000), prompt="hi") == Snapshot(15, 0.125, 1)
    assert caller.asked["max_tokens"] == ANSWER_TOKENS, "what was set aside is all that it may write"
    assert await _paid(steps, "model:glm", Ledger(), prompt="hi") == Snapshot(15, 0.125, 1)
    assert caller.asked["max_tokens"] is None


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (UpstreamError("rate_limited", "no"), 0),
        (UpstreamError("upstream_error", "no"), 11),
        (asyncio.CancelledError(), 11),
    ],
)
async def test_a_try_of_which_nobody_knows_costs_all_that_was_set_aside(error: BaseException, tokens: int) -> None:
    steps, caller = _steps()
    caller.error = error
    assert (await _paid(steps, "model:none", Ledger(2000), prompt="hi", max_tokens=10)).tokens == tokens
