"""A run that planned, done again from what was written down of it.

| taken from the record | done again, and compared |
|---|---|
| what the planner wrote, as far as it decides anything; whether its text could be read | ids, order, what is let in |
| whether a task passed its tool's schema and the budget | whether what may have taken effect was kept back |
| how tasks ended, in the order in which the machine heard of it | the order of starts, tries, what was stopped |
| whether time or budget was at its end; what the aggregator wrote or missed | replans, joins, reason, answer, sources |

Without texts an answer is a digest; one that the rule put together of several results is then compared by its parts.
Sums of money are compared only with each other. Invariant: pure; nothing is called, and the same record gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.cooperation.plan_course import PlanCourse
from open_autoglm.cooperation.plan_outcome import told
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.scheduling.graph_run import Effect, Start
from open_autoglm.scheduling.run_event import Held, Planned, RunEvent, Stopped, TaskDone, TaskFailed
from open_autoglm.scheduling.task import OnFailure, Task
from open_autoglm.telemetry.run_privacy import DIGEST
from open_autoglm.telemetry.run_record import RunRecord
from open_autoglm.voting.candidate import Decision
from open_autoglm.voting.replay import Difference, compare_decisions

STRATEGY: Final = "plan_execute"


class _Tool(Struct, frozen=True):
    name: str
    kind: str


class _Part(Struct, frozen=True):
    task: str
    answer: str


class _Told(Struct, frozen=True):
    """An event of a plan; each kind and step has some of these fields."""

    kind: str
    step: str = ""
    # roles
    replans: int = 0
    joins: bool = False
    tools: tuple[_Tool, ...] = ()
    # written
    id: str = ""
    tool: str = ""
    depends_on: tuple[str, ...] = ()
    refers: tuple[str, ...] = ()
    work: str = ""
    malformed: bool = False
    priority: int = 0
    estimate_s: float = 1.0
    timeout_s: float = 0.0
    retries: int = 0
    on_failure: OnFailure = "stop_dependants"
    # admitted, refused, and what became of tasks
    task: str = ""
    by: str = ""
    more: bool = False
    attempt: int = 1
    again: bool = False
    unclear: bool = False
    answer: str | None = None
    reason: str = ""
    # plan, settled, joined, decided
    tasks: tuple[Any, ...] = ()
    foreign: bool = False
    wrong: bool = False
    late: bool = False
    missing: bool = False
    marks: tuple[str, ...] = ()
    money: float = 0.0
    plans: int = 0
    sources: tuple[Any, ...] = ()
    parts: tuple[_Part, ...] = ()


class _Refused(AutoGLMError):
    """The budget had no room for a task."""


class _Differs(Exception):
    """Something is not as it was recorded."""

    def __init__(self, field: str, recorded: object, replayed: object) -> None:
        super().__init__(field)
        self.field = field
        self.recorded = recorded
        self.replayed = replayed


_KINDS: Final = ("course", "task_started", "task_done", "task_failed", "budget", "plan", "decided")


def replay_plan(record: RunRecord) -> Difference | None:
    """Do a run again; None when all is as it was recorded.

    Raises:
        ValueError: its record does not hold enough for that; says what is missing.
    """
    events = _events(record)
    again = _Again(events[0])
    taken = 0
    try:
        for event in events[1:]:
            taken += 1
            again.take(event)
        return _compare_end(record, again, taken)
    except _Differs as differs:
        return Difference(taken, differs.field, _json(differs.recorded), _json(differs.replayed))
    except AutoGLMError as error:  # what was recorded could not have been taken
        last = events[taken]
        return Difference(taken, last.step or last.kind, _json(last.task), _json(error.message))


def _events(record: RunRecord) -> list[_Told]:
    if not record.decision:
        raise ValueError("nothing was decided")
    if record.events_lost or record.end.get("events_lost"):
        raise ValueError("it had more events than are kept")
    events = [event for event in record.events if event["kind"] in _KINDS]
    if not events or events[0].get("step") != "roles":
        raise ValueError("it follows a plan, and was recorded by a version that did not write down enough of it")
    if any("left_out" in event for event in events):
        raise ValueError("one of its events was too long to be kept")
    try:
        read = msgspec.convert(events, list[_Told])
    except msgspec.ValidationError as error:
        raise ValueError(f"the record is not one of a plan: {error}") from error
    if any("*" in each.id for each in read):
        raise ValueError("the id of a task looked like a key, and was starred")
    return read


def _compare_end(record: RunRecord, again: _Again, step: int) -> Difference | None:
    if again.decision is None:
        raise _Differs("decision", record.decision, None)
    _same("cost", record.end.get("cost"), again.money)
    try:
        recorded = msgspec.convert(record.decision, Decision)
    except msgspec.ValidationError as error:
        raise ValueError(f"the record is not one of a plan: {error}") from error
    return compare_decisions(step, recorded, again.decision)


class _Again:
    """The course of a run, fed from its record.

    Args:
        roles: the first event.

    Attributes:
        decision: None until it is made.
        money: spent, as was noted last.
    """

    def __init__(self, roles: _Told) -> None:
        changing = {tool.name for tool in roles.tools if tool.kind != "read"}
        self.decision: Decision | None = None
        self.money = 0.0
        self._course = PlanCourse("replay", roles.replans, joins=roles.joins, changing=changing)
        self._open: Iterator[Task] = iter(())  # what comes of the task that was written last
        self._admitted: list[Task] = []
        self._to_add: dict[str, Task] = {}
        self._starts: list[tuple[str, int]] = []  # that the machine wants, and the record has not told yet
        self._refusal = ""
        self._full = False  # the budget had no room for a task of this plan
        self._joined: _Told | None = None

    def take(self, event: _Told) -> None:
        """Take what was recorded next.

        Raises:
            _Differs: it is not what follows from what was taken before.
            AutoGLMError: it could not have been taken.
        """
        if self.decision is not None:
            raise _Differs("decided", event.kind, "the end")
        match event.kind, event.step:
            case "course", "planning":
                self._begin()
            case "course", "written":
                self._see_no_more()
                self._open = self._course.let_in(_task(event))
            case "course", "admitted":
                self._admit(event.task)
            case "course", "refused":
                self._refuse(event)
            case "course", "added":
                tasks = tuple(self._to_add.pop(task) for task in event.tasks if task in self._to_add)
                _same("added", event.tasks, [task.id for task in tasks])
                self._machine_takes(Planned(tasks, event.more))
            case "course", "stopped":
                self._machine_takes(Stopped(event.reason))
                self._starts = []  # a try that is stopped at the moment of its start is not told
            case "course", "held":
                self._machine_takes(Held(event.task, ""))
            case "task_started", _:
                self._started(event)
            case "task_done", _:
                self._machine_takes(TaskDone(event.task, event.answer or ""))
            case "task_failed", _:
                self._machine_takes(TaskFailed(event.task, "", again=event.again, unclear=event.unclear))
            case "budget", _:
                self._course.exhausted = True
            case "plan", _:
                self._planned(event)
            case "course", "settled":
                self._settle(event)
            case "course", "joined":
                self._join(event)
            case "decided", _:
                self._decide(event)
            case _:
                raise _Differs("event", event.step, None)

    # Writing.

    def _begin(self) -> None:
        _same("next", "plan", self._course.next)
        self._course.begin(self._check)
        self._starts = [*_starts(self._course.machine.begin())]
        self._open = iter(())
        self._admitted = []
        self._to_add = {}
        self._full = False

    def _check(self, task: Task) -> None:
        if self._refusal == "check":
            raise RequestError("invalid_request", "it was refused")
        self._course.allow(task)
        if self._refusal == "budget":
            raise _Refused("insufficient_quota", "it did not fit")
        self._course.expect(task)

    def _admit(self, name: str) -> None:
        try:
            task = next(self._open, None)
        except RequestError as error:
            raise _Differs("admitted", name, error.message) from error
        _same("admitted", name, None if task is None else task.id)
        assert task is not None
        self._admitted.append(task)
        self._to_add[name] = task

    def _refuse(self, event: _Told) -> None:
        self._refusal = event.by
        try:
            task = next(self._open, None)
        except _Refused:
            self._full = True
        except RequestError:
            pass
        else:
            raise _Differs("refused", event.task, None if task is None else task.id)
        finally:
            self._refusal = ""

    def _see_no_more(self) -> None:
        """See that nothing more comes of the task that was written last."""
        task = next(self._open, None)
        if task is not None:
            raise _Differs("admitted", None, task.id)

    def _planned(self, event: _Told) -> None:
        course = self._course
        if not event.foreign and not self._full:
            try:
                self._see_no_more()
                if not course.problem:
                    course.complete()
            except RequestError:
                pass  # the plan is wrong; `course.problem` says it
        _same("wrong", event.wrong, event.foreign or bool(course.problem))
        _same("plan", event.tasks, [told(task) for task in self._admitted])
        course.planned("it was wrong" if event.foreign else "")

    # Running.

    def _machine_takes(self, event: RunEvent) -> None:
        if isinstance(event, TaskDone | TaskFailed | Held) and event.task not in self._course.machine.states:
            raise _Differs("task", event.task, None)
        self._starts += _starts(self._course.machine.take(event))
        self._course.take(event)

    def _started(self, event: _Told) -> None:
        _same("task_started", (event.task, event.attempt), self._starts.pop(0) if self._starts else None)

    def _settle(self, event: _Told) -> None:
        if self._starts:
            raise _Differs("task_started", None, self._starts[0])
        machine = self._course.machine
        if machine.state == "running":
            raise _Differs("settled", machine.state, machine.states)
        self._pay(event)
        self._course.settle(late=event.late)

    # Joining.

    def _join(self, event: _Told) -> None:
        _same("next", "join", self._course.next)
        self._pay(event)
        answered = event.answer is not None
        _same("joined", answered or event.missing, (answered or event.missing) and self._course.asks_aggregator)
        self._joined = event
        self._course.join("more" if event.missing else "", answered=answered, late=event.late)

    def _pay(self, event: _Told) -> None:
        if event.money < self.money:
            raise _Differs("money", event.money, self.money)
        self.money = event.money

    def _decide(self, event: _Told) -> None:
        course, joined = self._course, self._joined
        # Time may be over at any moment, and then nothing else is done.
        _same("reason", event.reason, "deadline" if course.next in ("plan", "join") else course.next)
        _same("plans", event.plans, course.plans)
        written = None if joined is None else joined.answer
        marks = () if joined is None else joined.marks
        final = marks or course.results.last()
        sources = [
            {"task": each.task, "tool": each.tool, "final": each.final} for each in course.results.sources(final)
        ]
        _same("sources", event.sources, sources)
        self._pay(event)
        answer = self._by_rule(event) if written is None else written
        self.decision = course.decision(event.reason, answer)

    def _by_rule(self, event: _Told) -> str:
        results = self._course.results
        last = results.last()
        _same("parts", [part.task for part in event.parts], last)
        if len(last) == 1:
            return str(results.values[last[0]])
        answer = event.answer or ""
        if any(text.startswith(DIGEST) for text in (answer, *(part.answer for part in event.parts))):
            return answer  # of digests none can be made that is the whole's
        return "\n".join(part.answer for part in event.parts)


def _task(event: _Told) -> Task:
    """A task that decides the same as the one that was written."""
    refers = ["${"] if event.malformed else [f"${{{name}}}" for name in event.refers]
    args = {"work": event.work, "refers": refers}
    return Task(
        event.id,
        event.tool,
        args,
        event.depends_on,
        event.priority,
        event.estimate_s,
        event.timeout_s,
        event.retries,
        event.on_failure,
        event.answer,
    )


def _starts(effects: list[Effect]) -> Iterator[tuple[str, int]]:
    return ((effect.task.id, effect.attempt) for effect in effects if isinstance(effect, Start))


def _same(field: str, recorded: object, replayed: object) -> None:
    if _json(recorded) != _json(replayed):
        raise _Differs(field, recorded, replayed)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
