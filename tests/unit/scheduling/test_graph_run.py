"""One run: what starts when, what a failure reaches, what a person and a planner may change, what a restart repeats."""

from __future__ import annotations

from typing import Any

import pytest

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.graph_run import (
    CRASHES_MAX,
    AskPerson,
    Cancel,
    Effect,
    Finish,
    GraphRun,
    Replan,
    RunLimits,
    Start,
)
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


def _task(task_id: str, *needs: str, tool: str = "read", **fields: Any) -> Task:
    return Task(task_id, tool, depends_on=needs, **fields)


def _run(limits: RunLimits | None = None) -> GraphRun:
    return GraphRun(
        "r1", TaskGraph(), limits=limits or RunLimits(), repeatable=lambda task: not task.tool.startswith("write")
    )


def _begun(*tasks: Task, limits: RunLimits | None = None, after: tuple[RunEvent, ...] = ()) -> tuple[GraphRun, Any]:
    run = _run(limits)
    run.take(Planned(tasks))
    for event in after:
        run.take(event)
    return run, run.begin()


def _started(effects: list[Effect]) -> list[str]:
    return [effect.task.id for effect in effects if isinstance(effect, Start)]


def test_a_task_starts_when_its_own_needs_are_met_whatever_else_runs() -> None:
    run, effects = _begun(_task("a"), _task("slow"), _task("b", "a"), _task("c", "b", "slow"))
    assert _started(effects) == ["a", "slow"]
    assert _started(run.take(TaskDone("a", 1))) == ["b"]
    assert _started(run.take(TaskDone("b", 2))) == []
    assert _started(run.take(TaskDone("slow", 3))) == ["c"]
    assert run.take(TaskDone("c", 4)) == [Finish("done")]
    assert run.results == {"a": 1, "b": 2, "slow": 3, "c": 4}


def test_the_ready_go_by_priority_then_by_the_path_behind_them() -> None:
    tasks = [
        _task("short"),
        _task("long"),
        _task("after", "long", estimate_s=9.0),
        _task("urgent", priority=1),
        _task("x"),
    ]
    run, effects = _begun(*tasks, limits=RunLimits(running=1))
    order = _started(effects)
    for _ in range(4):
        order += _started(run.take(TaskDone(order[-1])))
    assert order == ["urgent", "long", "after", "short", "x"]


def test_a_tool_without_room_holds_back_its_own_tasks_only() -> None:
    tasks = [_task(f"w{n}", tool="web", priority=5) for n in range(3)] + [_task(f"r{n}") for n in range(3)]
    run, effects = _begun(*tasks, limits=RunLimits(running=4, per_tool={"web": 1}))
    assert _started(effects) == ["w0", "r0", "r1", "r2"]
    assert _started(run.take(TaskDone("r0"))) == []
    assert _started(run.take(TaskDone("w0"))) == ["w1"]


def test_a_failure_stops_those_that_need_it_and_no_others() -> None:
    run, _ = _begun(_task("bad"), _task("b", "bad"), _task("c", "b"), _task("good"), _task("d", "good"))
    assert run.take(TaskFailed("bad", "upstream_error", "no")) == []
    assert _started(run.take(TaskDone("good"))) == ["d"]
    assert run.take(TaskDone("d")) == [Finish("failed")]
    assert run.states == {"bad": "failed", "b": "stopped", "c": "stopped", "good": "done", "d": "done"}
    assert run.errors["bad"].code == "upstream_error"


def test_skip_and_fallback_give_a_result_to_those_that_need_it() -> None:
    run, _ = _begun(
        _task("a", on_failure="skip"), _task("b", on_failure="fallback", fallback={"x": 1}), _task("c", "a", "b")
    )
    run.take(TaskFailed("a", "upstream_error"))
    assert _started(run.take(TaskFailed("b", "upstream_error"))) == ["c"]
    assert run.results == {"a": None, "b": {"x": 1}}
    assert run.take(TaskDone("c")) == [Finish("done")]
    assert run.states["a"] == "skipped"


def test_retries_are_counted_and_wait_longer_each_time() -> None:
    run, effects = _begun(_task("a", retries=2))
    waits = []
    for _ in range(2):
        effects = run.take(TaskFailed("a", "overloaded", again=True))
        assert isinstance(effects[0], Start)
        waits.append((effects[0].attempt, effects[0].wait_s, effects[0].key))
    assert waits == [(2, 0.1, "r1:a"), (3, 0.2, "r1:a")]
    assert run.take(TaskFailed("a", "overloaded", again=True)) == [Finish("failed")]


def test_a_failure_that_cannot_change_is_not_retried() -> None:
    run, _ = _begun(_task("a", retries=2))
    assert run.take(TaskFailed("a", "invalid_request", again=False)) == [Finish("failed")]


