"""Drives one run of a task graph: performs what its machine says, and tells it what became of that.

Invariants: nothing is performed before its start is recorded, and nothing follows from an end that is not; what ends
while a record is written is recorded with the next one, so that many steps share one; each step has a limit of time;
when the run is over or abandoned, none of its steps goes on.

With an account no try begins before what it may spend is set aside and recorded. One that does not fit waits until the
tries under way have ended; when none is paid for any more, the budget is exhausted: nothing further begins, what still
runs is cancelled, and the run ends with the results that are there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.scheduling.budget import BudgetExhausted, Ledger
from open_autoglm.scheduling.graph_run import BUDGET_EXHAUSTED, Cancel, Effect, GraphRun, Replan, RunState, Start
from open_autoglm.scheduling.references import fill
from open_autoglm.scheduling.run_account import Quote, RunAccount, Spent
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
from open_autoglm.tools.tool import ConfirmationNeededError, ToolError

_log = logging.getLogger(__name__)

UNCLEAR = frozenset(
    {
        "deadline_exceeded",
        "internal_error",
        "stream_interrupted",
        "tool_broken",
        "tool_timeout",
        "tool_unavailable",
        "upstream_error",
    }
)
"""After these the other side may have done what it was asked, and may want to be paid."""


@dataclass(frozen=True, slots=True)
class StepCall:
    """One try of a step.

    Attributes:
        run_id: of the run.
        task: as the plan has it.
        arguments: its arguments, with results in the place of references.
        attempt: from 1.
        idempotency_key: the same for every try.
        deadline_s: monotonic seconds by which it is cancelled.
        confirmation: see `tools.tool.ToolCall`.
        ledger: pays for the try; it has what was set aside for it, or no limit.
    """

    run_id: str
    task: Task
    arguments: dict[str, Any]
    attempt: int
    idempotency_key: str
    deadline_s: float
    confirmation: str = ""
    ledger: Ledger = field(default_factory=Ledger)


Perform = Callable[[StepCall], Awaitable[Any]]
"""Makes one try; returns a JSON value. Raises AutoGLMError or ToolError; cancelled at its deadline."""
Price = Callable[[Task, dict[str, Any]], Quote]
"""What one try may spend, by its task and its arguments. Raises AutoGLMError where they are wrong."""
Record = Callable[[Sequence[RunEvent]], Awaitable[None]]
"""Returns when the events are kept as safely as they are to be, and the run's new state, without events too; what it
raises ends the run's execution."""
Planner = Callable[[GraphRun, str], Awaitable[tuple[Task, ...]]]
"""Gives tasks in the place of a failed one, by its id; none when it knows no other way."""


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """What bounds an execution.

    Attributes:
        step_timeout_s: longest time of one try whose task says nothing, seconds.
        plan_timeout_s: longest time for an answer of the planner, seconds.
        result_bytes: longest result of a step, bytes of JSON.
        results_bytes: longest results of all steps together, which are held in memory as long as the run goes on.
        news: most events from outside that wait to be taken.
    """

    step_timeout_s: float = 60.0
    plan_timeout_s: float = 60.0
    result_bytes: int = 1024 * 1024
    results_bytes: int = 16 * 1024 * 1024
    news: int = 1_000


