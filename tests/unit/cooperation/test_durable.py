"""Durable runs over a real journal: what a person says, what a second life repeats, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.cooperation.durable import DurableRuns
from open_autoglm.cooperation.executor import Perform, StepCall
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.scheduling.run_account import Quote, RunBudget
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.storage.run_journal import JournalLimits, RunJournal

LIMIT_S = 30.0


class Desk:
    """Performs steps: `say` returns, `hang` never does, `break` fails; `write` is what may not be repeated."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.keys: list[str] = []
        self.hanging = asyncio.Event()
        self.fifth = asyncio.Event()

    async def __call__(self, call: StepCall) -> Any:
        self.calls.append(call.task.id)
        self.keys.append(call.idempotency_key)
        if len(self.calls) == 5:
            self.fifth.set()
        if call.arguments.get("hang"):
            self.hanging.set()
            await asyncio.Event().wait()
        if call.task.tool == "break":
            raise RequestError("invalid_request", "no")
        return call.arguments.get("say", call.task.id) * call.arguments.get("times", 1)


@asynccontextmanager
async def _runs(
    folder: Path,
    perform: Perform,
    limits: JournalLimits | None = None,
    kind: type[RunJournal] = RunJournal,
    **settings: Any,
) -> AsyncIterator[DurableRuns]:
    journal = kind(folder / "runs.db", limits)
    await journal.open()
    runs = DurableRuns(
        journal,
        perform,
        price=lambda task, arguments: Quote(),
        repeatable=lambda task: task.tool != "write",
        new_graph=lambda: TaskGraph(tools={"say", "write", "break"}),
        settings=RunSettings(**settings),
    )
    runs.start()
    try:
        yield runs
    finally:
        await runs.close(drain_s=0.0)
        await journal.close()


async def _until(runs: DurableRuns, run_id: str, *states: str) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        while True:
            view = await runs.show(run_id)
            if view["state"] in states:
                return view
            await asyncio.sleep(0)


def _states(view: dict[str, Any]) -> dict[str, str]:
    return {task["id"]: task["state"] for task in view["tasks"]}


async def test_a_run_is_performed_and_told(tmp_path: Path) -> None:
    desk = Desk()
    async with _runs(tmp_path, desk) as runs:
        run_id = await runs.create([Task("a", "say", {"say": 1}), Task("b", "break", {"x": "$a"})], name="n", by="eva")
        view = await _until(runs, run_id, "failed")
        assert (view["name"], view["by"], view["tasks"][0]["result"]) == ("n", "eva", 1)
        assert view["tasks"][1]["error"] == {"code": "invalid_request", "message": "no"}
        assert view["tasks"][1]["depends_on"] == ["a"]
        assert [row["id"] for row in await runs.rows(state="failed")] == [run_id]
        assert await runs.rows(state="running") == []


async def test_a_wrong_run_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with _runs(tmp_path, Desk()) as runs:
        for tasks in ([], [Task("a", "none")], [Task("a", "say", depends_on=("b",))]):
            with pytest.raises(RequestError):
                await runs.create(tasks)
        assert await runs.rows() == []
        with pytest.raises(RequestError, match="no run"):
            await runs.show("none")


@pytest.mark.parametrize(("word", "end"), [("approved", "done"), ("refused", "failed")])
async def test_an_approval_waits_over_restarts_and_its_word_counts(tmp_path: Path, word: Any, end: str) -> None:
    tasks = [Task("ask", "approval", {"question": "send it?"}), Task("b", "say", depends_on=("ask",))]
    desk = Desk()
    async with _runs(tmp_path, desk) as runs:
        run_id = await runs.create(tasks)
        await _until(runs, run_id, "waiting")
    async with _runs(tmp_path, desk) as runs:
        view = await runs.show(run_id)
        assert view["asking"] == [{"task": "ask", "question": "approval", "arguments": {"question": "send it?"}}]
        assert desk.calls == []
        with pytest.raises(RequestError, match="nobody is asked"):
            await runs.say(run_id, "b", "approved", by="eva")
        with pytest.raises(RequestError, match="no task"):
            await runs.say(run_id, "c", "approved", by="eva")
        with pytest.raises(RequestError, match="not begun"):
            await runs.say(run_id, "ask", "done", by="eva")
        await runs.say(run_id, "ask", word, by="eva")
        await _until(runs, run_id, end)
        with pytest.raises(RequestError, match=f"is {end}"):
            await runs.say(run_id, "ask", word, by="eva")