def test_the_planner_gives_other_tasks_in_a_failed_ones_place() -> None:
    run, _ = _begun(_task("a", on_failure="replan"), _task("b", "a"), _task("c"))
    assert run.take(TaskFailed("a", "upstream_error")) == [Replan("a")]
    assert run.take(TaskDone("c", 3)) == []
    assert run.state == "running"
    assert _started(run.take(Planned((_task("a2", "c"), _task("b2", "a2")), answers="a"))) == ["a2"]
    run.take(TaskDone("a2"))
    assert run.take(TaskDone("b2")) == [Finish("done")]
    assert run.states["a"] == run.states["b"] == "replaced"


def test_a_planner_that_knows_no_other_way_leaves_the_failure() -> None:
    run, _ = _begun(_task("a", on_failure="replan"), limits=RunLimits(replans=1))
    assert run.take(TaskFailed("a", "upstream_error")) == [Replan("a")]
    assert run.take(Planned((), answers="a")) == [Finish("failed")]


def test_the_planner_is_asked_again_so_often_and_no_more() -> None:
    run, _ = _begun(_task("a", on_failure="replan"), limits=RunLimits(replans=1))
    run.take(TaskFailed("a", "upstream_error"))
    run.take(Planned((_task("a2", on_failure="replan"),), answers="a"))
    assert run.take(TaskFailed("a2", "upstream_error")) == [Finish("failed")]


def test_a_plan_may_come_in_parts() -> None:
    run = _run()
    run.take(Planned((), more=True))
    assert run.begin() == []
    assert _started(run.take(Planned((_task("a"),), more=True))) == ["a"]
    assert run.take(TaskDone("a")) == []
    assert _started(run.take(Planned((_task("b", "a"),)))) == ["b"]
    assert run.take(TaskDone("b")) == [Finish("done")]


def test_a_part_that_needs_what_failed_is_stopped_at_once() -> None:
    run = _run()
    run.take(Planned((_task("a"),), more=True))
    run.begin()
    run.take(TaskFailed("a", "upstream_error"))
    assert run.take(Planned((_task("b", "a"), _task("c", "b")))) == [Finish("failed")]
    assert run.states == {"a": "failed", "b": "stopped", "c": "stopped"}


def test_a_wrong_part_changes_nothing() -> None:
    run, _ = _begun(_task("a"))
    with pytest.raises(RequestError):
        run.take(Planned((_task("b", "ghost"),)))
    assert run.take(TaskDone("a")) == [Finish("done")]


def test_stopping_cancels_what_runs_and_settles_all() -> None:
    run, _ = _begun(_task("a"), _task("b", "a"), _task("p", tool="approval"))
    assert run.take(Stopped("cancelled")) == [Cancel("a"), Finish("cancelled")]
    assert set(run.states.values()) == {"cancelled"}
    assert run.take(TaskDone("a", 1)) == []
    assert run.take(Planned((_task("z"),))) == []
    assert run.results == {}


def test_an_approval_takes_no_room_and_waits_for_its_word() -> None:
    run, effects = _begun(_task("ask", tool="approval"), _task("a"), _task("b", "ask"), limits=RunLimits(running=1))
    assert effects == [AskPerson("ask", "approval"), Start(_task("a"), 1, "r1:a")]
    assert run.state == "running"
    run.take(TaskDone("a"))
    assert run.state == "waiting"
    assert _started(run.take(Approval("ask", "approved", by="eva"))) == ["b"]
    assert run.results["ask"] == {"word": "approved", "by": "eva", "note": ""}
    assert run.take(Approval("ask", "refused")) == []
    assert run.take(TaskDone("b")) == [Finish("done")]


def test_a_run_with_tasks_that_are_held_back_does_not_wait_for_a_person() -> None:
    run, _ = _begun(_task("ask", tool="approval"), _task("a"), _task("b", "a"))
    run.hold()
    assert run.take(TaskDone("a")) == []
    assert (run.states["b"], run.state) == ("ready", "running")


def test_a_refusal_is_a_failure_of_that_step() -> None:
    run, _ = _begun(_task("ask", tool="approval"), _task("b", "ask"), _task("c"))
    run.take(Approval("ask", "refused", by="eva", note="too dear"))
    assert run.take(TaskDone("c")) == [Finish("failed")]
    assert run.states == {"ask": "failed", "b": "stopped", "c": "done"}
    assert run.errors["ask"].code == "refused"


def test_word_on_what_nobody_was_asked_changes_nothing() -> None:
    run, _ = _begun(_task("a"), _task("ask", "a", tool="approval"))
    assert run.take(Approval("a", "done")) == []
    assert run.take(Approval("ask", "approved")) == []
    assert run.take(TaskDone("a")) == [AskPerson("ask", "approval")]


