"""Lets the tasks of a new plan into a run: in an order in which they can go on, and none that succeeded before.

A planner that is asked again begins to count anew, and repeats what it said: a task whose tool and arguments are those
of one that succeeded is that one, and is not run again; one whose id is taken gets another. An id
means this plan's task where that was written before, else an earlier plan's that succeeded, else one that is still to
come: until then a task that needs it is held back.

Invariants: ids that come out are unique in the run; what a task needs came out before it, or has succeeded; no task
that comes out has the tool and the arguments of one that succeeded in an earlier plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import count

import msgspec

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.references import needed, rename
from open_autoglm.scheduling.task import Task

_ID_CHARS_MAX = 56
"""Of an id that is to get a number behind it; ids have 64 at most."""


class PlanAdmission:
    """The admission of one plan.

    Args:
        succeeded: tasks of earlier plans, as they came out, that have a result.
        used: ids that were given before, those of `succeeded` too.
        check: raises a RequestError for a task that cannot be run; it is told each before it comes out.
    """

    def __init__(self, succeeded: Collection[Task], used: Collection[str], check: Callable[[Task], None]) -> None:
        self._check = check
        self._used = set(used)
        self._done = {work_of(task): task.id for task in succeeded}
        self._earlier = {task.id for task in succeeded}
        self._names: dict[str, str] = {}  # this plan's ids -> ids of the run
        self._held: dict[str, tuple[Task, tuple[str, ...]]] = {}

    def take(self, task: Task) -> Iterator[Task]:
        """Take the plan's next task; give those that can be added to the run now, in this order.

        Raises:
            RequestError: its id is taken in this plan, a reference is malformed, or `check` refused it.
        """
        if task.id in self._names or task.id in self._held:
            raise RequestError("invalid_request", f"two tasks have the id {task.id!r}; give each its own")
        if task.id in (needs := tuple(dict.fromkeys((*task.depends_on, *needed(task.args))))):
            raise RequestError("invalid_request", f"task {task.id!r} needs itself")
        self._held[task.id] = task, needs
        while ready := next((each for each, waits in self._held.values() if self._is_known(waits)), None):
            del self._held[ready.id]
            yield from self._admit(ready)

    def close(self) -> None:
        """Say that the plan is complete.

        Raises:
            RequestError: tasks are left that need what is not there, or each other.
        """
        for task, needs in self._held.values():
            for need in needs:
                if need not in self._held and not self._is_known((need,)):
                    raise RequestError(
                        "invalid_request",
                        f"task {task.id!r} needs {need!r}, which is not in the plan; write `$$` for a dollar sign",
                    )
        if self._held:
            raise RequestError(
                "invalid_request", f"the tasks wait for each other in a circle: {' -> '.join(self._circle())}"
            )

    def _is_known(self, needs: tuple[str, ...]) -> bool:
        return all(need in self._names or (need in self._earlier and need not in self._held) for need in needs)

    def _admit(self, task: Task) -> Iterator[Task]:
        args = rename(task.args, self._names)
        work = work_of(msgspec.structs.replace(task, args=args))
        if (before := self._done.get(work)) is not None:
            self._names[task.id] = before
            return
        name = task.id
        if name in self._used:
            name = next(each for at in count(2) if (each := f"{task.id[:_ID_CHARS_MAX]}-{at}") not in self._used)
        admitted = msgspec.structs.replace(
            task, id=name, args=args, depends_on=tuple(self._names.get(need, need) for need in task.depends_on)
        )
        self._check(admitted)
        self._used.add(name)
        self._names[task.id] = name
        yield admitted

    def _circle(self) -> list[str]:
        """One circle among those that are held; each needs another one of them."""
        way = [next(iter(self._held))]
        while (following := next(need for need in self._held[way[-1]][1] if need in self._held)) not in way:
            way.append(following)
        return [*way[way.index(following) :], following]


def work_of(task: Task) -> bytes:
    """What a task does: the same for tasks that do the same, however their references are written."""
    return msgspec.json.encode((task.tool, rename(task.args, {})), order="deterministic")
