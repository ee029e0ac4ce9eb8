"""Teams of teams that fan out, hedge, fail and plan again: the outer budget holds, whatever the inner ones do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.exchange.harness import Rig

from open_autoglm import clock
from open_autoglm.admission.settings import SourceSettings
from open_autoglm.backends.backend import ModelCall
from open_autoglm.backends.caller import Origin
from open_autoglm.cooperation.backend import Surroundings, Team, TeamBackend
from open_autoglm.cooperation.figures import TeamFigures
from open_autoglm.cooperation.knowledge import Book
from open_autoglm.cooperation.settings import CooperationBudget, CooperationEntry
from open_autoglm.cooperation.team_run import Rates
from open_autoglm.dialects.canonical import Message, TextPart, estimate_tokens
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.member_call import MemberDesk
from open_autoglm.gateway.snapshot import Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.security.keys import Principal
from open_autoglm.server.dialects import PLAIN_FACE
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.voting.catalog import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

PRICE_IN, PRICE_OUT = 1000.0, 3000.0
PLAIN = Rates(PRICE_IN, PRICE_OUT)
TEAM = Rates(answers=False)
STRATEGIES = ("dynamic_voting", "self_consistency", "best_of_n", "mixture", "hedged", "debate", "ahead_by_k")
PLAN = [{"id": n, "model": name, "args": {"prompt": "6 * 7?"}} for n, name in ((1, "one"), (2, "two"), (3, "b"))]
HEDGE_S = 0.2


class Bill:
    """What all models together may charge.

    Attributes:
        tokens, money: so far; of what is under way all that it may come to.
        asked: how often.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.money = 0.0
        self.asked = 0

    def add(self, prompt: int, written: int, sign: int = 1) -> None:
        self.tokens += sign * (prompt + written)
        self.money += sign * (prompt * PRICE_IN + written * PRICE_OUT) / 1e6


class Speech:
    """One answer on its way; its attempt's handle."""

    def __init__(self, speaker: Speaker, attempt: Attempt, call: ModelCall) -> None:
        asked = json.loads(call.body)
        said = sum(len(message["content"].encode()) for message in asked["messages"])
        self.prompt, self.most = estimate_tokens(said), asked["max_tokens"]
        self.speaker = speaker
        self.attempt, self.call = attempt, call
        speaker.bill.asked += 1
        speaker.bill.add(self.prompt, self.most)
        self.timer = asyncio.get_running_loop().call_later(speaker.rng.random() * 0.5, self.speak)

    def speak(self) -> None:
        rng, exchange = self.speaker.rng, self.call.exchange
        self.speaker.bill.add(self.prompt, self.most, -1)
        if rng.random() < 0.2:
            exchange.failed(self.attempt, "upstream_error", "it failed", clock.monotonic())
            return
        written = rng.randrange(self.most + 1)
        self.speaker.bill.add(self.prompt, written)
        planner = "a plan" in self.call.body.decode() or "tasks" in self.call.body.decode()
        text = json.dumps(PLAN) if planner else rng.choice(("42", "41", "A", "B", "replan: more"))
        usage = {"prompt_tokens": self.prompt, "completion_tokens": written}
        body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
        exchange.whole(self.attempt, json.dumps(body).encode(), clock.monotonic())

    def cancel(self) -> None:
        if not self.timer.cancelled() and self.timer.when() > asyncio.get_running_loop().time():
            self.speaker.bill.add(self.prompt, self.most, -1)
            self.speaker.bill.add(self.prompt, 0)  # what was written until then nobody has counted
        self.timer.cancel()


class Speaker:
    """A backend whose answers are drawn."""

    dialect_name = "openai"

    def __init__(self, bill: Bill, rng: random.Random) -> None:
        self.bill = bill
        self.rng = rng

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        attempt.handle = Speech(self, attempt, call)


