"""The course of a run that plans: what it does next, by what has happened so far.

| when | it goes on with |
|---|---|
| budget or time is at its end | the answer: the best so far |
| a task failed, the plan was wrong, or the aggregator misses something | a plan, as long as there are replans left |
| all tasks of a plan are settled | join: the aggregator, or the rule, makes the answer |

Invariants: pure, so the same facts in the same order make the same course, which is how a run is repeated from its
record (`plan_replay`); a task that succeeded is not run again, nor is one that failed and may have taken effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Literal

from open_autoglm.cooperation.plan_outcome import Results
from open_autoglm.errors import RequestError
from open_autoglm.scheduling.graph_run import GraphRun, RunLimits
from open_autoglm.scheduling.plan_admission import PlanAdmission, work_of
from open_autoglm.scheduling.run_event import Planned, RunEvent, TaskDone, TaskFailed, TaskStarted
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.voting.candidate import Decision

Next = Literal["plan", "join", "answered", "incomplete", "budget_exhausted", "deadline"]
"""What comes next: the first two are to be done, the others are ends, see `plan_outcome.PlanOutcome`."""


class PlanCourse:
    """See the module. For each plan: `begin`, `let_in` and `take` as things come, `planned`, `settle`; then `join`.

    Args:
        run_id: part of the tools' idempotency keys.
        replans: how often the planner is asked again.
        joins: whether there is an aggregator.
        changing: names of the tools that change something.

    Attributes:
        next: see `Next`.
        results: of tasks that succeeded.
        machine: of the plan that is under way, or was the last.
        plans: how many were begun.
        problem: what is wrong with the plan; empty when nothing is.
        failed, codes: tasks of the last plan that failed, with what was said of it, and the errors' codes.
        why: what the planner is asked again for; empty at first.
        exhausted: whether the budget is at its end; set from outside.
    """

    def __init__(self, run_id: str, replans: int, *, joins: bool, changing: Collection[str]) -> None:
        self.next: Next = "plan"
        self.results = Results()
        self.plans = 0
        self.problem = ""
        self.failed: list[tuple[Task, str]] = []
        self.codes: list[str] = []
        self.why = ""
        self.exhausted = False
        self._run_id = run_id
        self._replans = replans
        self._joins = joins
        self._changing = changing
        self._used: set[str] = set()
        self._unclear: set[bytes] = set()  # what tasks do that may have taken effect although they failed
        self._written = 0
        self.machine = self._machine()
        self._admission = PlanAdmission((), (), self.expect)

    @property
    def may_replan(self) -> bool:
        """Whether the planner may be asked again."""
        return self.plans <= self._replans

    @property
    def asks_aggregator(self) -> bool:
        """Whether a model is to write the answer."""
        return self._joins and bool(self.results.tasks)

    # A plan.

    def begin(self, check: Callable[[Task], None]) -> None:
        """The next plan begins.

        Args:
            check: is told each task before it is let in; raises where it cannot be run, else calls `expect`.
        """
        self.plans += 1
        self.problem = ""
        self._written = 0
        self.machine = self._machine()
        self._admission = PlanAdmission(self.results.tasks.values(), self._used, check)

    def let_in(self, task: Task) -> Iterator[Task]:
        """Take the plan's next task; give those that can be added to the machine now.

        Raises:
            RequestError: it is wrong, and with it the plan.
        """
        self._written += 1
        try:
            yield from self._admission.take(task)
        except RequestError as error:
            self.problem = error.message
            raise

    def allow(self, task: Task) -> None:
        """Refuse what may have taken effect already.

        Raises:
            RequestError: it may.
        """
        if work_of(task) in self._unclear:
            message = f"task {task.id!r} was tried, and may have taken effect; it is not repeated"
            raise RequestError("invalid_request", message)

    def expect(self, task: Task) -> None:
        """A task is let in."""
        self._used.add(task.id)
        self.results.expect(task)

    def complete(self) -> None:
        """The plan was written to its end.

        Raises:
            RequestError: tasks are left that cannot be let in; the plan is wrong.
        """
        try:
            self._admission.close()
        except RequestError as error:
            self.problem = error.message
            raise

    def planned(self, problem: str) -> None:
        """No more of the plan comes; `problem`: what went wrong, unless it was seen here; empty for nothing."""
        self.problem = self.problem or problem or ("" if self._written else "the plan has no tasks")

    def take(self, event: RunEvent) -> None:
        """Note what the machine has taken."""
        match event:
            case TaskDone(task=task, result=result):
                self.results.add(self.machine.graph.tasks[task], result)
            case TaskFailed(task=task, unclear=True) if self.machine.graph.tasks[task].tool in self._changing:
                self._unclear.add(work_of(self.machine.graph.tasks[task]))

    def settle(self, *, late: bool) -> Next:
        """All tasks of a plan are settled; `late`: the time for work is over. Returns what comes next."""
        run = self.machine
        failed = [task for task, state in run.states.items() if state == "failed"]
        self.failed = [(run.graph.tasks[task], run.errors[task].message) for task in failed]
        self.codes = [run.errors[task].code for task in failed]
        for task, state in run.states.items():
            if state == "fallback":
                self.results.add(run.graph.tasks[task], run.results[task])
        self.why = "; ".join(f"task {task.id} failed: {message}" for task, message in self.failed)
        if self.problem:
            self.why = f"the plan was wrong: {self.problem}"
        self.next = self._end(late=late) or ("plan" if self.why and self.may_replan else "join")
        return self.next

    def join(self, missing: str, *, answered: bool, late: bool) -> Next:
        """The answer was to be made.

        Args:
            missing: what the aggregator misses; empty for nothing.
            answered: whether it wrote one.
            late: the time for work is over.

        Returns:
            What comes next.
        """
        end = None if answered else self._end(late=late)
        if end is not None:
            self.next = end
        elif missing and self.may_replan:
            self.why, self.next = missing, "plan"
        else:
            self.next = "incomplete" if self.why or missing else "answered"
        return self.next

    def decision(self, reason: str, answer: str) -> Decision:
        """What is said at the end."""
        return Decision(answer, 0 if self.results.tasks else -1, 0.0, 0.0, (), reason)

    def _end(self, *, late: bool) -> Next | None:
        """Why nothing more can be begun; None when it can."""
        return "budget_exhausted" if self.exhausted else "deadline" if late else None

    def _machine(self) -> GraphRun:
        """A run that knows what succeeded, and whose plan is to come."""
        # What must not be repeated gets no retries; nobody is there who could be asked about another try.
        run = GraphRun(self._run_id, TaskGraph(), limits=RunLimits(replans=0), repeatable=lambda task: True)
        run.take(Planned(tuple(Task(task.id, task.tool) for task in self.results.tasks.values()), more=True))
        for task, value in self.results.values.items():
            run.take(TaskStarted(task))
            run.take(TaskDone(task, value))
        return run
