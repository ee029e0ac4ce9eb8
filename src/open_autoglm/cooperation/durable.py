"""Runs of task graphs that outlive the process: each is in the journal before it goes on, and goes on from there.

| a run is | and in this process |
|---|---|
| `running`, driven here | an executor performs it |
| `running`, driven by nobody | it is found by the next sweep, here or in another process |
| `waiting` | nothing of it is in memory; a person's word brings it back |
| `done`, `failed`, `cancelled`, `budget_exhausted` | in the journal alone, until it is deleted |

Invariants: a step whose end was kept is never performed again; one whose start was kept, and not its end, is performed
again with the same idempotency key if that does no harm, and is otherwise left to a person; one process drives a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.cooperation.executor import Executor, ExecutorLimits, Perform, Price
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.cooperation.run_view import run_view
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.scheduling.graph_run import BUDGET_EXHAUSTED, GraphRun, RunLimits
from open_autoglm.scheduling.run_account import RunAccount, RunBudget
from open_autoglm.scheduling.run_event import Approval, Planned, RunEvent, Stopped, Word
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.storage.run_journal import ACTIVE, KeptRun, RunJournal, RunRow

_log = logging.getLogger(__name__)

_TRIES: Final = 5
_DRAIN_S: Final = 30.0
_NO_BUDGET: Final = RunBudget()
_events = msgspec.json.Decoder(RunEvent)


class RunAbout(Struct, frozen=True, omit_defaults=True):
    """What the journal says of a run beside its events.

    Attributes:
        name: for people.
        by: who started it.
        timeout_s: longest time of the run, seconds.
        tenant: in whose turn its models are asked.
        budget: what it may spend.
    """

    timeout_s: float
    name: str = ""
    by: str = ""
    tenant: str = ""
    budget: RunBudget = RunBudget()

    @property
    def allowed_s(self) -> float:
        """Seconds from its submission until it is stopped."""
        return min(self.timeout_s, self.budget.time_s or self.timeout_s)

    @property
    def out_of_time(self) -> str:
        """Why it is stopped then."""
        return BUDGET_EXHAUSTED if 0.0 < self.budget.time_s <= self.timeout_s else "deadline_exceeded"


@dataclass(slots=True)
class _Going:
    """A run that this process drives."""

    executor: Executor
    account: RunAccount
    driving: asyncio.Task[None]


class DurableRuns:
    """See the module. `start` before anything else, `close` at the end.

    Args:
        journal: open.
        perform: makes one try of a step.
        price: tells what one try may spend.
        repeatable: whether a try that may have taken effect may be made again, with the same key, without asking.
        new_graph: an empty graph that knows which tools and models there are now.
        settings: what bounds runs.
    """

    def __init__(
        self,
        journal: RunJournal,
        perform: Perform,
        *,
        price: Price,
        repeatable: Callable[[Task], bool],
        new_graph: Callable[[], TaskGraph],
        settings: RunSettings,
    ) -> None:
        self.settings = settings
        self._journal = journal
        self._perform = perform
        self._price = price
        self._repeatable = repeatable
        self._new_graph = new_graph
        self._going: dict[str, _Going] = {}
        self._creating: set[str] = set()
        self._opening = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False
        self._behind = False
        self._room = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Runs that this process drives now."""
        return len(self._going)

    def start(self) -> None:
        """Go on with what no living process drives, now and whenever another process leaves some."""
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self, drain_s: float = _DRAIN_S) -> None:
        """Start no further step, give those that run so long to end, and leave the runs to whoever comes next."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        async with self._opening:
            driving = {going.driving for going in self._going.values()}
            for going in self._going.values():
                going.executor.drain()
        if driving:
            _, late = await asyncio.wait(driving, timeout=drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=drain_s)

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        name: str = "",
        by: str = "",
        tenant: str = "",
        timeout_s: float | None = None,
        budget: RunBudget = _NO_BUDGET,
    ) -> str:
        """Keep a new run, and begin it; return its id.

        Raises:
            RequestError: the tasks are wrong, or the budget is above that of the settings.
            ServerError: `storage_full`, `overloaded`, `server_draining`; there is no such run then.
        """
        allowed_s = self.settings.timeout_s if timeout_s is None else min(timeout_s, self.settings.timeout_s)
        if not tasks:
            raise RequestError("invalid_request", "tasks: a run needs at least one", param="tasks")
        self._new_graph().add(tasks)
        run_id = f"run-{secrets.token_hex(12)}"
        about = RunAbout(allowed_s, name, by, tenant, _allowed(budget, self.settings.budget))
        self._check_open()
        plan = Planned(tuple(tasks))
        now_ms = _now_ms()
        expires_ms = now_ms + int(about.allowed_s * 1000)
        self._creating.add(run_id)
        try:
            texts = [msgspec.json.encode(plan)]
            kept = msgspec.json.encode(about)
            await self._journal.create(run_id, kept, texts, now_ms=now_ms, expires_ms=expires_ms)
            if len(self._going) < self.settings.in_flight and not self._closed:
                run = self._new_run(run_id)
                run.take(plan)
                self._go(run_id, run, RunAccount(about.budget), 1, about=about, began_ms=now_ms)
            else:
                self._behind = True
                await self._leave(run_id)
                self._room.set()  # there may be room by now
        finally:
            self._creating.discard(run_id)
        return run_id

    async def say(self, run_id: str, task_id: str, word: Word, *, by: str, note: str = "") -> dict[str, Any]:
        """Give a person's word on a step; return the run as `show` does.

        Raises:
            RequestError: `not_found`; `conflict`, nobody is asked about this, or another process drives the run.
            ServerError: `storage_full`, `overloaded`, `server_draining`: the word was not taken.
        """

        def check(run: GraphRun) -> None:
            if task_id not in run.states:
                raise RequestError("not_found", f"run {run_id!r} has no task {task_id!r}")
            if task_id not in run.asking:
                raise RequestError("conflict", f"nobody is asked about task {task_id!r}: it is {run.states[task_id]}")
            if word == "done" and run.asking[task_id] != "unknown":
                raise RequestError("conflict", f"task {task_id!r} was not begun, so it was not done already either")

        await self._tell(run_id, Approval(task_id, word, by, note), check)
        return await self.show(run_id)

    async def cancel(self, run_id: str) -> dict[str, Any]:
        """Stop a run and what it is doing; return it as `show` does.

        Raises:
            RequestError: `not_found`; `conflict`, it is over, or another process drives it.
            ServerError: as for `say`.
        """
        await self._tell(run_id, Stopped("cancelled"), lambda run: None)
        return await self.show(run_id)

    async def resume(self, run_id: str) -> dict[str, Any]:
        """Go on with a run now, instead of at the next sweep; return it as `show` does.

        Raises:
            RequestError, ServerError: as for `cancel`.
        """
        async with self._opening:
            self._check_open()
            if run_id not in self._going:
                await self._claim(run_id)
                await self._open(run_id)
        return await self.show(run_id)

    async def rows(self, *, state: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The newest runs, without their tasks."""
        return [run_view(row, _about(row)) for row in await self._journal.rows(state=state, limit=limit)]

    async def show(self, run_id: str) -> dict[str, Any]:
        """One run with its tasks, their states, results and errors, and what a person is asked.

        Raises:
            RequestError: `not_found`.
        """
        kept = await self._kept(run_id)
        going = self._going.get(run_id)
        if going is not None:
            return run_view(kept.row, _about(kept.row), going.executor.run, going.account)
        run, account = self._rebuilt(kept)
        account.resume()
        if kept.row.state == "waiting":
            run.hold()
            run.begin()
        return run_view(kept.row, _about(kept.row), run, account)

    async def prune(self) -> int:
        """Delete what the settings say is kept no longer, a bounded part of it; return how many runs."""
        return await self._journal.prune(_now_ms())

    async def _tell(self, run_id: str, event: RunEvent, check: Callable[[GraphRun], None]) -> None:
        for _ in range(_TRIES):
            async with self._opening:
                self._check_open()
                going = self._going.get(run_id)
                if going is None:
                    await self._claim(run_id)
                    kept = await self._open(run_id, event, check)
                else:
                    check(going.executor.run)
                    try:
                        kept = going.executor.tell(event)
                    except RequestError:  # its last turn was this one
                        kept = None
            if kept is not None:
                await kept
                return
            assert going is not None
            await asyncio.wait([going.driving], timeout=_DRAIN_S)
        raise ServerError("overloaded", f"run {run_id!r} begins and ends all the time; try again")

    async def _claim(self, run_id: str) -> None:
        row = await self._journal.row(run_id)
        if row is None:
            raise _unknown(run_id)
        if row.state not in ACTIVE:
            raise RequestError("conflict", f"run {run_id!r} is {row.state}")
        if not await self._journal.claim(run_id):
            raise RequestError("conflict", f"run {run_id!r} is driven by another process; ask there")

    async def _kept(self, run_id: str) -> KeptRun:
        kept = await self._journal.load(run_id)
        if kept is None:
            raise _unknown(run_id)
        return kept

    def _new_run(self, run_id: str) -> GraphRun:
        limits = RunLimits(running=self.settings.steps)
        return GraphRun(run_id, TaskGraph(), limits=limits, repeatable=self._repeatable)

    def _rebuilt(self, kept: KeptRun) -> tuple[GraphRun, RunAccount]:
        """The machine of a run as its journal has it, not begun, and its account."""
        run = self._new_run(kept.row.id)
        account = RunAccount(_about(kept.row).budget)
        for text in kept.events:
            event = _events.decode(text)
            run.take(event)
            account.take(event)
        return run, account

    async def _open(
        self, run_id: str, event: RunEvent | None = None, check: Callable[[GraphRun], None] | None = None
    ) -> asyncio.Future[None] | None:
        """Drive a run that this process has claimed, with an event that it begins with; return when that is kept."""
        kept = await self._kept(run_id)
        if check is not None:
            looked_at, _ = self._rebuilt(kept)
            looked_at.hold()
            looked_at.begin()
            try:
                check(looked_at)
            except RequestError:
                await self._leave(run_id)
                raise
        row = kept.row
        return self._go(run_id, *self._rebuilt(kept), kept.parts, about=_about(row), began_ms=row.began_ms, event=event)

    def _go(
        self,
        run_id: str,
        run: GraphRun,
        account: RunAccount,
        part: int,
        *,
        about: RunAbout,
        began_ms: int,
        event: RunEvent | None = None,
    ) -> asyncio.Future[None] | None:
        """Have an executor drive a run of this process; see `_open`."""
        began_s = clock.monotonic() - (_now_ms() - began_ms) / 1000
        executor = Executor(
            run_id,
            run,
            self._perform,
            deadline_s=began_s + about.allowed_s,
            record=self._recorder(run_id, run, part),
            began_s=began_s,
            limits=ExecutorLimits(step_timeout_s=self.settings.step_timeout_s),
            account=account,
            price=self._price,
            out_of_time=about.out_of_time,
        )
        kept = executor.tell(event) if event is not None else None
        driving = asyncio.get_running_loop().create_task(self._drive(run_id, executor))
        self._going[run_id] = _Going(executor, account, driving)
        return kept

    def _recorder(self, run_id: str, run: GraphRun, part: int) -> Callable[[Sequence[RunEvent]], Any]:
        async def record(events: Sequence[RunEvent]) -> None:
            nonlocal part
            texts = [msgspec.json.encode(event) for event in events]
            await self._journal.append(run_id, part, texts, state=run.state, now_ms=_now_ms())
            part += 1

        return record

    async def _drive(self, run_id: str, executor: Executor) -> None:
        try:
            state = await executor.execute()
            _log.info("run %s is %s", run_id, state)
        except AutoGLMError as error:
            _log.error("run %s rests until the next sweep: %s", run_id, error.message)
        except Exception:  # a role's outermost loop: the run rests, and the next sweep finds it
            _log.exception("run %s rests until the next sweep", run_id)
        finally:
            await self._leave(run_id)
            del self._going[run_id]
            if self._behind:
                self._room.set()

    async def _leave(self, run_id: str) -> None:
        """Release a run. Where that fails it is found all the same: by a sweep here, or once this process is gone."""
        try:
            await self._journal.release(run_id)
        except AutoGLMError as error:
            _log.error("run %s could not be released: %s", run_id, error.message)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._take_orphans()
                await self.prune()
            except AutoGLMError as error:
                _log.error("no sweep for runs that were left: %s", error.message)
            except Exception:  # a role's outermost loop: were it to end, what others leave would rest for ever
                _log.exception("no sweep for runs that were left")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.sweep_s):
                    await self._room.wait()
            self._room.clear()

    async def _take_orphans(self) -> None:
        async with self._opening:
            room = self.settings.in_flight - len(self._going)
            if room <= 0:
                return
            found = await self._journal.orphans(room, now_ms=_now_ms(), driven={*self._going, *self._creating})
            self._behind = len(found) == room
            for run_id in found:
                if await self._journal.claim(run_id):
                    try:
                        await self._open(run_id)
                    except (AutoGLMError, msgspec.DecodeError) as error:
                        _log.error("run %s cannot go on: %s", run_id, error)

    def _check_open(self) -> None:
        if self._closed:
            raise ServerError("server_draining", "this server is stopping; ask the one that takes its place")


def _allowed(asked: RunBudget, most: RunBudget) -> RunBudget:
    """What a run may spend.

    Raises:
        RequestError: it asks for more than the settings have.
    """
    for name, own, limit in zip(
        RunBudget.__struct_encode_fields__, msgspec.structs.astuple(asked), msgspec.structs.astuple(most), strict=True
    ):
        if limit and own > limit:
            message = f"budget.{name}: {own:g} is more than the {limit:g} of `runs.budget.{name}`"
            raise RequestError("invalid_request", message, param=f"budget.{name}")
    return RunBudget(asked.tokens or most.tokens, asked.money or most.money, asked.time_s or most.time_s)


def _about(row: RunRow) -> RunAbout:
    return msgspec.json.decode(row.about, type=RunAbout)


def _unknown(run_id: str) -> RequestError:
    return RequestError("not_found", f"there is no run {run_id[:80]!r}, or no longer")


def _now_ms() -> int:
    return int(clock.wall() * 1000)