class Executor:
    """See the module.

    Args:
        run_id: of the run.
        run: its machine, with what a journal holds taken, and not begun.
        perform: makes one try of a step.
        deadline_s: monotonic seconds; the run is stopped then.
        record: keeps events; None keeps none.
        planner: asked when a task that says so has failed.
        began_s: monotonic seconds of the run's start, for `at_ms`; now when left out.
        limits: what bounds it.
        rng: spreads the waits before retries.
        account: pays, with what a journal holds taken; without one nothing is counted.
        price: tells what a try may spend; needed with an account.
        out_of_time: why the run is stopped at its deadline.
    """

    def __init__(
        self,
        run_id: str,
        run: GraphRun,
        perform: Perform,
        *,
        deadline_s: float,
        record: Record | None = None,
        planner: Planner | None = None,
        began_s: float | None = None,
        limits: ExecutorLimits | None = None,
        rng: random.Random | None = None,
        account: RunAccount | None = None,
        price: Price | None = None,
        out_of_time: str = "deadline_exceeded",
    ) -> None:
        self.run = run
        self._run_id = run_id
        self._perform = perform
        self._deadline_s = deadline_s
        self._record = record
        self._planner = planner
        self._began_s = clock.monotonic() if began_s is None else began_s
        self._limits = limits or ExecutorLimits()
        self._rng = rng or random.Random()
        self._inbox: deque[tuple[RunEvent, asyncio.Future[None] | None]] = deque()
        self._waiting: list[asyncio.Future[None]] = []  # of events that were taken and are not kept yet
        self._news = asyncio.Event()
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._kept_state = ""
        self._results_bytes = sum(len(msgspec.json.encode(result)) for result in run.results.values())
        self._over = False
        self._draining = False
        self._account = account
        self._price = price
        self._out_of_time = out_of_time
        self._unpaid: list[Start] = []  # that the machine has begun and the account has not
        self._exhausted = False

    async def execute(self) -> RunState:
        """Go on until the run is over, or nothing can happen before a person gives word; return which. Once only.

        What was handed in by `tell` before comes first. After `drain` it may return `running`.

        Raises:
            AutoGLMError: what `record` raised; what was not recorded did not happen for a later execution.
        """
        fault: AutoGLMError | None = None
        left_s = self._deadline_s - clock.monotonic()
        if left_s <= 0:
            self._post(Stopped(self._out_of_time))
        timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._post, Stopped(self._out_of_time))
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._go_on(group)
                except AutoGLMError as error:
                    fault = error
                finally:
                    for step in self._steps.values():
                        step.cancel()
        finally:
            timer.cancel()
            self._close(fault)
        if fault is not None:
            raise fault
        return self.run.state

    def tell(self, event: RunEvent) -> asyncio.Future[None]:
        """Hand in what happened outside: a part of the plan, a person's word, an order to stop.

        Returns:
            Done when the event is kept; with RequestError when the tasks of a plan are wrong, and none was added; with
            `conflict` when the execution ended before it, or nobody is asked any more; with what `record` raised.

        Raises:
            RequestError: `conflict`, the execution is over.
            ServerError: `overloaded`, too much waits already.
        """
        if self._over:
            raise _is_over(self._run_id)
        if len(self._inbox) >= self._limits.news:
            raise ServerError("overloaded", f"{len(self._inbox)} events of run {self._run_id!r} wait; try again")
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.append((event, kept))
        self._news.set()
        return kept

    def drain(self) -> None:
        """Start nothing more, and have `execute` return when what is being performed has ended."""
        self.run.hold()
        self._draining = True
        self._news.set()

    def _close(self, fault: AutoGLMError | None) -> None:
        self._over = True
        if self._account is not None:
            self._account.close()
        self._waiting += [kept for _, kept in self._inbox if kept is not None]
        self._inbox.clear()
        self._answer(fault or _is_over(self._run_id))

    async def _go_on(self, group: asyncio.TaskGroup) -> None:
        if self._account is not None:
            self._account.resume()
        await self._keep_and_do(group, [], self.run.begin())
        while self._inbox or (self.run.state == "running" and not (self._draining and not self._steps)):
            # Each step, the planner and the run itself have a limit of time, after which something comes in.
            await self._news.wait()
            self._news.clear()
            events: list[RunEvent] = []
            effects: list[Effect] = []
            while self._inbox:
                event, kept = self._inbox.popleft()
                if kept is not None:
                    self._waiting.append(kept)
                taken = self._take(event, kept, effects)
                if taken is not None:
                    events.append(taken)
            await self._keep_and_do(group, events, effects)

    def _take(self, event: RunEvent, kept: asyncio.Future[None] | None, effects: list[Effect]) -> RunEvent | None:
        """Give an event to the machine; return what is to be kept of it."""
        event = self._stamped(event)
        if isinstance(event, Approval) and event.task not in self.run.asking:
            # Of two words at once one counts. Kept, the other would count when the run is rebuilt: the journal does not
            # say that the step had begun in between.
            if kept is not None and not kept.done():
                kept.set_exception(RequestError("conflict", f"nobody is asked about task {event.task!r} any more"))
            return None
        try:
            effects += self.run.take(event)
            return event
        except RequestError as error:
            assert isinstance(event, Planned)
            if kept is not None and not kept.done():
                kept.set_exception(error)
            if not event.answers:
                return None
            _log.warning("the planner's tasks in place of %s are wrong: %s", event.answers, error.message)
            nothing = Planned((), answers=event.answers, at_ms=event.at_ms)
            effects += self.run.take(nothing)
            return nothing

    def _stamped(self, event: RunEvent) -> RunEvent:
        if self._account is not None and isinstance(event, TaskDone | TaskFailed | Held):
            tokens, money = self._account.end(event.task)
            return msgspec.structs.replace(event, at_ms=self._at_ms(), tokens=tokens, money=money)
        return msgspec.structs.replace(event, at_ms=self._at_ms())

    def _at_ms(self) -> int:
        return int((clock.monotonic() - self._began_s) * 1000)

    async def _keep_and_do(
        self,
        group: asyncio.TaskGroup,
        events: list[RunEvent],
        effects: list[Effect],
    ) -> None:
        events += self._started(effects)
        if self._record is not None and (events or self.run.state != self._kept_state):
            try:
                await self._record(events)
                self._kept_state = self.run.state
            except AutoGLMError as error:
                self._answer(error)
                raise
        self._answer(None)
        for effect in effects:
            match effect:
                case Start():
                    self._steps[effect.task.id] = group.create_task(self._step(effect))
                case Cancel():
                    self._cancel(effect.task)
                case Replan():
                    self._steps[f"plan for {effect.task}"] = group.create_task(self._plan(effect.task))

    def _started(self, effects: list[Effect]) -> list[TaskStarted]:
        """Take the tries that cannot be paid now from the effects, put those in that now can; tell which begin."""
        starts = [*self._unpaid, *(effect for effect in effects if isinstance(effect, Start))]
        effects[:] = [effect for effect in effects if not isinstance(effect, Start)]
        self._unpaid = []
        begun: list[TaskStarted] = []
        for start in starts:
            if self.run.states[start.task.id] != "running":
                continue  # the run was stopped before it could be paid
            spent = self._set_aside(start)
            if spent is None:
                self._unpaid.append(start)
            else:
                effects.append(start)
                begun.append(TaskStarted(start.task.id, start.attempt, self._at_ms(), *spent))
        return begun

    def _set_aside(self, start: Start) -> Spent | None:
        """What is set aside for a try; None when it cannot begin now."""
        if self._account is None or self._price is None:
            return Spent(0, 0.0)
        if self._exhausted or self._draining:
            return None
        try:
            quote = self._price(start.task, fill(start.task.args, self.run.results))
        except AutoGLMError:
            quote = Quote()  # its arguments are wrong, so it fails before it costs anything
        try:
            return self._account.begin(start.task.id, quote)
        except BudgetExhausted as error:
            _log.info("run %s: step %s does not fit: %s", self._run_id, start.task.id, error.message)
            self._exhausted = True
            self._post(Stopped(BUDGET_EXHAUSTED))
            return None

    def _cancel(self, task: str) -> None:
        if (step := self._steps.get(task)) is not None:
            step.cancel()
            if self._account is not None:
                self._account.forfeit(task)

    def _answer(self, error: AutoGLMError | None) -> None:
        """Tell those whose events were taken what became of them."""
        waiting, self._waiting = self._waiting, []
        for kept in waiting:
            if kept.done():  # whoever waited has gone, or knows
                continue
            if error is None:
                kept.set_result(None)
            else:
                kept.set_exception(error)

    def _post(self, event: RunEvent) -> None:
        self._inbox.append((event, None))
        self._news.set()

    async def _step(self, start: Start) -> None:
        if start.wait_s:
            await asyncio.sleep(start.wait_s * self._rng.uniform(0.5, 1.0))
        event = await self._try(start)
        self._steps.pop(start.task.id, None)
        if isinstance(event, TaskFailed) and clock.monotonic() >= self._deadline_s:
            event = Stopped(self._out_of_time)  # the step failed because the run's time is over, not the reverse
        self._post(event)

    async def _try(self, start: Start) -> RunEvent:
        task = start.task
        allowed_s = min(task.timeout_s or self._limits.step_timeout_s, self._deadline_s - clock.monotonic())
        late = TaskFailed(
            task.id, "deadline_exceeded", f"it was not done in {max(allowed_s, 0.0):.3g} s", again=True, unclear=True
        )
        try:
            arguments = fill(task.args, self.run.results)
            async with asyncio.timeout(allowed_s) as limit:
                return self._done(task, await self._perform(self._call(start, arguments, allowed_s)))
        except TimeoutError:
            return late if limit.expired() else TaskFailed(task.id, "internal_error", "a time limit", unclear=True)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is None or own.cancelling():
                raise
            # What the step waited for was cancelled, not the step: nobody else would tell the run of its end.
            return TaskFailed(task.id, "internal_error", "what it waited for was cancelled", unclear=True)
        except ConfirmationNeededError as error:
            return Held(task.id, error.confirmation)
        except (AutoGLMError, ToolError) as error:
            unclear = error.code in UNCLEAR
            return TaskFailed(task.id, error.code, error.message, again=error.retryable, unclear=unclear)
        except Exception as error:  # foreign code: whatever it raises ends this one try and nothing else
            _log.exception("step %s of run %s is broken", task.id, self._run_id)
            return TaskFailed(task.id, "internal_error", f"it failed: {type(error).__name__}", unclear=True)

    def _call(self, start: Start, arguments: dict[str, Any], allowed_s: float) -> StepCall:
        deadline_s = clock.monotonic() + allowed_s
        paid = {} if self._account is None else {"ledger": self._account.ledger(start.task.id)}
        return StepCall(
            self._run_id, start.task, arguments, start.attempt, start.key, deadline_s, start.confirmation, **paid
        )

    def _done(self, task: Task, result: Any) -> RunEvent:
        """Keep of a result what its JSON says, so that it is the same before and after a restart."""
        try:
            encoded = msgspec.json.encode(result)
        except (TypeError, ValueError, RecursionError):
            return TaskFailed(task.id, "invalid_result", f"{task.tool!r} gave what is no JSON value")
        if len(encoded) > self._limits.result_bytes:
            message = f"{task.tool!r} gave {len(encoded)} bytes; {self._limits.result_bytes} are the most"
            return TaskFailed(task.id, "result_too_large", message)
        if self._results_bytes + len(encoded) > self._limits.results_bytes:
            message = f"with it the run's results would exceed {self._limits.results_bytes} bytes"
            return TaskFailed(task.id, "result_too_large", message)
        self._results_bytes += len(encoded)
        return TaskDone(task.id, msgspec.json.decode(encoded))

    async def _plan(self, failed: str) -> None:
        tasks: tuple[Task, ...] = ()
        try:
            if self._planner is not None:
                async with asyncio.timeout(self._limits.plan_timeout_s):
                    tasks = await self._planner(self.run, failed)
        except (AutoGLMError, ToolError, TimeoutError) as error:
            _log.warning("the planner knows nothing in place of %s: %s", failed, error)
        except Exception:  # as in `_try`
            _log.exception("the planner of run %s is broken", self._run_id)
        self._steps.pop(f"plan for {failed}", None)
        self._post(Planned(tasks, answers=failed))


def _is_over(run_id: str) -> RequestError:
    return RequestError("conflict", f"run {run_id!r} is over, or not going on here")
