"""One run of a task graph as data flow: a task starts when what it needs is settled, whatever else is going on.

| a task is | until |
|---|---|
| `waiting` | all that it needs is settled |
| `ready` | there is room for its tool |
| `running` | its try ends |
| `asking` | a person gives word, see `Question` |
| `done`, `skipped`, `fallback` | for ever; its result is there for others: its own, null, the task's `fallback` |
| `failed`, `stopped`, `cancelled` | for ever; failed itself, needs one that failed, or the run was stopped |
| `replaced` | for ever; failed or stopped, and the planner gave other tasks in its place |

Invariants: a settled task is never performed again; a failure reaches those that need the task and no others; every
task is settled in the end, so no run hangs; the same events give the same states, in whatever order tries end.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

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
from open_autoglm.scheduling.task_graph import APPROVAL, TaskGraph

TaskState = Literal[
    "waiting",
    "ready",
    "running",
    "asking",
    "done",
    "skipped",
    "fallback",
    "failed",
    "stopped",
    "cancelled",
    "replaced",
]
Question = Literal["approval", "confirmation", "unknown"]
"""What a person is asked: the step itself is the question; whether to make this very call of a dangerous tool; whether
to repeat a step that may have taken effect already."""
RunState = Literal["running", "waiting", "done", "failed", "cancelled", "budget_exhausted"]
"""`waiting`: nothing goes on before a person gives word. Those behind it are for ever."""
BUDGET_EXHAUSTED: Final = "budget_exhausted"
"""The reason for which a run is stopped that may spend no more, and its state then."""

_SETTLED = frozenset({"done", "skipped", "fallback", "failed", "stopped", "cancelled", "replaced"})
_WITH_RESULT = frozenset({"done", "skipped", "fallback"})
_BACKOFF_S = 0.1
_BACKOFF_MAX_S = 30.0
CRASHES_MAX = 3
"""Tries of one task that end with the process itself, before a person is asked: it may be what kills the process."""


@dataclass(frozen=True, slots=True)
class Start:
    """Perform a task.

    Attributes:
        task: what to do; references in its arguments are still to be resolved from `results`.
        attempt: from 1.
        key: idempotency key, the same for every try.
        wait_s: wait so long first.
        confirmation: what the call must bring because a person agreed to it; empty when nobody was asked.
    """

    task: Task
    attempt: int
    key: str
    wait_s: float = 0.0
    confirmation: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the try that is going on; nothing it says counts any more."""

    task: str


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Have a person give word; the answer is an `Approval`."""

    task: str
    why: Question


@dataclass(frozen=True, slots=True)
class Replan:
    """Ask the planner for other tasks in a failed one's place; the answer is a `Planned`, without tasks too."""

    task: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    state: RunState


Effect = Start | Cancel | AskPerson | Replan | Finish


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How much of a run goes on at once.

    Attributes:
        running: most tasks.
        per_tool: most tasks of a tool, by its name; those not named are bounded by `running` alone.
        replans: how often the planner is asked again.
    """

    running: int = 16
    per_tool: Mapping[str, int] = field(default_factory=dict)
    replans: int = 2


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable word, and a sentence for people."""

    code: str
    message: str