async def test_two_words_at_once_count_once(tmp_path: Path) -> None:
    desk = Desk()
    async with _runs(tmp_path, desk) as runs:
        run_id = await runs.create([Task("ask", "approval"), Task("b", "say", depends_on=("ask",))])
        await _until(runs, run_id, "waiting")
        answers = await asyncio.gather(
            runs.say(run_id, "ask", "approved", by="a"),
            runs.say(run_id, "ask", "refused", by="b"),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, RequestError) for answer in answers) <= 1
        await _until(runs, run_id, "done")
        assert desk.calls == ["b"]


async def test_what_was_being_performed_is_performed_again_with_its_key_and_nothing_else_is(tmp_path: Path) -> None:
    desk = Desk()
    tasks = [Task("a", "say"), Task("b", "say", {"hang": True}, depends_on=("a",)), Task("c", "say", depends_on=("b",))]
    async with _runs(tmp_path, desk) as runs:
        run_id = await runs.create(tasks)
        await asyncio.wait_for(desk.hanging.wait(), LIMIT_S)
    again = Desk()
    async with _runs(tmp_path, again) as runs:
        await asyncio.wait_for(again.hanging.wait(), LIMIT_S)
        assert (desk.calls, again.calls) == (["a", "b"], ["b"])
        assert desk.keys[1] == again.keys[0] == f"{run_id}:b"
        assert (await runs.cancel(run_id))["state"] == "cancelled"
        with pytest.raises(RequestError, match="is cancelled"):
            await runs.cancel(run_id)


@pytest.mark.parametrize(
    ("word", "calls", "end"), [("approved", ["w"], "done"), ("done", [], "done"), ("refused", [], "failed")]
)
async def test_a_step_with_effects_of_unknown_end_is_left_to_a_person(
    tmp_path: Path, word: Any, calls: list[str], end: str
) -> None:
    desk = Desk()
    async with _runs(tmp_path, desk) as runs:
        run_id = await runs.create([Task("w", "write", {"hang": True}), Task("a", "say")])
        await asyncio.wait_for(desk.hanging.wait(), LIMIT_S)
    again = Desk()

    async def perform(call: StepCall) -> Any:
        again.calls.append(call.task.id)
        return 1

    async with _runs(tmp_path, perform) as runs:
        view = await _until(runs, run_id, "waiting")
        assert view["asking"] == [{"task": "w", "question": "unknown", "arguments": {"hang": True}}]
        await runs.say(run_id, "w", word, by="eva")
        await _until(runs, run_id, end)
        assert again.calls == calls


async def test_a_full_journal_refuses_a_run_and_rests_another_until_there_is_room(tmp_path: Path) -> None:
    desk = Desk()
    async with _runs(tmp_path, desk, JournalLimits(file_bytes=300_000), sweep_s=0.05) as runs:
        with pytest.raises(ServerError, match="no room") as caught:
            await runs.create([Task(f"t{n}", "say", {"x": "y" * 200_000}) for n in range(2)])
        assert caught.value.code == "storage_full"
        run_id = await runs.create([Task(f"t{n}", "say", {"say": "y", "times": 100_000}) for n in range(4)])
        await asyncio.wait_for(desk.fifth.wait(), LIMIT_S)  # it rested, and the next sweep tried again
        assert (await runs.show(run_id))["state"] == "running"
    async with _runs(tmp_path, desk) as runs:
        await _until(runs, run_id, "done")


async def test_runs_beyond_the_limit_wait_for_their_turn(tmp_path: Path) -> None:
    going: set[str] = set()
    most = 0

    async def perform(call: StepCall) -> Any:
        nonlocal most
        going.add(call.run_id)
        most = max(most, len(going))
        await asyncio.sleep(0)
        going.discard(call.run_id)

    async with _runs(tmp_path, perform, in_flight=2, sweep_s=600.0) as runs:
        ids = [await runs.create([Task("a", "say")]) for _ in range(12)]
        for run_id in ids:
            await _until(runs, run_id, "done")
        assert most <= 2


