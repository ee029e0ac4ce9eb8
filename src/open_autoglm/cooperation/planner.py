"""One answer by plan: a model writes tasks, they are run as they come, and the results make the answer.

| step | goes on with |
|---|---|
| plan: the planner writes; each task is checked and started with its last byte | join, when all tasks are settled |
| join: nothing failed, and the aggregator (if there is one) misses nothing | the answer |
| join: a task failed, the plan was wrong, or something is missing | plan, `replans` times at most; then the answer |
| budget or time at its end, at any moment | the answer: the best so far |

Invariants: every call of a model or a tool was reserved in the ledger before; a task that succeeded is not run again,
whatever later plans say; when `run` returns or raises, nothing that it began goes on.
Sources: plan-execute with a streamed plan, arXiv 2312.04511.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.cooperation.caller import ModelCaller, Reply
from open_autoglm.cooperation.executor import Executor, StepCall
from open_autoglm.cooperation.paid_caller import PaidCaller
from open_autoglm.cooperation.plan_check import TaskCheck
from open_autoglm.cooperation.plan_course import Next, PlanCourse
from open_autoglm.cooperation.plan_outcome import PlanOutcome, told
from open_autoglm.cooperation.plan_prompts import (
    failure_shown,
    join_prompt,
    marked,
    plan_prompt,
    replan_reason,
    result_shown,
)
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.team_run import Observer, Terms
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.scheduling.budget import BudgetExhausted, Ledger
from open_autoglm.scheduling.plan_cache import PlanCache
from open_autoglm.scheduling.plan_parser import PlanLimits, PlanParser
from open_autoglm.scheduling.references import ReferenceProblem, apart, as_text
from open_autoglm.scheduling.run_event import Held, Planned, RunEvent, Stopped, TaskDone, TaskFailed, TaskStarted
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import MODEL_PREFIX
from open_autoglm.tools.desk import ToolDesk, digest_of
from open_autoglm.tools.tool import ToolCall

TASKS_MAX: Final = 64
"""Of one plan."""
PLAN_TOKENS: Final = 4096
ANSWER_TOKENS: Final = 1024
"""What a plan, and an answer, may have where neither the client nor the budget allows less."""
RETRIES_MAX: Final = 2
"""Of a task that a planner wrote."""
_JOIN_SHARE = 0.2
"""Of the time, kept for the aggregator."""
_NAME_CHARS_MAX = 250


class Roles(Struct, frozen=True):
    """Who does what.

    Attributes:
        planner: model that writes plans.
        tools: names of tools that tasks may use; dangerous ones are left out, since nobody is there to agree.
        models: models that tasks may ask.
        aggregator: model that writes the answer; the results are put together by rule where it is left out.
        replans: how often the planner is asked again.
    """

    planner: str
    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    aggregator: str = ""
    replans: int = 2


class PlanRun:
    """See the module.

    Args:
        roles: see `Roles`.
        question: of the client.
        callers: who asks the aggregator, with the client's wishes; and who asks the planner and for tasks. If the
            latter is a `StreamedCaller`, tasks start while the plan is still written.
        desk: where tools are called.
        ledger: what the run may spend.
        terms: its bounds.
        observers: told of each event, in turn.
        trail: told the same, and all that the run's course follows from, see `plan_replay`; None where nobody is.
        cache: plans of earlier runs; None for none.
        run_id: part of the tools' idempotency keys.
    """

    def __init__(
        self,
        roles: Roles,
        question: Question,
        callers: tuple[ModelCaller, ModelCaller],
        desk: ToolDesk,
        ledger: Ledger,
        terms: Terms,
        *,
        observers: Sequence[Observer] = (),
        trail: Observer | None = None,
        cache: PlanCache | None = None,
        run_id: str = "plan",
    ) -> None:
        self._roles = roles
        self._question = question
        self._answerer, self._caller = callers
        self._desk = desk
        self._ledger = ledger
        self._terms = terms
        self._observers = observers
        self._trail = trail
        self._cache = cache if len(question.messages) == 1 else None
        self._run_id = run_id
        self._paid = PaidCaller(ledger, terms)
        self._tools = [tool for tool in desk.tools(roles.tools) if tool.kind != "dangerous"]
        self._costs = {tool.name: tool.cost for tool in self._tools}
        self._readers = {tool.name for tool in self._tools if tool.kind == "read"}
        self._course = PlanCourse(
            run_id, roles.replans, joins=bool(roles.aggregator), changing=self._costs.keys() - self._readers
        )
        self._check = TaskCheck(self._tools, roles.models)
        self._began_s = clock.monotonic()
        join_s = (terms.deadline_s - self._began_s) * _JOIN_SHARE if roles.aggregator else 0.0
        self._work_deadline_s = terms.deadline_s - join_s
        self._promised: dict[str, tuple[int, float]] = {}  # tokens and money of tasks that were let in and not begun
        self._exhausted: BudgetExhausted | None = None
        self._error: AutoGLMError | None = None

    async def run(self) -> PlanOutcome:
        """Plan, run, and plan again, until there is an answer. A run that is cancelled cancels all that it began."""
        self._tell_trail_how_it_began()
        try:
            async with asyncio.timeout(max(0.0, self._terms.deadline_s - clock.monotonic())) as limit:
                reason, reply = await self._answer()
        except TimeoutError:
            if not limit.expired():
                raise
            reason, reply = "deadline", None
        outcome, parts = self._outcome(reason, reply)
        sources = [{"task": each.task, "tool": each.tool, "final": each.final} for each in outcome.sources]
        ended = {"reason": reason, "plans": self._course.plans, "sources": sources}
        self._tell("decided", ended, answer=outcome.decision.answer, parts=parts, money=self._money())
        return outcome

    async def _answer(self) -> tuple[str, Reply | None]:
        """Why it ended, and what the aggregator wrote."""
        course = self._course
        step: Next = "plan"
        reply: Reply | None = None
        cached = False
        tasks: tuple[Task, ...] = ()
        while step in ("plan", "join"):  # at most as many plans as the roles allow, each with one join at most
            late = False
            if step == "plan":
                tasks, cached = await self._plan_and_run()
                late = self._is_late()
                step = course.settle(late=late)
                self._keep("settled", late=late, money=self._money())
            else:
                reply, missing = await self._join()
                late = self._is_late()
                step = course.join(missing, answered=reply is not None, late=late)
                marks = () if reply is None else marked(reply.text, course.results.tasks)
                text = {} if reply is None else {"answer": reply.text}
                self._keep("joined", missing=bool(missing), late=late, marks=marks, money=self._money(), **text)
        if step == "answered" and self._cache is not None and course.plans == 1 and not cached:
            self._cache.put(self._scope(), self._question.text, tasks)
        return step, reply

    def _is_late(self) -> bool:
        return clock.monotonic() >= self._work_deadline_s

    def _money(self) -> float:
        return self._ledger.snapshot().money

    # Planning and running.

    async def _plan_and_run(self) -> tuple[tuple[Task, ...], bool]:
        """One plan, from its first byte to its last result. Returns its tasks as they were written, or were cached."""
        course = self._course
        why = course.why
        self._promised.clear()
        course.begin(self._admit)
        self._keep("planning")

        async def note(events: Sequence[RunEvent]) -> None:
            for event in events:
                self._note(event)

        executor = Executor(
            f"{self._run_id}-{course.plans}",
            course.machine,
            self._perform,
            deadline_s=self._work_deadline_s,
            record=note,
        )
        tasks: list[Task] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(executor.execute())
            cached = await self._let_in(group, executor, tasks, why)
        return tuple(tasks), cached

    async def _let_in(self, group: asyncio.TaskGroup, executor: Executor, tasks: list[Task], why: str) -> bool:
        """Have a plan written, and its tasks taken as they come; return whether it was in the cache."""
        coming: asyncio.Queue[Task | None] = asyncio.Queue()
        parser = PlanParser(PlanLimits(tasks=TASKS_MAX), self._check.parameters)
        cached = None if why or self._cache is None else self._cache.get(self._scope(), self._question.text)
        writing: asyncio.Task[str] | None = None
        if cached is None:
            writing = group.create_task(self._write(parser, coming, why))
        else:
            for task in (*cached, None):
                coming.put_nowait(task)
        problem = ""
        admitted: list[Mapping[str, Any]] = []
        try:
            while (task := await coming.get()) is not None:
                tasks.append(task)
                for each in self._written(self._tamed(task)):
                    admitted.append(told(each))
                    await executor.tell(Planned((each,), more=True))
            if parser.problem is not None:
                raise parser.problem
            problem = await writing if writing is not None else ""
            if not problem:
                self._course.complete()
        except BudgetExhausted as error:
            self._exhaust(error)
        except AutoGLMError as error:
            problem = error.message
        if writing is not None:
            writing.cancel()
        foreign = bool(problem) and not self._course.problem  # not to be seen from what was written
        self._course.planned(problem)
        wrong = {"wrong": True, "message": problem} if problem else {}
        self._tell("plan", {"tasks": admitted, "cached": cached is not None, **wrong}, foreign=foreign)
        with suppress(RequestError):  # time is over, and with it the run
            await executor.tell(Planned(()))
        return cached is not None

    async def _write(self, parser: PlanParser, coming: asyncio.Queue[Task | None], why: str) -> str:
        """Ask the planner; put tasks into the queue as they come, and None behind them. Returns what went wrong."""

        def hear(piece: str) -> None:
            for task in parser.feed(piece):
                coming.put_nowait(task)
            if parser.problem is not None:
                coming.put_nowait(None)

        tried = self._tried()
        prompt = plan_prompt(self._tools, self._roles.models, TASKS_MAX, tried, why)
        try:
            async with asyncio.timeout(self._work_deadline_s - clock.monotonic()):
                await self._paid.ask(
                    self._caller,
                    self._roles.planner,
                    [_system(prompt), *self._question.messages],
                    PLAN_TOKENS,
                    hear=hear,
                    temperature=0.0,
                    seed=self._question.seed,
                )
            parser.close()
        except BudgetExhausted as error:
            self._exhaust(error)
        except AutoGLMError as error:
            if error is not parser.problem:
                self._error = error
            return error.message
        except TimeoutError:
            return "it was not written in time"
        finally:
            coming.put_nowait(None)
        return ""

    def _written(self, task: Task) -> Iterator[Task]:
        """Take a task of the plan; give those that can be added to the run now."""
        self._keep("written", **_recorded(task))
        for each in self._course.let_in(task):
            self._keep("admitted", task=each.id)
            yield each

    def _admit(self, task: Task) -> None:
        """Check a task that is to be let in; what it may cost is promised until it begins."""
        try:
            self._check.check(task)
        except RequestError:
            self._keep("refused", task=task.id, by="check")
            raise
        self._course.allow(task)
        promised = [*self._promised.values(), self._most(task)]
        calls = len(promised) + (1 if self._roles.aggregator else 0)
        try:
            self._ledger.check(sum(tokens for tokens, _ in promised), sum(money for _, money in promised), calls)
        except BudgetExhausted:
            self._keep("refused", task=task.id, by="budget")
            raise
        self._promised[task.id] = self._most(task)
        self._course.expect(task)

    def _tamed(self, task: Task) -> Task:
        """Take from a planner what is not for it to decide: keys, and repeating what changes something."""
        repeatable = task.tool in self._readers or task.tool.startswith(MODEL_PREFIX)
        retries = min(task.retries, RETRIES_MAX) if repeatable else 0
        return msgspec.structs.replace(task, idempotency_key="", retries=retries)

    def _most(self, task: Task) -> tuple[int, float]:
        """Tokens and money that one try of a task may take."""
        if task.tool.startswith(MODEL_PREFIX):
            size = len(as_text(task.args.get("prompt", "")).encode("utf-8", "replace"))
            return self._paid.estimate(task.tool.removeprefix(MODEL_PREFIX), size, ANSWER_TOKENS)
        return 0, self._costs[task.tool]

    async def _perform(self, step: StepCall) -> Any:
        """Make one try of a task."""
        task = step.task
        self._promised.pop(task.id, None)
        try:
            if task.tool.startswith(MODEL_PREFIX):
                message = Message("user", (TextPart(as_text(step.arguments["prompt"])),))
                model = task.tool.removeprefix(MODEL_PREFIX)
                reply = await self._paid.ask(self._caller, model, [message], ANSWER_TOKENS, seed=self._question.seed)
                return reply.text
            call = ToolCall(task.tool, step.arguments, step.deadline_s, step.idempotency_key)
            return await self._desk.call(call, allowed=self._costs, charge=self._charge, observe=self._called)
        except BudgetExhausted as error:
            self._exhaust(error)
            raise

    def _charge(self, tool: str, cost: float) -> None:
        self._ledger.settle(self._ledger.reserve(0, cost), 0, cost)

    def _note(self, event: RunEvent) -> None:
        """Tell what the machine has taken, in this order."""
        tasks = self._course.machine.graph.tasks
        self._course.take(event)
        match event:
            case Planned(tasks=added, more=more):
                self._keep("added", tasks=[task.id for task in added], more=more)
            case TaskStarted(task=task, attempt=attempt):
                self._tell("task_started", {"task": task, "tool": tasks[task].tool, "attempt": attempt})
            case TaskDone(task=task, result=result):
                self._tell("task_done", {"task": task}, answer=as_text(result))
            case TaskFailed(task=task, code=code, again=again, unclear=unclear):
                self._tell("task_failed", {"task": task, "code": code}, again=again, unclear=unclear)
            case Held(task=task):
                self._keep("held", task=task)
            case Stopped(reason=reason):
                self._keep("stopped", reason=reason)
            case _:
                pass

    # Joining.

    def _tried(self) -> list[dict[str, Any]]:
        """What came of all tasks so far, for a prompt."""
        results = self._course.results
        tried = [result_shown(task, results.values[task.id]) for task in results.tasks.values()]
        return tried + [failure_shown(task, message) for task, message in self._course.failed]

    async def _join(self) -> tuple[Reply | None, str]:
        """Have the aggregator write the answer. Returns it, or what is missing; neither where a rule is to do it."""
        if not self._course.asks_aggregator:
            return None, ""
        question = self._question
        try:
            reply = await self._paid.ask(
                self._answerer,
                self._roles.aggregator,
                [_system(join_prompt(self._tried(), may_replan=self._course.may_replan)), *question.messages],
                question.max_tokens or ANSWER_TOKENS,
                temperature=question.temperature,
                seed=question.seed,
            )
        except BudgetExhausted as error:
            self._exhaust(error)
            return None, ""
        except AutoGLMError as error:
            self._tell("failed", {"member": self._roles.aggregator, "failure": error.code})
            return None, ""
        missing = replan_reason(reply.text)
        return (reply, "") if missing is None else (None, missing)

    def _outcome(self, reason: str, reply: Reply | None) -> tuple[PlanOutcome, list[dict[str, str]]]:
        """How it ended, and the parts of an answer that the rule put together out of several results."""
        results = self._course.results
        there = bool(results.tasks)
        lines = results.lines() if reply is None else {}
        text = "\n".join(lines.values()) if reply is None else reply.text
        final = (marked(reply.text, results.tasks) if reply is not None else ()) or results.last()
        outcome = PlanOutcome(
            decision=self._course.decision(reason, text),
            reply=(reply or Reply(text)) if there else None,
            candidates=(),
            prompt_tokens=self._paid.prompt_tokens,
            completion_tokens=self._paid.completion_tokens,
            cost=self._money(),
            error=None if there else self._no_answer(reason),
            sources=results.sources(final),
            plans=self._course.plans,
        )
        return outcome, [{"task": task, "answer": line} for task, line in lines.items()]

    def _no_answer(self, reason: str) -> AutoGLMError:
        if self._exhausted is not None:
            return self._exhausted
        if reason == "deadline":
            return ServerError("deadline_exceeded", "no task of the plan was done in time")
        if self._error is not None:
            return self._error
        # What a tool says of its failure may name its host and hold what that answered: not for clients.
        codes = ", ".join(dict.fromkeys(self._course.codes))
        why = "its plan was wrong" if self._course.problem else f"tasks failed: {codes}"
        return UpstreamError("upstream_error", f"{self._roles.planner!r} found no way to an answer: {why}")

    def _exhaust(self, error: BudgetExhausted) -> None:
        if self._exhausted is None:
            self._exhausted = error
            self._course.exhausted = True
            self._tell("budget", {"lacking": error.kind, "asked": error.asked, "left": error.left})

    def _scope(self) -> str:
        tools = [[tool.name, tool.description, tool.schema] for tool in self._tools]
        return digest_of([self._roles.planner, self._roles.models, tools])

    def _called(self, event: Mapping[str, Any]) -> None:
        self._tell("tool_called", {name: value for name, value in event.items() if name != "kind"})

    # What is told.

    def _tell(self, kind: str, data: Mapping[str, Any], **kept: object) -> None:
        """Tell everybody what happened; the trail also what is `kept` of it."""
        at_ms = round((clock.monotonic() - self._began_s) * 1000, 3)
        for observer in self._observers:
            observer(kind, {**data, "at_ms": at_ms})
        if self._trail is not None:
            self._trail(kind, {**data, **kept, "at_ms": at_ms})

    def _keep(self, step: str, **data: object) -> None:
        """Tell the trail alone what the course follows from."""
        if self._trail is not None:
            at_ms = round((clock.monotonic() - self._began_s) * 1000, 3)
            self._trail("course", {"step": step, **data, "at_ms": at_ms})

    def _tell_trail_how_it_began(self) -> None:
        tools = [
            {"name": tool.name, "kind": tool.kind, "digest": digest_of([tool.description, tool.schema])}
            for tool in self._tools
        ]
        roles = self._roles
        self._keep("roles", replans=roles.replans, joins=bool(roles.aggregator), tools=tools)


def _recorded(task: Task) -> dict[str, Any]:
    """What a record holds of a task that was written: all that decides its course, and none of its texts."""
    try:
        rest, ids = apart(task.args)
        work: dict[str, Any] = {"work": msgspec.json.encode(rest).decode(), "refers": ids}
    except ReferenceProblem:
        work = {"malformed": True}
    if task.on_failure == "fallback":
        work["answer"] = as_text(task.fallback)
    plain = {name: getattr(task, name) for name in ("id", "depends_on", "priority", "estimate_s", "timeout_s")}
    # A tool's name may be any text here; one that is longer than names may be is none, and needs not be whole.
    return {
        **plain,
        "tool": task.tool[:_NAME_CHARS_MAX],
        "retries": task.retries,
        "on_failure": task.on_failure,
        **work,
    }


def _system(text: str) -> Message:
    return Message("system", (TextPart(text),))