def test_what_is_settled_is_not_performed_again_after_a_restart() -> None:
    tasks = (_task("a"), _task("b", "a"), _task("c", "a"), _task("d", "b", "c"))
    after = (TaskStarted("a"), TaskDone("a", 1), TaskStarted("b"), TaskStarted("c"), TaskDone("c", 3))
    run, effects = _begun(*tasks, after=after)
    assert effects == [Start(tasks[1], 2, "r1:b")]
    assert _started(run.take(TaskDone("b", 2))) == ["d"]
    assert run.take(TaskDone("d", 4)) == [Finish("done")]


def test_a_started_step_with_effects_is_left_to_a_person_after_a_restart() -> None:
    for word, state in (("approved", "running"), ("done", "done"), ("refused", "failed")):
        run, effects = _begun(_task("w", tool="write"), after=(TaskStarted("w"),))
        assert effects == [AskPerson("w", "unknown")]
        assert run.state == "waiting"
        run.take(Approval("w", word))  # type: ignore[arg-type]
        assert run.states["w"] == state


def test_a_step_with_effects_that_was_not_started_starts_after_a_restart() -> None:
    _, effects = _begun(_task("a"), _task("w", "a", tool="write"), after=(TaskStarted("a"), TaskDone("a")))
    assert _started(effects) == ["w"]


def test_word_that_was_given_counts_after_another_restart() -> None:
    after = (TaskStarted("w"), Approval("w", "approved"))
    _, effects = _begun(_task("w", tool="write"), after=after)
    assert _started(effects) == ["w"]
    _, effects = _begun(_task("w", tool="write"), after=(*after, TaskStarted("w", attempt=2)))
    assert effects == [AskPerson("w", "unknown")]


def test_a_try_of_unknown_end_is_left_to_a_person_only_when_it_has_effects() -> None:
    run, _ = _begun(_task("w", tool="write", retries=3), _task("r", retries=3))
    assert run.take(TaskFailed("w", "deadline_exceeded", again=True, unclear=True)) == [AskPerson("w", "unknown")]
    assert _started(run.take(TaskFailed("r", "deadline_exceeded", again=True, unclear=True))) == ["r"]
    after = (TaskStarted("w"), TaskFailed("w", "deadline_exceeded", again=True, unclear=True))
    _, effects = _begun(_task("w", tool="write", retries=3), after=after)
    assert effects == [AskPerson("w", "unknown")]


def test_a_step_that_kills_the_process_again_and_again_is_left_to_a_person() -> None:
    crashes = tuple(TaskStarted("a", attempt=n + 1) for n in range(CRASHES_MAX))
    _, effects = _begun(_task("a"), after=crashes)
    assert _started(effects) == ["a"]
    _, effects = _begun(_task("a"), after=(*crashes, TaskStarted("a", attempt=CRASHES_MAX + 1)))
    assert effects == [AskPerson("a", "unknown")]


def test_questions_stand_after_a_restart() -> None:
    run, effects = _begun(
        _task("a", on_failure="replan"),
        _task("ask", tool="approval"),
        after=(TaskStarted("a"), TaskFailed("a", "upstream_error")),
    )
    assert effects == [AskPerson("ask", "approval"), Replan("a")]
    assert run.state == "running"


def test_a_run_that_was_over_is_over() -> None:
    _, effects = _begun(_task("a"), after=(TaskStarted("a"), TaskDone("a", 1)))
    assert effects == [Finish("done")]
    _, effects = _begun(_task("a"), after=(TaskStarted("a"), Stopped("cancelled")))
    assert effects == [Finish("cancelled")]


def test_a_longer_path_that_came_later_goes_first() -> None:
    run, effects = _begun(_task("busy"), _task("a", estimate_s=2.0), _task("b"), limits=RunLimits(running=1))
    assert _started(effects) == ["a"]
    run.take(Planned((_task("after", "b", estimate_s=5.0),)))
    assert _started(run.take(TaskDone("a"))) == ["b"]


def test_a_key_that_the_plan_gives_is_kept() -> None:
    _, effects = _begun(_task("a", idempotency_key="order-7"))
    assert effects == [Start(_task("a", idempotency_key="order-7"), 1, "order-7")]


def test_a_call_that_a_person_must_agree_to_is_held_and_then_brings_the_word() -> None:
    held = Held("w", "digest")
    run, _ = _begun(_task("w", tool="write"))
    assert run.take(held) == [AskPerson("w", "confirmation")]
    assert run.take(Approval("w", "approved")) == [Start(_task("w", tool="write"), 2, "r1:w", confirmation="digest")]
    _, effects = _begun(_task("w", tool="write"), after=(TaskStarted("w"), held))
    assert effects == [AskPerson("w", "confirmation")]
    _, effects = _begun(_task("w", tool="write"), after=(TaskStarted("w"), held, Approval("w", "approved")))
    assert effects == [Start(_task("w", tool="write"), 2, "r1:w", confirmation="digest")]
