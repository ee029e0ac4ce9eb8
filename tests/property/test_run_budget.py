"""Random graphs whose steps cost something, whose processes are killed: what a run may spend is never exceeded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.cooperation.executor import Executor, StepCall
from open_autoglm.errors import UpstreamError
from open_autoglm.scheduling.budget import BudgetExhausted
from open_autoglm.scheduling.graph_run import GraphRun, RunLimits, RunState
from open_autoglm.scheduling.run_account import Quote, RunAccount, RunBudget
from open_autoglm.scheduling.run_event import Planned, RunEvent
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.testing.loop import START_S, VirtualLoop

LIVES_MAX = 200
FREE = RunBudget()


class World:
    """Performs steps, and counts what they really cost: of tries that were broken off, all that they might have.

    Attributes:
        tokens, money: what was spent, or may have been.
    """

    def __init__(self, seed: int, budget: RunBudget, count: int) -> None:
        self.rng = random.Random(seed)
        self.budget = budget
        self.tokens = 0
        self.money = 0.0
        self.journal: list[RunEvent] = []
        self.tasks = tuple(self._task(number) for number in range(count))

    def _task(self, number: int) -> Task:
        rng = self.rng
        args = {"tokens": rng.choice((0, 5, 40)), "money": rng.choice((0.0, 0.001, 0.3)), "team": rng.random() < 0.2}
        needs = tuple({f"t{rng.randrange(number)}" for _ in range(rng.randrange(3)) if number})
        return Task(f"t{number}", "do", args, needs, retries=rng.randrange(3), on_failure="skip")

    def price(self, task: Task, arguments: dict[str, Any]) -> Quote:
        if arguments["team"]:
            return Quote(inf, inf, elastic=True)
        return Quote(arguments["tokens"], arguments["money"])

    async def perform(self, call: StepCall) -> Any:
        rng = self.rng
        for _ in range(rng.randrange(1, 6) if call.arguments["team"] else 1):
            tokens, money = call.arguments["tokens"], call.arguments["money"]
            try:
                reservation = call.ledger.reserve(tokens, money)
            except BudgetExhausted:
                return "as far as the budget went"
            self.tokens += tokens
            self.money += money
            self._check()
            await asyncio.sleep(rng.random())
            share = rng.random()  # those that are killed before this count in full
            spent, paid = int(tokens * share), money * share
            self.tokens += spent - tokens
            self.money += paid - money
            call.ledger.settle(reservation, spent, paid)
        if rng.random() < 0.2:
            raise UpstreamError("overloaded", "no")
        return call.task.id

    def _check(self) -> None:
        assert not self.budget.tokens or self.tokens <= self.budget.tokens
        assert not self.budget.money or self.money <= self.budget.money + 1e-9

    async def _record(self, events: Sequence[RunEvent]) -> None:
        await asyncio.sleep(self.rng.random() * 0.1)
        self.journal += events

    def life(self, ends_s: float) -> tuple[RunState, RunAccount]:
        """Go on from the journal; return how it stands at its end, or when it is killed after so many seconds."""
        run = GraphRun("r", TaskGraph(), limits=RunLimits(running=4), repeatable=lambda task: True)
        account = RunAccount(self.budget)
        for event in [Planned(self.tasks), *self.journal]:
            run.take(event)
            account.take(event)
        executor = Executor(
            "r",
            run,
            self.perform,
            deadline_s=START_S + 1e6,
            record=self._record,
            rng=self.rng,
            account=account,
            price=self.price,
        )

        async def scene() -> RunState:
            try:
                async with asyncio.timeout(ends_s):
                    return await executor.execute()
            except TimeoutError:
                return "running"

        return VirtualLoop().run(scene()), account


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.sampled_from((0, 7, 60, 200)),
    st.sampled_from((0.0, 0.01, 0.7, 2.0)),
)
def test_what_a_run_may_spend_is_never_exceeded_however_often_it_is_killed(
    seed: int, count: int, tokens: int, money: float
) -> None:
    world = World(seed, RunBudget(tokens, money), count)
    for life in range(LIVES_MAX):
        killed = world.rng.random() < 0.8 and life < LIVES_MAX - 1
        state, account = world.life(world.rng.random() * 3.0 if killed else 1e9)
        world._check()
        if state == "running":
            continue
        assert state in ("done", "waiting", "budget_exhausted")
        assert account.reserved == (0, 0.0)
        assert not tokens or world.tokens <= account.spent.tokens <= tokens, "counted less than was spent"
        assert not money or world.money - 1e-9 <= account.spent.money <= money + 1e-9
        assert state != "budget_exhausted" or tokens or money
        return
    raise AssertionError("the run does not end")


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_a_budget_that_has_room_for_everything_changes_nothing(seed: int, count: int) -> None:
    ample, free = World(seed, RunBudget(10**9, 1e8), count), World(seed, FREE, count)
    for world in (ample, free):
        world.tasks = tuple(task for task in world.tasks if not task.args["team"] and not task.depends_on)
    (state, account), (free_state, free_account) = ample.life(1e9), free.life(1e9)
    assert (state, account.spent) == (free_state, free_account.spent)
    assert state == "done"
