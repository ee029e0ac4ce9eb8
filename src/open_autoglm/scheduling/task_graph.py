"""The tasks of one run and what each waits for; it grows while the run goes on, and never shrinks.

Invariants: ids are unique; what a task needs is in the graph, no later than the task itself, so no cycle can come
from a later addition; an addition is taken whole or not at all.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import msgspec

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.references import ID, needed
from open_autoglm.scheduling.task import Task

APPROVAL = "approval"
MODEL_PREFIX = "model:"


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """How large a graph may become.

    Attributes:
        tasks: most tasks, over all additions.
        needs: most tasks that one task waits for.
        task_bytes: longest task, bytes of JSON; arguments are most of it.
        retries: most retries of one task.
        timeout_s: longest time of one try, seconds.
    """

    tasks: int = 1_000
    needs: int = 100
    task_bytes: int = 256 * 1024
    retries: int = 10
    timeout_s: float = 86_400.0


class TaskGraph:
    """See the module.

    Args:
        tools: names that tasks may use, besides `approval` and `model:…`; None when they are checked elsewhere.
        models: names that may follow `model:`; None when they are checked elsewhere.
        limits: how large it may become.

    Attributes:
        tasks: by id, each after what it needs.
        needs: by id, the ids that must be settled before the task may run, without repetition.
        dependants: by id, the ids that need it.
        path_s: by id, seconds of the longest chain of estimates from the task's start to the end of the graph.
    """

    def __init__(
        self,
        *,
        tools: Collection[str] | None = None,
        models: Collection[str] | None = None,
        limits: GraphLimits | None = None,
    ) -> None:
        self._tools = tools
        self._models = models
        self._limits = limits or GraphLimits()
        self._place: dict[str, int] = {}
        self.tasks: dict[str, Task] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.dependants: dict[str, list[str]] = {}
        self.path_s: dict[str, float] = {}

    def add(self, tasks: Sequence[Task]) -> None:
        """Add tasks; they may need each other and those that are there, in any order.

        Raises:
            RequestError: a task is wrong, or the graph too large; `param` says where. Nothing was added.
        """
        if len(self.tasks) + len(tasks) > self._limits.tasks:
            raise RequestError(
                "invalid_request",
                f"the graph would have {len(self.tasks) + len(tasks)} tasks; {self._limits.tasks} are the most",
                param="tasks",
            )
        coming: dict[str, Task] = {}
        for place, task in enumerate(tasks):
            self._check(task, f"tasks[{place}]")
            if task.id in self.tasks or task.id in coming:
                raise _wrong(f"tasks[{place}].id", f"the id {task.id!r} is taken; give each task its own")
            coming[task.id] = task
        needs = {task.id: self._needs(task, coming, f"tasks[{place}]") for place, task in enumerate(tasks)}
        order = _order(needs, coming)
        for task_id in order:
            self._place[task_id] = len(self._place)
            self.tasks[task_id] = coming[task_id]
            self.needs[task_id] = needs[task_id]
            self.dependants[task_id] = []
            for need in needs[task_id]:
                self.dependants[need].append(task_id)
        self._lengthen(order)

    def _check(self, task: Task, where: str) -> None:
        limits = self._limits
        if not ID.fullmatch(task.id):
            raise _wrong(f"{where}.id", f"{task.id[:80]!r} is no id; write 1 to 64 letters, digits, '_' and '-'")
        self._check_tool(task.tool, f"{where}.tool")
        if not 0 <= task.retries <= limits.retries:
            raise _wrong(f"{where}.retries", f"{task.retries} is out of range; write 0 to {limits.retries}")
        if not 0 <= task.timeout_s <= limits.timeout_s:
            raise _wrong(f"{where}.timeout_s", f"{task.timeout_s} is out of range; write 0 to {limits.timeout_s:g}")
        if not 0 <= task.estimate_s <= limits.timeout_s:
            raise _wrong(f"{where}.estimate_s", f"{task.estimate_s} is out of range; write 0 to {limits.timeout_s:g}")
        size = len(msgspec.json.encode(task))
        if size > limits.task_bytes:
            raise _wrong(where, f"the task takes {size} bytes; {limits.task_bytes} are the most")

    def _check_tool(self, tool: str, where: str) -> None:
        if tool == APPROVAL:
            return
        known, name = self._tools, tool
        if tool.startswith(MODEL_PREFIX):
            known, name = self._models, tool.removeprefix(MODEL_PREFIX)
        if not name or len(name) > 200:
            raise _wrong(where, f"{tool[:80]!r} names nothing that could be called")
        if known is not None and name not in known:
            there = ", ".join(sorted(known)[:20]) or "none"
            raise _wrong(where, f"there is no {tool!r}; there are: {there}")

    def _needs(self, task: Task, coming: Collection[str], where: str) -> tuple[str, ...]:
        needs = tuple(dict.fromkeys((*task.depends_on, *needed(task.args))))
        if len(needs) > self._limits.needs:
            raise _wrong(f"{where}.depends_on", f"it waits for {len(needs)} tasks; {self._limits.needs} are the most")
        for need in needs:
            if need not in self.tasks and need not in coming:
                dollar = "" if need in task.depends_on else "; write `$$` where a dollar sign is meant"
                raise _wrong(where, f"task {task.id!r} needs {need[:80]!r}, which is not in the graph{dollar}")
        return needs

    def _lengthen(self, added: list[str]) -> None:
        """Set the paths of what was added, and lengthen those that lead to it: each task once, the last ones first."""
        heap = [-self._place[task_id] for task_id in added]
        heapq.heapify(heap)
        names = list(self.tasks)
        seen = -1
        while heap:
            place = -heapq.heappop(heap)
            if place == seen:
                continue
            seen = place
            current = names[place]
            after = max((self.path_s[later] for later in self.dependants[current]), default=0.0)
            length = self.tasks[current].estimate_s + after
            if length > self.path_s.get(current, -1.0):
                self.path_s[current] = length
                for need in self.needs[current]:
                    heapq.heappush(heap, -self._place[need])


def _order(needs: dict[str, tuple[str, ...]], coming: Collection[str]) -> list[str]:
    sorter = TopologicalSorter({task: [need for need in found if need in coming] for task, found in needs.items()})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        cycle: list[str] = error.args[1]
        way = " -> ".join(reversed(cycle[:20]))
        raise _wrong("tasks", f"the tasks wait for each other in a circle: {way}") from error


def _wrong(where: str, message: str) -> RequestError:
    return RequestError("invalid_request", f"{where}: {message}", param=where)
