"""Tools as members of a team in virtual time: what they are given, what becomes of what they say, what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.unit.cooperation.script import Line, Script

from open_autoglm import clock
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.reading import make_reader
from open_autoglm.cooperation.team_run import Means, Outcome, Rates, TeamRun, Terms
from open_autoglm.cooperation.tool_member import SAMPLE, ToolMembers
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import ServerError
from open_autoglm.scheduling.budget import Ledger
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.tool import Arguments, ToolError, ToolKind
from open_autoglm.voting.catalog import Knowledge, Member, make_strategy
from open_autoglm.voting.settings import TeamSettings

QUESTION = Question((Message("user", (TextPart("6 * 7?"),)),))
MEMBERS = (Member("a"), Member("tool:again", kind="tool"))


class Again:
    """A tool that says what a test wants; see `tools.tool.Tool`."""

    name = "again"
    description = ""
    schema: dict[str, Any] = {"type": "object", "properties": {key: {"type": "string"} for key in SAMPLE}}
    timeout_s = 5.0
    cost = 0.25

    def __init__(self, said: Any, after_s: float = 0.1, kind: ToolKind = "read") -> None:
        self.said = said
        self.after_s = after_s
        self.kind = kind
        self.given: list[Arguments] = []
        self.over = 0

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        self.given.append(arguments)
        try:
            await asyncio.sleep(self.after_s)
        finally:
            self.over += 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


class Stage:
    """One run of a cascade of a model and the tool, to its end.

    Attributes:
        events, outcome, took_s: of the run.
        opened: how often the tools were opened.
    """

    def __init__(
        self,
        tool: Again,
        *,
        confidence: float = 0.5,
        ledger: Ledger | None = None,
        deadline_s: float = 10.0,
        desk: Callable[[], Any] | None = None,
    ) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.opened = 0
        self.tool = tool
        self.script = Script(a=[Line("41", reasoning="6 and 7", confidence=confidence)])
        settings = TeamSettings(
            cascade_samples=1, thresholds=[0.8, 0.0], cascade_steps=[["a"], ["tool:again"]], tool_confidence=0.97
        )
        strategy = make_strategy("cascade", MEMBERS, settings, Knowledge(), 1)
        members = ToolMembers(desk or self._desk, ["again"], settings.tool_confidence)
        means = Means(
            self.script,
            self.script,
            make_reader(settings, QUESTION),
            lambda member, said: said,
            ledger or Ledger(),
            members,
        )
        terms = Terms(START_S + deadline_s, START_S + 100.0, rates={"tool:again": Rates(per_call=tool.cost)})
        self._run = TeamRun(strategy, QUESTION, means, terms, [self._note])
        self.outcome, self.took_s = VirtualLoop().run(self._scene())

    async def _desk(self) -> ToolDesk:
        self.opened += 1
        return ToolDesk([self.tool])

    async def _scene(self) -> tuple[Outcome, float]:
        outcome = await self._run.run()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task outlives its run"
        return outcome, clock.monotonic() - START_S

    def _note(self, kind: str, data: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(data)))

    def text(self) -> str:
        assert self.outcome.reply is not None
        return self.outcome.reply.text


def test_a_tool_computes_anew_what_a_model_was_unsure_of() -> None:
    tool = Again("42")
    stage = Stage(tool)
    assert stage.text() == "42"
    assert tool.given == [{"question": "6 * 7?", "answer": "41", "reasoning": "6 and 7"}]
    assert [kind for kind, _ in stage.events] == ["asked", "candidate", "asked", "tool_called", "candidate", "decided"]
    asked, called, candidate = (stage.events[place][1] for place in (2, 3, 4))
    assert (asked["member"], asked["purpose"]) == ("tool:again", "compute")
    assert (called["tool"], called["class"], called["outcome"], called["ms"]) == ("again", "read", "ok", 100.0)
    assert (candidate["confidence"], candidate["cost"], candidate["latency_s"]) == (0.97, 0.25, pytest.approx(0.1))
    assert stage.outcome.cost == pytest.approx(0.25 + 0.01)
    assert stage.outcome.prompt_tokens == 5


def test_who_is_sure_is_not_checked_and_no_tool_is_opened() -> None:
    stage = Stage(Again("42"), confidence=0.9)
    assert (stage.text(), stage.opened, stage.tool.given) == ("41", 0, [])


@pytest.mark.parametrize("said", [None, {"status": 204, "body": None}, {"result": None}])
def test_a_tool_that_has_nothing_to_say_leaves_the_answer(said: Any) -> None:
    stage = Stage(Again(said))
    assert stage.text() == "41"
    assert stage.outcome.candidates[1].flags == ("abstained",)
    assert (stage.outcome.decision.reason, stage.outcome.cost) == ("all_in", pytest.approx(0.25 + 0.01))


@pytest.mark.parametrize("said", ["42", {"status": 200, "body": "42"}, {"result": "42"}])
def test_the_text_may_stand_where_services_put_it(said: Any) -> None:
    assert Stage(Again(said)).text() == "42"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (42, "invalid_result"),
        ({"value": "42"}, "invalid_result"),
        (ToolError("tool_failed", "no"), "tool_failed"),
        (ValueError("a defect"), "tool_broken"),
    ],
)
def test_a_tool_that_fails_leaves_the_answer_and_is_paid_for(said: Any, code: str) -> None:
    stage = Stage(Again(said))
    assert stage.text() == "41"
    assert stage.outcome.candidates[1].failure == code
    assert stage.outcome.cost == pytest.approx(0.25 + 0.01)


def test_an_empty_text_is_no_answer() -> None:
    stage = Stage(Again(" "))
    assert (stage.text(), stage.outcome.candidates[1].flags) == ("41", ("empty",))


def test_a_tool_that_hangs_ends_with_its_own_time() -> None:
    stage = Stage(Again("42", after_s=60.0))
    assert (stage.text(), stage.outcome.candidates[1].failure) == ("41", "tool_timeout")
    assert stage.took_s == pytest.approx(5.1)


def test_the_run_s_end_cancels_the_tool_and_its_call_is_paid_for() -> None:
    ledger = Ledger(money=1.0)
    stage = Stage(Again("42", after_s=60.0), deadline_s=1.0, ledger=ledger)
    assert (stage.text(), stage.outcome.decision.reason) == ("41", "deadline")
    assert (stage.tool.over, stage.took_s) == (1, pytest.approx(1.0))
    assert [data["outcome"] for kind, data in stage.events if kind == "tool_called"] == ["cancelled"]
    assert stage.events[-2][1]["failure"] == "cancelled"
    snapshot = ledger.snapshot()
    assert (snapshot.money, snapshot.money_reserved) == (pytest.approx(0.25 + 0.01), 0.0)


def test_a_tool_that_was_not_called_yet_costs_nothing() -> None:
    async def never() -> ToolDesk:
        await asyncio.sleep(60.0)
        raise AssertionError

    stage = Stage(Again("42"), deadline_s=1.0, desk=never)
    assert (stage.text(), stage.outcome.cost) == ("41", pytest.approx(0.01))


def test_what_the_budget_cannot_pay_is_not_called() -> None:
    stage = Stage(Again("42"), ledger=Ledger(money=0.2))
    assert (stage.text(), stage.outcome.decision.reason) == ("41", "budget_exhausted")
    assert (stage.opened, stage.tool.given) == (0, [])
    assert [data["lacking"] for kind, data in stage.events if kind == "budget"] == ["money"]


def test_tools_that_cannot_be_opened_are_a_member_that_fails() -> None:
    async def closed() -> ToolDesk:
        raise ServerError("server_draining", "this server is stopping")

    stage = Stage(Again("42"), desk=closed)
    assert (stage.text(), stage.outcome.candidates[1].failure) == ("41", "server_draining")


def test_a_tool_that_changes_something_is_not_called_whatever_was_configured() -> None:
    stage = Stage(Again("42", kind="write"))
    assert (stage.text(), stage.tool.given) == ("41", [])
    assert stage.outcome.candidates[1].failure == "tool_not_allowed"