class World:
    """A gateway with the models `a`, `b`, `c`, the teams `one` and `two` of them, and the team `all` of those."""

    def __init__(self, seed: int, budget: CooperationBudget, inner_budget: CooperationBudget, outer: str) -> None:
        self.rng = random.Random(seed)
        self.bill = Bill()
        self.budget = budget
        inner = [self.rng.choice(STRATEGIES) for _ in range(2)]
        self.entries = {
            "one": self._entry(inner[0], ["a", "b"], inner_budget),
            "two": self._entry(inner[1], ["b", "c"], CooperationBudget()),
            "all": self._entry(outer, ["one", "two", "c"], budget, planner="a", aggregator="b"),
        }

    def _entry(self, strategy: str, members: list[str], budget: CooperationBudget, **more: Any) -> CooperationEntry:
        if strategy == "plan_execute":
            return CooperationEntry(strategy="plan_execute", members=[*members, "b"], budget=budget, **more)
        return CooperationEntry(
            strategy=cast(Any, strategy), members=members, budget=budget, hedge_delay_s=HEDGE_S, samples=3, votes_max=9
        )

    async def play(self) -> None:
        rigs = {name: Rig(name, start=False, at_s=START_S) for name in ("a", "b", "c", *self.entries)}
        for name, rig in rigs.items():
            rig.endpoints[name].price_in, rig.endpoints[name].price_out = PRICE_IN, PRICE_OUT
            rig.endpoints[name].extra = Speaker(self.bill, self.rng)
        plans = {name: rig.plan for name, rig in rigs.items()}
        gateway = Gateway(
            Snapshot(1, "", {}, plans, "a", keys=None, anonymous=Principal("anonymous", None, None)),
            self,
            asyncio.get_running_loop(),
            PLAIN_FACE,
            ready=str,
            rng=random.Random(1),
            sources=SourceWatch(SourceSettings(), cast(Any, None)),
        )
        gateway.start()
        desk = MemberDesk(gateway, random.Random(1))

        async def tools() -> ToolDesk:
            return ToolDesk(())

        around = Surroundings(desk, TeamFigures(), self.rng, desk=tools)
        rates = {**dict.fromkeys("abc", PLAIN), "one": TEAM, "two": TEAM}
        for name, entry in self.entries.items():
            fields = {field: getattr(entry, field) for field in TeamSettings.__struct_fields__}
            book = Book(tuple(Member(each) for each in entry.members), TeamSettings(**fields), Knowledge())
            rigs[name].endpoints[name].extra = TeamBackend(Team(name, entry, book, rates), around)
        with contextlib.suppress(AutoGLMError):  # whether there is an answer is not the question here
            question = [Message("user", (TextPart("6 * 7?"),))]
            await desk.caller(Origin()).ask("all", question, deadline_s=START_S + 20.0)
        await asyncio.sleep(1.0)  # what was cancelled ends
        gateway.stop()

    def settle(self, record: RequestRecord) -> None:
        budget, bill = self.budget, self.bill
        assert not budget.tokens or bill.tokens <= budget.tokens
        assert not budget.money or bill.money <= budget.money + 1e-9


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from((0, 1500, 5000, 30_000)),
    st.sampled_from((0.0, 4.0, 20.0)),
    st.sampled_from((CooperationBudget(), CooperationBudget(2500), CooperationBudget(0, 5.0))),
    st.sampled_from((*STRATEGIES, "plan_execute")),
)
def test_the_outer_budget_holds(
    seed: int, tokens: int, money: float, inner_budget: CooperationBudget, outer: str
) -> None:
    if not tokens and not money:
        tokens = 5000
    world = World(seed, CooperationBudget(tokens, money), inner_budget, outer)
    VirtualLoop().run(world.play())
    bill = world.bill
    assert not tokens or bill.tokens <= tokens
    assert not money or bill.money <= money + 1e-9
    if tokens >= 5000 and money in (0.0, 20.0):
        assert bill.asked, "there was room for an answer, and nobody was asked"
