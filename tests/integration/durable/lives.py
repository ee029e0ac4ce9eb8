"""Processes that drive durable runs, and are killed: what they did to the world is in the file `effects`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from open_autoglm.cooperation.durable import DurableRuns
from open_autoglm.cooperation.executor import StepCall
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.errors import AutoGLMError
from open_autoglm.scheduling.run_account import Quote, RunBudget
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.storage.run_journal import RunJournal

LIMIT_S = 120.0
_LIVES = multiprocessing.get_context("forkserver")
_LIVES.set_forkserver_preload([__name__])


def branches() -> list[Task]:
    """Thirty steps: one, then five branches of five, then four that bring them together."""
    tasks = [Task("s", "add", {"own": 1})]
    for branch in range(5):
        for step in range(5):
            before = f"b{branch}-{step - 1}" if step else "s"
            own = 10**branch + step
            tasks.append(Task(f"b{branch}-{step}", "add", {"own": own, "of": [f"${{{before}}}"]}))
    for name, of in (("m1", ("b0-4", "b1-4")), ("m2", ("b2-4", "b3-4")), ("m3", ("b4-4", "m1")), ("end", ("m2", "m3"))):
        tasks.append(Task(name, "add", {"own": 0, "of": [f"${{{need}}}" for need in of]}))
    return tasks


class KilledAt(RunJournal):
    """A journal whose process is killed at one of its writes.

    Args:
        path: of the file.
        write: which one, from 0; -1 for none.
        after: once it was acknowledged, instead of before it was begun.
    """

    def __init__(self, path: Path, write: int, *, after: bool) -> None:
        super().__init__(path)
        self._left = write
        self._after = after

    async def create(self, *args: Any, **named: Any) -> None:
        """See `RunJournal`."""
        await self._at_boundary(lambda: super(KilledAt, self).create(*args, **named))

    async def append(self, *args: Any, **named: Any) -> None:
        """See `RunJournal`."""
        await self._at_boundary(lambda: super(KilledAt, self).append(*args, **named))

    async def _at_boundary(self, write: Callable[[], Any]) -> None:
        if self._left == 0 and not self._after:
            kill()
        await write()
        if self._left == 0:
            kill()
        self._left -= 1


def kill() -> None:
    """End this process as nothing can be caught."""
    os.kill(os.getpid(), signal.SIGKILL)


def note(folder: Path, name: str, line: str) -> None:
    """Write a line that outlives the process."""
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def lines(folder: Path, name: str) -> list[str]:
    """What was written so far."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


async def _add(folder: Path, call: StepCall) -> int:
    await asyncio.sleep(0.0005 * (sum(map(ord, call.task.id)) % 7))
    note(folder, "effects", f"{call.task.id} {call.idempotency_key}")
    return int(call.arguments["own"]) + sum(call.arguments.get("of", []))


async def _write(folder: Path, call: StepCall) -> str:
    note(folder, "effects", f"{call.task.id} {call.idempotency_key}")
    if call.arguments.get("kill") and call.attempt == 1:
        kill()
    return "written"


async def _spend(folder: Path, call: StepCall) -> int:
    tokens = call.arguments["tokens"]
    reservation = call.ledger.reserve(tokens)
    note(folder, "spent", str(tokens))
    await asyncio.sleep(0.0005)
    call.ledger.settle(reservation, tokens, 0.0)
    return int(tokens)


TOOLS: dict[str, Callable[[Path, StepCall], Awaitable[Any]]] = {"write": _write, "add": _add, "spend": _spend}


async def drive(folder: Path, journal: RunJournal, tasks: Sequence[Task]) -> None:
    """Go on with the run that is there, or begin one, until it is over or waits for a person."""

    async def perform(call: StepCall) -> Any:
        return await TOOLS[call.task.tool](folder, call)

    await journal.open()
    runs = DurableRuns(
        journal,
        perform,
        price=lambda task, arguments: Quote(arguments.get("tokens", 0)),
        repeatable=lambda task: task.tool != "write",
        new_graph=lambda: TaskGraph(tools=set(TOOLS)),
        settings=RunSettings(),
    )
    known = await runs.rows()
    budget = RunBudget(*(int(line) for line in lines(folder, "budget")))
    run_id = known[0]["id"] if known else await runs.create(tasks, budget=budget)
    runs.start()
    for task in lines(folder, "approve"):
        await runs.say(run_id, task, "approved", by="the test")
    async with asyncio.timeout(LIMIT_S):
        while True:
            if (await runs.show(run_id))["state"] != "running":
                break
            await asyncio.sleep(0.001)
    await runs.close()
    await journal.close()


def _live(folder: str, write: int, after: bool, tasks: list[Task]) -> None:
    journal = KilledAt(Path(folder) / "runs.db", write, after=after)
    asyncio.run(drive(Path(folder), journal, tasks))


def live(folder: Path, tasks: list[Task], *, write: int = -1, after: bool = False) -> int | None:
    """Have a process drive the folder's run; return its exit code."""
    return _ended(_live, str(folder), write, after, tasks)


async def _create_many(folder: Path, count: int, killed: bool) -> None:
    journal = RunJournal(folder / "runs.db")
    await journal.open()

    async def one(number: int) -> None:
        run_id = f"{os.getpid()}-{number}"
        await journal.create(run_id, b"{}", [b"first"], now_ms=1, expires_ms=2)
        for part in range(1, 4):
            await journal.append(run_id, part, [b"%d" % part], state="running", now_ms=1)
            note(folder, "acknowledged", f"{run_id} {part}")
        if killed and number == count // 2:
            kill()

    for start in range(0, count, 10):
        await asyncio.gather(*(one(number) for number in range(start, start + 10)))
    await journal.close()


def _live_beside(folder: str, count: int, killed: bool) -> None:
    asyncio.run(_create_many(Path(folder), count, killed))


def live_beside_each_other(folder: Path, count: int) -> list[int | None]:
    """Have three processes write runs to one journal at once, one of which is killed in the middle."""
    lives = [_LIVES.Process(target=_live_beside, args=(str(folder), count, number == 0)) for number in range(3)]
    for each in lives:
        each.start()
    for each in lives:
        each.join(LIMIT_S)
    return [each.exitcode for each in lives]


async def _fill(folder: Path) -> None:
    journal = RunJournal(folder / "runs.db")
    await journal.open()
    await journal.create("r1", b"{}", [b"first"], now_ms=1, expires_ms=2)
    try:
        for part in range(1, 1000):
            await journal.append("r1", part, [b"x" * 10_000], state="running", now_ms=1)
            note(folder, "acknowledged", str(part))
    except AutoGLMError as error:
        note(folder, "refused", error.code)
    await journal.close()


def _live_with_little_room(folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    asyncio.run(_fill(Path(folder)))


def live_with_little_room(folder: Path) -> int | None:
    """Have a process write to the journal until the system lets none of its files grow further."""
    return _ended(_live_with_little_room, str(folder))


def _ended(target: Callable[..., None], *args: Any) -> int | None:
    process = _LIVES.Process(target=target, args=args)
    process.start()
    process.join(LIMIT_S)
    return process.exitcode