class GraphRun:
    """See the module. Take what the journal holds, if anything, then `begin`; then take what happens.

    Args:
        run_id: part of the idempotency keys.
        graph: empty; the run fills it.
        limits: how much goes on at once.
        repeatable: whether a try of the task that may have taken effect may be made again without asking.

    Attributes:
        graph: the tasks.
        states: by id.
        results: by id, JSON values of those that are done, skipped or fell back.
        errors: by id, of those that failed, skipped and replaced ones too.
        asking: by id, what a person is asked.
        more: whether the plan goes on; take a `Planned` that says so before `begin` where the plan comes in parts. If a
            journal's last word is that it goes on, its rest is lost with the process that made it.
        stop_reason: why the run was stopped; empty when it was not.
    """

    def __init__(self, run_id: str, graph: TaskGraph, *, limits: RunLimits, repeatable: Callable[[Task], bool]) -> None:
        self.graph = graph
        self.states: dict[str, TaskState] = {}
        self.results: dict[str, Any] = {}
        self.errors: dict[str, TaskError] = {}
        self.asking: dict[str, Question] = {}
        self.stop_reason = ""
        self.more = False
        self._run_id = run_id
        self._limits = limits
        self._repeatable = repeatable
        self._missing: dict[str, int] = {}
        self._tries: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._unended: Counter[str] = Counter()
        self._ready: dict[str, list[tuple[int, float, int, str]]] = {}
        self._busy: Counter[str] = Counter()
        self._confirmations: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._unsettled = 0
        self._replans: dict[str, bool] = {}
        self._began = False
        self._held = False
        self._finished: RunState | None = None
        self._effects: list[Effect] = []

    @property
    def state(self) -> RunState:
        """What the run is doing."""
        if self._finished is not None:
            return self._finished
        return "waiting" if self._waits_for_person() else "running"

    def begin(self) -> list[Effect]:
        """Go on from what was taken so far."""
        self._began = True
        for task_id, state in list(self.states.items()):
            if state == "running":
                self._repeat(task_id)
        self._effects += [AskPerson(task_id, why) for task_id, why in self.asking.items()]
        self._effects += [Replan(task_id) for task_id, unanswered in self._replans.items() if unanswered]
        return self._flush()

    def hold(self) -> None:
        """Start nothing more; what runs may end."""
        self._held = True

    def take(self, event: RunEvent) -> list[Effect]:
        """Take what happened; what is said of a task that is not waiting for it changes nothing.

        A `TaskStarted` tells nothing that `Start` did not, so only a journal's are taken, before `begin`.

        Raises:
            RequestError: tasks cannot be added to this graph; nothing has changed.
        """
        match event:
            case Planned():
                self._plan(event)
            case Stopped():
                self._stop(event.reason)
            case _ if self.states.get(event.task, "done") in _SETTLED:
                pass
            case TaskStarted() if not self._began:
                self._tries[event.task] = max(self._tries[event.task], event.attempt)
                self._unended[event.task] += 1
                self.states[event.task] = "running"
            case TaskDone() if self.states[event.task] == "running":
                self._settle(event.task, "done", event.result)
            case TaskFailed() if self.states[event.task] == "running":
                self._fail(event)
            case Held() if self.states[event.task] == "running":
                self._confirmations[event.task] = event.confirmation
                self._ask(event.task, "confirmation")
            case Approval():
                self._hear(event)
            case _:
                pass
        return self._flush() if self._began else []

    def _plan(self, event: Planned) -> None:
        if self._finished is not None or self.stop_reason:
            return
        self.graph.add(event.tasks)
        self.more = event.more
        for task in event.tasks:
            self.states[task.id] = "waiting"
            self._places[task.id] = len(self._places)
        self._unsettled += len(event.tasks)
        if self._replans.get(event.answers):
            self._replans[event.answers] = False
            if event.tasks:
                self._replace(event.answers)
        for task in event.tasks:
            self._missing[task.id] = sum(self.states[need] not in _WITH_RESULT for need in self.graph.needs[task.id])
        for task in event.tasks:
            if any(self.states[need] in ("failed", "stopped", "replaced") for need in self.graph.needs[task.id]):
                self._stop_branch(task.id)
            elif self.states[task.id] == "waiting" and not self._missing[task.id]:
                self._make_ready(task.id)
        self._sort_ready()

    def _replace(self, task_id: str) -> None:
        """Mark a failed task, and those that were stopped for it, as replaced."""
        open_ids = [task_id]
        while open_ids:
            current = open_ids.pop()
            if self.states[current] in ("failed", "stopped"):
                self.states[current] = "replaced"
                open_ids += self.graph.dependants[current]

    def _settle(self, task_id: str, state: TaskState, result: Any) -> None:
        self._leave(task_id, state)
        self.results[task_id] = result
        for later in self.graph.dependants[task_id]:
            self._missing[later] -= 1
            if not self._missing[later] and self.states[later] == "waiting":
                self._make_ready(later)

    def _leave(self, task_id: str, state: TaskState) -> None:
        """Settle a task; free its place."""
        self._free(task_id)
        self.asking.pop(task_id, None)
        self.states[task_id] = state
        self._unsettled -= 1

    def _free(self, task_id: str) -> None:
        if self._began and self.states[task_id] == "running":
            self._busy[self.graph.tasks[task_id].tool] -= 1
            self._busy[""] -= 1

    def _fail(self, event: TaskFailed) -> None:
        task = self.graph.tasks[event.task]
        self._failures[task.id] += 1
        self._unended[task.id] = 0
        self.errors[task.id] = TaskError(event.code, event.message)
        if event.unclear and not self._repeatable(task):
            self._ask(task.id, "unknown")
        elif event.again and self._failures[task.id] <= task.retries:
            self._free(task.id)
            self._make_ready(task.id)
        else:
            self._give_up(task)

    def _give_up(self, task: Task) -> None:
        match task.on_failure:
            case "skip":
                self._settle(task.id, "skipped", None)
            case "fallback":
                self._settle(task.id, "fallback", task.fallback)
            case "replan" if len(self._replans) < self._limits.replans:
                self._leave(task.id, "failed")
                self._stop_dependants(task.id)
                self._replans[task.id] = True
                if self._began:
                    self._effects.append(Replan(task.id))
            case _:
                self._leave(task.id, "failed")
                self._stop_dependants(task.id)

    def _stop_dependants(self, task_id: str) -> None:
        for later in self.graph.dependants[task_id]:
            self._stop_branch(later)

    def _stop_branch(self, task_id: str) -> None:
        open_ids = [task_id]
        while open_ids:
            current = open_ids.pop()
            if self.states[current] not in _SETTLED:
                self._leave(current, "stopped")
                open_ids += self.graph.dependants[current]

    def _hear(self, event: Approval) -> None:
        task = self.graph.tasks[event.task]
        if self._began and event.task not in self.asking:
            return
        if event.word == "refused":
            self.errors[task.id] = TaskError("refused", f"refused by {event.by or 'a person'}: {event.note}")
            self._give_up(task)
        elif task.tool == APPROVAL or event.word == "done":  # what a person did by hand has this result
            self._settle(task.id, "done", {"word": event.word, "by": event.by, "note": event.note})
        else:
            self.asking.pop(task.id, None)
            self._unended[task.id] = 0
            self._make_ready(task.id)

    def _repeat(self, task_id: str) -> None:
        """Decide on a try that was going on when the process ended."""
        if self._repeatable(self.graph.tasks[task_id]) and self._unended[task_id] <= CRASHES_MAX:
            self._make_ready(task_id)
        else:
            self.states[task_id] = "asking"
            self.asking[task_id] = "unknown"

    def _ask(self, task_id: str, why: Question) -> None:
        self._free(task_id)
        self.states[task_id] = "asking"
        self.asking[task_id] = why
        if self._began:
            self._effects.append(AskPerson(task_id, why))

    def _stop(self, reason: str) -> None:
        if self._finished is not None:
            return
        self.stop_reason = reason
        for task_id, state in self.states.items():
            if state not in _SETTLED:
                if state == "running" and self._began:
                    self._effects.append(Cancel(task_id))
                self._leave(task_id, "cancelled")
        self.more = False
        self._replans = dict.fromkeys(self._replans, False)

    def _make_ready(self, task_id: str) -> None:
        task = self.graph.tasks[task_id]
        if task.tool == APPROVAL:
            self._ask(task_id, "approval")
            return
        self.states[task_id] = "ready"
        queue = task.tool if task.tool in self._limits.per_tool else ""
        heapq.heappush(self._ready.setdefault(queue, []), self._rank(task))

    def _rank(self, task: Task) -> tuple[int, float, int, str]:
        """Order among the ready. All tasks of a run share its deadline, so the longest path has the least slack."""
        return -task.priority, -self.graph.path_s[task.id], self._places[task.id], task.id

    def _sort_ready(self) -> None:
        """Rank anew what is ready: an addition may have lengthened its path."""
        for queue, entries in self._ready.items():
            ranked = [self._rank(self.graph.tasks[entry[3]]) for entry in entries if self.states[entry[3]] == "ready"]
            heapq.heapify(ranked)
            self._ready[queue] = ranked

    def _next(self) -> Task | None:
        """Take the first ready task that there is room for."""
        best: list[tuple[int, float, int, str]] | None = None
        for queue, entries in self._ready.items():
            while entries and self.states[entries[0][3]] != "ready":
                heapq.heappop(entries)
            if not entries or (queue and self._busy[queue] >= self._limits.per_tool[queue]):
                continue
            if best is None or entries[0] < best[0]:
                best = entries
        return None if best is None else self.graph.tasks[heapq.heappop(best)[3]]

    def _flush(self) -> list[Effect]:
        """Start what there is room for, and hand out what is to be done."""
        while not self._held and self._busy[""] < self._limits.running and (task := self._next()) is not None:
            self.states[task.id] = "running"
            self._busy[task.tool] += 1
            self._busy[""] += 1
            self._tries[task.id] += 1
            key = task.idempotency_key or f"{self._run_id}:{task.id}"
            wait_s = _backoff_s(self._failures[task.id])
            confirmation = self._confirmations.get(task.id, "")
            self._effects.append(Start(task, self._tries[task.id], key, wait_s, confirmation))
        if self._finished is None and not self._unsettled and not self.more and not any(self._replans.values()):
            self._finished = self._outcome()
            self._effects.append(Finish(self._finished))
        effects, self._effects = self._effects, []
        return effects

    def _outcome(self) -> RunState:
        if self.stop_reason:
            return "budget_exhausted" if self.stop_reason == BUDGET_EXHAUSTED else "cancelled"
        return "failed" if any(state in ("failed", "stopped") for state in self.states.values()) else "done"

    def _waits_for_person(self) -> bool:
        if not self.asking or self._busy[""] or self.more or any(self._replans.values()):
            return False
        return not (self._held and "ready" in self.states.values())  # these go on with whoever drives the run next


def _backoff_s(failures: int) -> float:
    return min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (failures - 1)) if failures else 0.0
