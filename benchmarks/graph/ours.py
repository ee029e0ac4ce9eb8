"""Our executor: `ours.py MODE FOLDER`, see `benchmarks/graph/work.py`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from benchmarks.graph.work import RUNS, SLEEPS_S, STEPS, WARM_RUNS, arguments, time_barrier, time_chains
from open_autoglm import clock
from open_autoglm.cooperation.durable import DurableRuns
from open_autoglm.cooperation.executor import Executor, StepCall
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.scheduling.graph_run import GraphRun, RunLimits
from open_autoglm.scheduling.run_account import Quote
from open_autoglm.scheduling.run_event import Planned
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import TaskGraph
from open_autoglm.storage.run_journal import RunJournal

LAST = f"s{STEPS - 1}"


async def perform(step: StepCall) -> Any:
    """A step of a chain adds one; one of the barrier waits."""
    if step.task.tool == "add":
        return step.arguments["n"] + 1
    await asyncio.sleep(SLEEPS_S.get(step.task.id, 0.0))
    return step.task.id


def chain() -> tuple[Task, ...]:
    """The tasks of one chain."""
    first = Task("s0", "add", {"n": 0})
    return (first, *(Task(f"s{at}", "add", {"n": f"$s{at - 1}"}) for at in range(1, STEPS)))


def barrier() -> tuple[Task, ...]:
    """The tasks of the barrier."""
    needs = {"A": (), "B": (), "C": ("A",), "D": ("B",), "end": ("C", "D")}
    return tuple(Task(name, "wait", depends_on=each) for name, each in needs.items())


async def run_in_memory(name: str, tasks: tuple[Task, ...]) -> GraphRun:
    """One run that nothing is kept of."""
    run = GraphRun(name, TaskGraph(), limits=RunLimits(), repeatable=lambda task: True)
    run.take(Planned(tasks))
    state = await Executor(name, run, perform, deadline_s=clock.monotonic() + 60.0).execute()
    assert state == "done", state
    return run


async def chains_in_memory(count: int) -> list[int]:
    """See `work.Chains`."""
    runs = await asyncio.gather(*(run_in_memory(f"r{at}", chain()) for at in range(count)))
    return [run.results[LAST] for run in runs]


class Durable:
    """Chains whose every step is on the disk before the next one begins."""

    def __init__(self, journal: RunJournal) -> None:
        self.ends: dict[str, int] = {}
        self.runs = DurableRuns(
            journal,
            self._perform,
            price=lambda task, arguments: Quote(),
            repeatable=lambda task: True,
            new_graph=TaskGraph,
            settings=RunSettings(),
        )

    async def _perform(self, step: StepCall) -> Any:
        result = await perform(step)
        if step.task.id == LAST:
            self.ends[step.run_id] = result
        return result

    async def chains(self, count: int) -> list[int]:
        """See `work.Chains`."""
        ids = await asyncio.gather(*(self.runs.create(chain()) for _ in range(count)))
        while self.runs.in_flight:  # noqa: ASYNC110 - a run's end is kept after its last step, and tells nobody
            await asyncio.sleep(0.001)
        return [self.ends.pop(each) for each in ids]


async def main() -> None:
    """Measure what the command line says."""
    mode, folder = arguments()
    if mode == "barrier":
        await time_barrier(lambda: run_in_memory("barrier", barrier()))
    elif mode == "memory":
        await time_chains(chains_in_memory)
    else:
        journal = RunJournal(folder / "runs.sqlite")
        await journal.open()
        durable = Durable(journal)
        await time_chains(durable.chains)
        assert len(await durable.runs.rows(state="done", limit=1000)) == RUNS + WARM_RUNS
        await durable.runs.close()
        await journal.close()


asyncio.run(main())
