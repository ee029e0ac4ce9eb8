"""Random graphs under random ends, orders, failures and restarts."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.scheduling.graph_run import AskPerson, Finish, GraphRun, Replan, RunLimits, Start
from open_autoglm.scheduling.run_event import Approval, Planned, RunEvent, TaskDone, TaskFailed, TaskStarted
from open_autoglm.scheduling.task import OnFailure, Task
from open_autoglm.scheduling.task_graph import TaskGraph

POLICIES: tuple[OnFailure, ...] = ("stop_dependants", "skip", "fallback", "replan")


def _tasks(rng: random.Random, count: int) -> list[Task]:
    return [
        Task(
            f"t{n}",
            rng.choice(("read", "web", "write", "approval")),
            depends_on=tuple({f"t{rng.randrange(n)}" for _ in range(rng.randrange(4)) if n}),
            priority=rng.randrange(3),
            estimate_s=rng.random(),
            retries=rng.randrange(3),
            on_failure=rng.choice(POLICIES),
            fallback=n,
        )
        for n in range(count)
    ]


class World:
    """Performs a run's effects, in an order drawn by `rng`, and may restart it from its journal at any moment.

    Whether a task fails depends on `fate` and its id alone, so runs of other orders can be compared.
    """

    def __init__(self, seed: int, fate: int, tasks: list[Task], restarts: bool) -> None:
        self.rng = random.Random(seed)
        self.fate = fate
        self.journal: list[RunEvent] = [Planned(tuple(tasks))]
        self.restarts = restarts
        self.finished: list[str] = []
        self.done: set[str] = set()
        self.running: dict[str, Start] = {}
        self.open: list[tuple[str, str]] = []
        self._restart()

    def _restart(self) -> None:
        limits = RunLimits(running=self.rng.randrange(1, 5), per_tool={"web": 1}, replans=2)
        self.run = GraphRun("r", TaskGraph(), limits=limits, repeatable=lambda task: task.tool != "write")
        self.limits = limits
        self.running.clear()
        self.open.clear()
        for event in self.journal:
            assert self.run.take(event) == []
        self._do(self.run.begin())

    def _do(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Start():
                    assert effect.task.id not in self.done, "a settled task is performed again"
                    assert effect.task.id not in self.running
                    self.journal.append(TaskStarted(effect.task.id, effect.attempt))
                    self.running[effect.task.id] = effect
                case AskPerson() | Replan():
                    self.open.append((type(effect).__name__, effect.task))
                case Finish():
                    self.finished.append(effect.state)
        assert len(self.running) <= self.limits.running
        assert sum(start.task.tool == "web" for start in self.running.values()) <= 1

    def _end_of(self, start: Start) -> RunEvent:
        task = start.task
        draw = random.Random(f"{self.fate}:{task.id}").random()
        if draw < 0.15:
            return TaskFailed(task.id, "invalid_request")
        if draw < 0.3 and task.tool != "write":
            return TaskFailed(task.id, "overloaded", again=True)
        return TaskDone(
            task.id, f"{task.id}={[self.run.results[need] for need in sorted(self.run.graph.needs[task.id])]}"
        )

    def play(self) -> GraphRun:
        for _ in range(2000):
            if self.run.state in ("done", "failed", "cancelled"):
                return self.run
            assert self.running or self.open, f"nothing goes on, and the run is {self.run.state}"
            if self.restarts and self.rng.random() < 0.05:
                self._restart()
                continue
            choices: list[str] = [*self.running, *(["open"] if self.open else [])]
            chosen = self.rng.choice(choices)
            if chosen == "open":
                self._answer(*self.open.pop(self.rng.randrange(len(self.open))))
            else:
                event = self._end_of(self.running.pop(chosen))
                if isinstance(event, TaskDone):
                    self.done.add(chosen)
                self._take(event)
        raise AssertionError("the run does not end")

    def _answer(self, kind: str, task: str) -> None:
        if kind == "Replan":
            again = (Task(f"{task}-again", "read"),) if random.Random(f"{self.fate}:{task}:plan").random() < 0.5 else ()
            self._take(Planned(again, answers=task))
        else:
            self._take(Approval(task, "approved"))

    def _take(self, event: RunEvent) -> None:
        self.journal.append(event)
        self._do(self.run.take(event))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 30))
def test_the_order_of_ends_does_not_change_the_results(graph: int, one: int, other: int, count: int) -> None:
    tasks = _tasks(random.Random(graph), count)
    tasks = [task for task in tasks if task.on_failure != "replan"]  # which failures are the first two is order's
    known = {task.id for task in tasks}
    tasks = [Task(t.id, t.tool, depends_on=tuple(n for n in t.depends_on if n in known), on_failure=t.on_failure,
                  fallback=t.fallback, retries=t.retries) for t in tasks]  # fmt: skip
    first, second = World(one, graph, tasks, restarts=False), World(other, graph, tasks, restarts=False)
    a, b = first.play(), second.play()
    assert (a.states, a.results, a.errors, a.state) == (b.states, b.results, b.errors, b.state)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 30))
def test_every_run_ends_once_and_performs_what_it_settled_once(graph: int, seed: int, count: int) -> None:
    world = World(seed, graph, _tasks(random.Random(graph), count), restarts=True)
    run = world.play()
    assert len(run.states) >= count
    assert world.finished.count(run.state) >= 1
    assert set(run.states.values()) <= {"done", "skipped", "fallback", "failed", "stopped", "replaced"}
    for task_id, state in run.states.items():
        assert (task_id in run.results) == (state in ("done", "skipped", "fallback"))
        if state == "stopped":
            assert any(run.states[need] in ("failed", "stopped", "replaced") for need in run.graph.needs[task_id])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 30))
def test_restarts_change_no_result(graph: int, seed: int, count: int) -> None:
    tasks = [
        Task(t.id, "read", depends_on=t.depends_on, on_failure="skip") for t in _tasks(random.Random(graph), count)
    ]
    plain = World(seed, graph, tasks, restarts=False).play()
    restarted = World(seed, graph, tasks, restarts=True)
    assert restarted.play().results == plain.results
