"""What a plan's run has to say at any moment, and which tasks each part of it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from open_autoglm.cooperation.team_run import Outcome
from open_autoglm.scheduling.references import ReferenceProblem, as_text, fill, needed
from open_autoglm.scheduling.task import Task


class Source(Struct, frozen=True):
    """A task that an answer comes from.

    Attributes:
        task: its id.
        tool: what was called.
        needs: ids of the tasks whose results it used; they are sources too.
        final: whether the answer shows its result, and not only what others made of it.
    """

    task: str
    tool: str
    needs: tuple[str, ...]
    final: bool


class PlanOutcome(Outcome, frozen=True):
    """How the run of a plan ended. Its decision's reason is `answered`; or what there was so far is the answer, since
    `budget_exhausted`, `deadline`, or `incomplete`: something failed and the planner had no further try.

    Attributes:
        sources: of the answer, in the order of the plans.
        plans: how often the planner was asked.
    """

    sources: tuple[Source, ...] = ()
    plans: int = 0


class Results:
    """Tasks that succeeded, over all plans of one run.

    Attributes:
        tasks: by id, in the order of their succeeding.
        values: by id, their results.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.values: dict[str, Any] = {}
        self._places: dict[str, int] = {}

    def expect(self, task: Task) -> None:
        """Note a task that is to be run: answers follow the order of the plans, not of what happens to be faster."""
        self._places[task.id] = len(self._places)

    def add(self, task: Task, value: Any) -> None:
        """Take a task that succeeded."""
        self.tasks[task.id] = task
        self.values[task.id] = value

    def last(self) -> tuple[str, ...]:
        """Ids of those that no other one needs: what the plan was made for."""
        used = {need for task in self.tasks.values() for need in _needs(task)}
        return tuple(sorted(self.tasks.keys() - used, key=self._places.__getitem__))

    def lines(self) -> dict[str, str]:
        """The last results as an answer, by task: one alone as it is, of several each with what it is."""
        last = self.last()
        if len(last) == 1:
            return {last[0]: as_text(self.values[last[0]])}
        return {task: f"{self._as_call(self.tasks[task])}: {as_text(self.values[task])}" for task in last}

    def sources(self, final: tuple[str, ...]) -> tuple[Source, ...]:
        """The tasks `final`, and all that they need, in the order of the plans."""
        wanted: set[str] = set()
        open_ids = list(final)
        while open_ids:
            if (task := open_ids.pop()) not in wanted and task in self.tasks:
                wanted.add(task)
                open_ids += _needs(self.tasks[task])
        return tuple(
            Source(name, task.tool, tuple(sorted(_needs(task) & wanted)), name in final)
            for name in sorted(wanted, key=self._places.__getitem__)
            for task in (self.tasks[name],)
        )

    def _as_call(self, task: Task) -> str:
        try:
            args = fill(task.args, self.values)
        except ReferenceProblem:  # of a task that was skipped
            args = task.args
        return f"{task.tool}({', '.join(as_text(value) for value in args.values())})"


def told(task: Task) -> Mapping[str, Any]:
    """What events say of a task: no arguments, which may hold what the client wrote."""
    return {"id": task.id, "tool": task.tool, "depends_on": sorted(_needs(task))}


def _needs(task: Task) -> set[str]:
    return {*task.depends_on, *needed(task.args)}
