"""The executor in virtual time: data flow, limits of time, what is kept before what, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from open_autoglm import clock
from open_autoglm.cooperation.executor import Executor, ExecutorLimits, StepCall
from open_autoglm.errors import RequestError, ServerError, UpstreamError
from open_autoglm.scheduling.graph_run import GraphRun, RunLimits, RunState
from open_autoglm.scheduling.run_account import Quote, RunAccount, RunBudget
from open_autoglm.scheduling.run_event import (
    Approval,
    Held,
    Planned,
    RunEvent,
    Stopped,
    TaskDone,
    TaskFailed,
    TaskStarted,
)
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.tools.tool import ConfirmationNeededError, ToolError

Perform = Callable[[StepCall], Awaitable[Any]]


def _run(*tasks: Task, more: bool = False) -> GraphRun:
    run = GraphRun("r1", TaskGraph(), limits=RunLimits(), repeatable=lambda task: task.tool != "write")
    run.take(Planned(tasks, more=more))
    return run


def _task(task_id: str, *needs: str, tool: str = "wait", **fields: Any) -> Task:
    return Task(task_id, tool, depends_on=needs, **fields)


def _executor(run: GraphRun, perform: Perform, **settings: Any) -> Executor:
    return Executor("r1", run, perform, **{"deadline_s": START_S + 1000.0, **settings})


async def _sleep(call: StepCall) -> Any:
    await asyncio.sleep(call.arguments.get("s", 0.0))
    return call.arguments.get("say", call.task.id)


class Book:
    """Keeps events, as slowly as it is told; refuses from the given record on."""

    def __init__(self, takes_s: float = 0.0, refuses_from: int = 1_000_000) -> None:
        self.takes_s = takes_s
        self.refuses_from = refuses_from
        self.kept: list[Sequence[RunEvent]] = []

    async def __call__(self, events: Sequence[RunEvent]) -> None:
        await asyncio.sleep(self.takes_s)
        if len(self.kept) >= self.refuses_from:
            raise ServerError("storage_full", "no room")
        self.kept.append(list(events))


def test_a_run_takes_as_long_as_its_longest_path() -> None:
    tasks = [
        _task("a", args={"s": 0.1}),
        _task("b", args={"s": 0.5}),
        _task("c", "a", args={"s": 0.4}),
        _task("d", "c", args={"s": 0.1}),
        _task("e", "b", args={"s": 0.1}),
    ]

    async def scene() -> float:
        executor = _executor(_run(*tasks), _sleep)
        assert await executor.execute() == "done"
        return clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == pytest.approx(0.6)


def test_results_fill_the_references_of_later_steps() -> None:
    async def perform(call: StepCall) -> Any:
        return {"sum": sum(call.arguments["of"])}

    run = _run(Task("a", "add", {"of": [1, 2]}), Task("b", "add", {"of": ["${a.sum}", 4]}))
    assert VirtualLoop().run(_executor(run, perform).execute()) == "done"
    assert run.results["b"] == {"sum": 7}


def test_a_reference_to_what_is_not_there_fails_its_step_alone() -> None:
    run = _run(_task("a"), Task("b", "wait", {"x": "${a.none}"}), _task("c"))
    assert VirtualLoop().run(_executor(run, _sleep).execute()) == "failed"
    assert run.states == {"a": "done", "b": "failed", "c": "done"}
    assert run.errors["b"].code == "invalid_request"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UpstreamError("upstream_error", "no"), "upstream_error"),
        (ToolError("tool_failed", "no"), "tool_failed"),
        (KeyError("x"), "internal_error"),
        (TimeoutError(), "internal_error"),
    ],
)
def test_whatever_a_step_raises_ends_that_step_only(raised: Exception, code: str) -> None:
    async def perform(call: StepCall) -> Any:
        if call.task.id == "bad":
            raise raised
        return await _sleep(call)

    run = _run(_task("bad"), _task("after", "bad"), _task("good", args={"s": 1.0}), _task("end", "good"))
    assert VirtualLoop().run(_executor(run, perform).execute()) == "failed"
    assert run.states == {"bad": "failed", "after": "stopped", "good": "done", "end": "done"}
    assert run.errors["bad"].code == code


def test_a_step_is_cancelled_at_its_limit_and_tried_again() -> None:
    cancelled: list[int] = []

    async def perform(call: StepCall) -> Any:
        try:
            await asyncio.sleep(5.0 if call.attempt == 1 else 0.0)
        except asyncio.CancelledError:
            cancelled.append(call.attempt)
            raise
        return call.idempotency_key

    run = _run(_task("a", timeout_s=0.5, retries=1))
    assert VirtualLoop().run(_executor(run, perform).execute()) == "done"
    assert (cancelled, run.results["a"]) == ([1], "r1:a")


def test_a_step_of_unknown_end_is_left_to_a_person_when_it_may_not_be_repeated() -> None:
    run = _run(_task("a", tool="write", args={"s": 99.0}, timeout_s=0.5, retries=3))
    assert VirtualLoop().run(_executor(run, _sleep).execute()) == "waiting"
    assert run.asking == {"a": "unknown"}


def test_the_run_is_stopped_at_its_deadline() -> None:
    run = _run(_task("a"), _task("b", "a", args={"s": 90.0}, timeout_s=500.0))

    async def scene() -> float:
        assert await _executor(run, _sleep, deadline_s=START_S + 7.0).execute() == "cancelled"
        assert run.stop_reason == "deadline_exceeded"
        return clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == pytest.approx(7.0)


def test_no_step_starts_before_its_start_is_kept_nor_follows_from_an_end_that_is_not() -> None:
    book = Book(takes_s=0.01)
    kept: list[RunEvent] = []

    async def perform(call: StepCall) -> Any:
        kept[:] = [event for part in book.kept for event in part]
        assert any(isinstance(event, TaskStarted) and event.task == call.task.id for event in kept)
        done = {event.task for event in kept if isinstance(event, TaskDone)}
        assert set(call.task.depends_on) <= done
        return 1

    tasks = [_task("a"), _task("b", "a"), _task("c", "a"), _task("d", "b", "c")]
    assert VirtualLoop().run(_executor(_run(*tasks), perform, record=book).execute()) == "done"


def test_ends_that_come_while_a_record_is_written_share_the_next_one() -> None:
    book = Book(takes_s=1.0)
    tasks = [_task(f"t{n}", args={"s": 0.01 * n}) for n in range(10)]
    assert VirtualLoop().run(_executor(_run(*tasks), _sleep, record=book).execute()) == "done"
    assert [len(part) for part in book.kept] == [10, 1, 9]


def test_what_cannot_be_kept_ends_the_execution_and_its_steps() -> None:
    cancelled: list[str] = []

    async def perform(call: StepCall) -> Any:
        try:
            return await _sleep(call)
        except asyncio.CancelledError:
            cancelled.append(call.task.id)
            raise

    run = _run(_task("a"), _task("b", args={"s": 9.0}), _task("c", "a"))
    with pytest.raises(ServerError, match="no room"):
        VirtualLoop().run(_executor(run, perform, record=Book(refuses_from=1)).execute())
    assert cancelled == ["b"]


def test_a_step_whose_own_wait_is_cancelled_has_failed() -> None:
    async def perform(call: StepCall) -> Any:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    run = _run(_task("a"), _task("b", "a"))
    assert VirtualLoop().run(_executor(run, perform).execute()) == "failed"
    assert (run.states, run.errors["a"].code) == ({"a": "failed", "b": "stopped"}, "internal_error")


def test_whoever_waits_for_an_event_to_be_kept_hears_of_an_execution_that_is_cancelled_meanwhile() -> None:
    async def scene() -> None:
        executor = _executor(_run(_task("a", args={"s": 50.0})), _sleep, record=Book(takes_s=5.0))
        executing = asyncio.ensure_future(executor.execute())
        await asyncio.sleep(6.0)
        kept = executor.tell(Planned((_task("b"),)))
        await asyncio.sleep(1.0)  # it is being written now
        executing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await executing
        with pytest.raises(RequestError, match="not going on"):
            await asyncio.wait_for(kept, 1.0)

    VirtualLoop().run(scene())


def test_of_two_words_at_once_the_one_that_counts_is_kept() -> None:
    before: list[RunEvent] = [TaskStarted("a"), Held("a", "digest")]
    run, again, book = _run(_task("a", tool="drop")), _run(_task("a", tool="drop")), Book()
    for event in before:
        run.take(event)

    async def perform(call: StepCall) -> Any:
        return call.confirmation

    async def scene() -> list[Any]:
        executor = _executor(run, perform, record=book)
        told = [executor.tell(Approval("a", "approved")), executor.tell(Approval("a", "refused"))]
        assert await executor.execute() == "done"
        return await asyncio.gather(*told, return_exceptions=True)

    approved, refused = VirtualLoop().run(scene())
    assert approved is None
    assert isinstance(refused, RequestError)
    for event in (*before, *(event for part in book.kept for event in part)):
        again.take(event)
    again.begin()
    assert (again.states, again.results) == (run.states, run.results) == ({"a": "done"}, {"a": "digest"})


def test_cancelling_the_execution_cancels_its_steps() -> None:
    cancelled: list[str] = []

    async def perform(call: StepCall) -> Any:
        try:
            return await _sleep(call)
        except asyncio.CancelledError:
            cancelled.append(call.task.id)
            raise

    async def scene() -> None:
        executor = _executor(_run(_task("a", args={"s": 9.0})), perform)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await executor.execute()
        with pytest.raises(RequestError, match="not going on"):
            await executor.tell(Stopped("cancelled"))

    VirtualLoop().run(scene())
    assert cancelled == ["a"]


def test_an_order_to_stop_ends_the_run_at_once() -> None:
    book = Book()

    async def scene() -> float:
        executor = _executor(_run(_task("a", args={"s": 50.0})), _sleep, record=book)
        async with asyncio.TaskGroup() as group:
            going = group.create_task(executor.execute())
            await asyncio.sleep(2.0)
            await executor.tell(Stopped("cancelled"))
        assert going.result() == "cancelled"
        return clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == pytest.approx(2.0)
    assert book.kept[-1] == [Stopped("cancelled", at_ms=2000)]


def test_a_plan_that_comes_in_parts_runs_from_its_first_part_on() -> None:
    run = _run(more=True)

    async def scene() -> tuple[RunState, float]:
        executor = _executor(run, _sleep)
        async with asyncio.TaskGroup() as group:
            going = group.create_task(executor.execute())
            await executor.tell(Planned((_task("a", args={"s": 3.0}),), more=True))
            await asyncio.sleep(2.0)
            with pytest.raises(RequestError, match="ghost"):
                await executor.tell(Planned((_task("x", "ghost"),), more=True))
            await executor.tell(Planned((_task("b", "a", args={"s": 1.0}),)))
        return going.result(), clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == ("done", pytest.approx(4.0))
    assert set(run.states) == {"a", "b"}


def test_the_planner_is_asked_and_its_answer_kept() -> None:
    book = Book()

    async def perform(call: StepCall) -> Any:
        if call.task.id == "a":
            raise ToolError("tool_failed", "no")
        return 1

    async def planner(run: GraphRun, failed: str) -> tuple[Task, ...]:
        return (_task(f"{failed}2"),)

    run = _run(_task("a", on_failure="replan"))
    assert VirtualLoop().run(_executor(run, perform, record=book, planner=planner).execute()) == "done"
    kinds = [type(event) for part in book.kept for event in part]
    assert kinds == [TaskStarted, TaskFailed, Planned, TaskStarted, TaskDone]


def _broken(error: Exception) -> Any:
    async def planner(run: GraphRun, failed: str) -> tuple[Task, ...]:
        raise error

    return planner


async def _wrong(run: GraphRun, failed: str) -> tuple[Task, ...]:
    return (_task("b", "ghost"),)


async def _slow(run: GraphRun, failed: str) -> tuple[Task, ...]:
    await asyncio.sleep(500.0)
    return ()


@pytest.mark.parametrize(
    "planner", [None, _broken(UpstreamError("upstream_error", "no")), _broken(KeyError("x")), _wrong, _slow]
)
def test_a_planner_of_no_use_leaves_the_failure(planner: Any) -> None:
    async def perform(call: StepCall) -> Any:
        raise ToolError("tool_failed", "no")

    run = _run(_task("a", on_failure="replan"))
    assert VirtualLoop().run(_executor(run, perform, planner=planner).execute()) == "failed"
    assert run.states == {"a": "failed"}


def test_a_dangerous_call_waits_for_a_persons_word_and_brings_it() -> None:
    calls: list[str] = []

    async def perform(call: StepCall) -> Any:
        if call.task.id == "b":
            return await _sleep(call)
        calls.append(call.confirmation)
        if not call.confirmation:
            raise ConfirmationNeededError("drop", "digest")
        return "dropped"

    book = Book()

    async def scene() -> None:
        executor = _executor(_run(_task("a", tool="drop"), _task("b", args={"s": 5.0})), perform, record=book)
        async with asyncio.TaskGroup() as group:
            going = group.create_task(executor.execute())
            await asyncio.sleep(1.0)
            await executor.tell(Approval("a", "approved", by="eva"))
        assert going.result() == "done"

    VirtualLoop().run(scene())
    assert calls == ["", "digest"]
    assert any(isinstance(event, Held) for part in book.kept for event in part)


def test_results_are_json_and_bounded() -> None:
    async def perform(call: StepCall) -> Any:
        return {"set": {1, 2}, "long": "x" * 200, "odd": object()}[call.task.id]

    run = _run(_task("set"), _task("long"), _task("odd"))
    limits = ExecutorLimits(result_bytes=100)
    assert VirtualLoop().run(_executor(run, perform, limits=limits).execute()) == "failed"
    assert run.results == {"set": [1, 2]}
    assert run.errors["long"].code == "result_too_large"
    assert run.errors["odd"].code == "invalid_result"


def test_the_results_of_a_run_are_bounded_together_and_after_a_restart() -> None:
    async def perform(call: StepCall) -> Any:
        return "x" * 40

    limits = ExecutorLimits(results_bytes=100)
    run = _run(_task("a"), _task("b", "a"), _task("c", "b"))
    assert VirtualLoop().run(_executor(run, perform, limits=limits).execute()) == "failed"
    assert run.states == {"a": "done", "b": "done", "c": "failed"}
    again = _run(_task("a"), _task("b"))
    for event in (TaskStarted("a"), TaskDone("a", "x" * 80)):
        again.take(event)
    assert VirtualLoop().run(_executor(again, perform, limits=limits).execute()) == "failed"


def test_too_much_news_is_refused() -> None:
    async def scene() -> None:
        executor = _executor(_run(_task("a")), _sleep, limits=ExecutorLimits(news=2))
        told = [executor.tell(Planned((_task(name),))) for name in "bc"]
        with pytest.raises(ServerError, match="2 events"):
            executor.tell(Planned((_task("d"),)))
        assert await executor.execute() == "done"
        await asyncio.gather(*told)

    VirtualLoop().run(scene())


def test_what_was_handed_in_before_is_taken_first() -> None:
    run = _run(_task("ask", tool="approval"), _task("a", "ask"))

    async def scene() -> RunState:
        executor = _executor(run, _sleep)
        executor.tell(Approval("ask", "approved"))
        return await executor.execute()

    assert VirtualLoop().run(scene()) == "done"


def test_draining_lets_what_runs_end_and_starts_nothing() -> None:
    run = _run(_task("a", args={"s": 3.0}), _task("b", "a"))

    async def scene() -> tuple[RunState, float]:
        executor = _executor(run, _sleep)
        async with asyncio.TaskGroup() as group:
            going = group.create_task(executor.execute())
            await asyncio.sleep(1.0)
            executor.drain()
        return going.result(), clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == ("running", pytest.approx(3.0))
    assert run.states == {"a": "done", "b": "ready"}


def _paid(run: GraphRun, perform: Perform, budget: RunBudget, book: Book | None = None, **settings: Any) -> Executor:
    """An executor whose steps may spend what their argument `cost` says."""

    def price(task: Task, arguments: dict[str, Any]) -> Quote:
        if arguments.get("cost") == "wrong":
            raise RequestError("invalid_request", "no")
        return Quote(arguments.get("cost", 0))

    return _executor(run, perform, account=RunAccount(budget), price=price, record=book, **settings)


async def _spend(call: StepCall) -> Any:
    reservation = call.ledger.reserve(call.arguments["cost"])
    await asyncio.sleep(call.arguments.get("s", 1.0))
    call.ledger.settle(reservation, call.arguments.get("pays", call.arguments["cost"]), 0.0)
    return call.task.id


def test_steps_that_do_not_fit_beside_others_wait_for_them() -> None:
    run = _run(*(_task(f"t{n}", args={"cost": 60, "pays": 10}) for n in range(4)))

    async def scene() -> float:
        assert await _paid(run, _spend, RunBudget(tokens=100)).execute() == "done"
        return clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == pytest.approx(4.0), "one after the other"


def test_an_exhausted_budget_ends_the_run_with_the_results_so_far() -> None:
    book = Book()
    run = _run(
        _task("a", args={"cost": 60}), _task("b", "a", args={"cost": 41}), _task("free", tool="idle"), _task("c", "b")
    )

    async def perform(call: StepCall) -> Any:
        if call.task.tool == "idle":
            await asyncio.Event().wait()
        return await _spend(call)

    executor = _paid(run, perform, RunBudget(tokens=100), book)
    assert VirtualLoop().run(executor.execute()) == "budget_exhausted"
    assert run.states == {"a": "done", "b": "cancelled", "free": "cancelled", "c": "cancelled"}
    assert (run.results, run.stop_reason) == ({"a": "a"}, "budget_exhausted")
    begun = [(e.task, e.tokens) for events in book.kept for e in events if isinstance(e, TaskStarted)]
    assert begun == [("a", 60), ("free", 0)]
    assert [e.tokens for events in book.kept for e in events if isinstance(e, TaskDone)] == [60]


def test_wrong_arguments_and_references_fail_their_step_alone_and_cost_nothing() -> None:
    run = _run(_task("a", args={"cost": "wrong"}), _task("b", args={"cost": 5}), Task("c", "wait", {"x": "${b.none}"}))

    async def perform(call: StepCall) -> Any:
        if call.arguments["cost"] == "wrong":
            raise RequestError("invalid_request", "no")
        return await _spend(call)

    executor = _paid(run, perform, RunBudget(tokens=5))
    assert VirtualLoop().run(executor.execute()) == "failed"
    assert run.states == {"a": "failed", "b": "done", "c": "failed"}


def test_a_run_out_of_its_own_time_says_that_its_budget_is_exhausted() -> None:
    run = _run(_task("a", args={"cost": 1, "s": 0.5}), _task("b", "a", args={"cost": 1, "s": 50.0}))
    budget = RunBudget(tokens=5)
    executor = _paid(run, _spend, budget, deadline_s=START_S + 2.0, out_of_time="budget_exhausted")
    assert VirtualLoop().run(executor.execute()) == "budget_exhausted"
    assert run.states == {"a": "done", "b": "cancelled"}