class Holding(RunJournal):
    """Does not let go of any run."""

    async def release(self, run_id: str) -> None:
        raise ServerError("overloaded", "another process holds it")


async def test_a_run_that_was_kept_is_told_so_whatever_comes_after(tmp_path: Path) -> None:
    desk = Desk()
    async with _runs(tmp_path, desk, kind=Holding, in_flight=1) as runs:
        await runs.create([Task("a", "say", {"hang": True})])
        run_id = await runs.create([Task("b", "say")])
        assert (await runs.show(run_id))["state"] == "running"


class Odd(RunJournal):
    """Has a defect in its first sweep."""

    swept = False

    async def orphans(self, limit: int, *, now_ms: int, driven: Collection[str] = ()) -> list[str]:
        if not self.swept:
            self.swept = True
            raise KeyError(limit)
        return await super().orphans(limit, now_ms=now_ms, driven=driven)


async def test_a_defect_in_one_sweep_does_not_end_the_next(tmp_path: Path) -> None:
    async with _runs(tmp_path, desk := Desk()) as runs:
        await runs.create([Task("a", "say", {"hang": True})])
        await asyncio.wait_for(desk.hanging.wait(), LIMIT_S)
    async with _runs(tmp_path, again := Desk(), kind=Odd, sweep_s=0.01):
        await asyncio.wait_for(again.hanging.wait(), LIMIT_S)


async def test_a_run_that_waits_too_long_for_a_person_is_stopped(tmp_path: Path) -> None:
    async with _runs(tmp_path, Desk(), sweep_s=0.01) as runs:
        run_id = await runs.create([Task("ask", "approval")], timeout_s=0.05)
        view = await _until(runs, run_id, "cancelled")
        assert view["stop_reason"] == "deadline_exceeded"


async def test_one_process_drives_a_run(tmp_path: Path) -> None:
    desk, other_desk = Desk(), Desk()
    async with _runs(tmp_path, desk) as runs, _runs(tmp_path, other_desk) as others:
        run_id = await runs.create([Task("a", "say", {"hang": True})])
        await asyncio.wait_for(desk.hanging.wait(), LIMIT_S)
        for ask in (others.cancel(run_id), others.resume(run_id)):
            with pytest.raises(RequestError, match="another process"):
                await ask
        assert (await others.show(run_id))["state"] == "running"
        assert other_desk.calls == []
        await runs.resume(run_id)
        assert desk.calls == ["a"]


async def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    async with _runs(tmp_path, Desk()) as runs:
        run_id = await runs.create([Task("ask", "approval")])
        await runs.close()
        for ask in (runs.create([Task("a", "say")]), runs.cancel(run_id)):
            with pytest.raises(ServerError, match="stopping"):
                await ask


async def test_a_budget_is_the_settings_unless_the_document_asks_for_less(tmp_path: Path) -> None:
    async with _runs(tmp_path, Desk(), budget=RunBudget(1000, 0.5, 60.0)) as runs:
        run_id = await runs.create([Task("a", "say")], budget=RunBudget(tokens=10))
        assert (await runs.show(run_id))["budget"] == {"tokens": 10, "money": 0.5, "time": 60.0}
        for asked, words in ((RunBudget(1001), "tokens: 1001"), (RunBudget(time_s=61.0), "time: 61")):
            with pytest.raises(RequestError, match=words):
                await runs.create([Task("a", "say")], budget=asked)


async def test_the_time_of_a_budget_counts_from_the_submission_over_restarts(tmp_path: Path) -> None:
    desk, again = Desk(), Desk()
    async with _runs(tmp_path, desk) as runs:
        tasks = [Task("a", "say"), Task("b", "say", {"hang": True}, depends_on=("a",))]
        run_id = await runs.create(tasks, budget=RunBudget(time_s=0.5))
        await asyncio.wait_for(desk.hanging.wait(), LIMIT_S)
    async with _runs(tmp_path, again) as runs:
        view = await _until(runs, run_id, "budget_exhausted")
        assert (view["stop_reason"], _states(view)) == ("budget_exhausted", {"a": "done", "b": "cancelled"})
