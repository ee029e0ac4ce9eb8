"""A virtual model's attempt in an exchange, in virtual time: who ends it, and what that says of it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.unit.cooperation.plan_stage import Tool
from tests.unit.cooperation.script import Line, Script
from tests.unit.exchange.harness import Recorder, Rig

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall
from open_autoglm.backends.caller import ModelCaller, Origin
from open_autoglm.cooperation.backend import Surroundings, Team, TeamBackend
from open_autoglm.cooperation.figures import TeamFigures
from open_autoglm.cooperation.knowledge import Book
from open_autoglm.cooperation.settings import CooperationEntry
from open_autoglm.dialects.chat import ChatFace
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.voting.candidate import Decision
from open_autoglm.voting.catalog import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

BODY = b'{"model":"team","messages":[{"role":"user","content":"6 * 7?"}]}'


class Client(Recorder):
    """The client's side of one exchange; opens and cancels attempts at their backends."""

    def __init__(self, call: ModelCall) -> None:
        super().__init__()
        self._call = call

    def open(self, attempt: Attempt) -> None:
        super().open(attempt)
        assert attempt.target is not None
        attempt.target.extra.open(attempt, self._call)  # type: ignore[attr-defined]

    def cancel(self, attempt: Attempt) -> None:
        super().cancel(attempt)
        attempt.handle.cancel()  # type: ignore[attr-defined]


class Cast(Script):
    """Everybody asks the same script."""

    def caller(self, origin: Origin) -> ModelCaller:
        return self


def _play(
    cast: Cast,
    patience_s: float,
    ahead_s: float = 0.0,
    *,
    placed: tuple[Tool, ...] = (),
    kind: type[Book] = Book,
    **entry: Any,
) -> tuple[Client, Rig, float]:
    """One request with so much time, until it is over; its deadlines are looked at as if it were `ahead_s` later."""
    rig = Rig("a", start=False, at_s=START_S)
    made = CooperationEntry(**{"strategy": "dynamic_voting", "members": ["x", "y"], **entry})
    book = kind((Member("x"), Member("y")), TeamSettings(), Knowledge())

    async def desk() -> ToolDesk:
        return ToolDesk(placed)

    around = Surroundings(cast, TeamFigures(), random.Random(1), desk=desk)
    rig.endpoints["a"].extra = TeamBackend(Team("team", made, book, {}), around)

    async def scene() -> tuple[Client, float]:
        call = ModelCall()
        client = Client(call)
        call.record = RequestRecord("/v1/chat/completions", START_S, 1, "req-1")
        call.face, call.body, call.model = ChatFace(), BODY, "team"
        call.view = call.face.read(BODY)
        call.request_id, call.trace_id, call.created_s, call.delivered = "req-1", "", 1, None
        call.deadline_s = START_S + patience_s
        call.exchange = exchange = Exchange(rig.plan, client, call.record, call.deadline_s, random.Random(1))
        exchange.start(START_S)
        while exchange.state != "over":
            await asyncio.sleep(0.025)
            exchange.handle_timeout(clock.monotonic() + ahead_s)
        took_s = clock.monotonic() - START_S
        await asyncio.sleep(0.001)  # a few turns, in which what was cancelled ends
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return client, took_s

    client, took_s = VirtualLoop().run(scene())
    return client, rig, took_s


def test_a_team_answers_through_its_exchange() -> None:
    client, rig, _ = _play(Cast(x=[Line("42")], y=[Line("42")]), 10.0)
    assert client.ends == ["whole"]
    assert b'"content":"42"' in client.sent
    assert rig.endpoints["a"].good == 1


class Dull(Book):
    """Cannot learn."""

    def decided(self, decision: Decision) -> None:
        raise ZeroDivisionError


def test_a_defect_in_learning_costs_nobody_the_answer() -> None:
    client, _, _ = _play(Cast(x=[Line("42")], y=[Line("42")]), 10.0, kind=Dull)
    assert client.ends == ["whole"]
    assert b'"content":"42"' in client.sent


def test_a_request_id_that_two_clients_choose_gives_tools_two_keys() -> None:
    tool = Tool("pay", kind="write")
    for _ in range(2):
        cast = Cast(x=[Line('[{"id": 1, "tool": "pay", "args": {}}]')])
        client, _, _ = _play(cast, 10.0, placed=(tool,), strategy="plan_execute", planner="x", tools=["pay"])
        assert client.ends == ["whole"]
    first, second = (key for _, _, key in tool.calls)
    assert first != second


@pytest.mark.parametrize("ahead_s", [0.0, 0.1, 0.3, 1.0])
def test_a_client_with_little_time_says_nothing_against_the_virtual_model(ahead_s: float) -> None:
    cast = Cast(x=[Line("42", 60.0)], y=[Line("42", 60.0)])
    client, rig, took_s = _play(cast, 0.5, ahead_s)
    assert client.ends == ["fail"]
    assert client.error is not None
    assert client.error.code == "deadline_exceeded"
    assert took_s <= 0.5
    assert (rig.endpoints["a"].failures, rig.endpoints["a"].turned_away) == (0, 0)
    assert sorted(cast.cancelled) == ["x", "y"]
