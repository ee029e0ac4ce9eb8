"""Microsoft Agent Framework: `on_agent_framework.py MODE FOLDER`, see `benchmarks/graph/work.py`.

Each run has a workflow object of its own, built before the clock starts, since one object performs one run at a time.
Durable: its file storage, a checkpoint after each round.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from agent_framework import FileCheckpointStorage, Workflow, WorkflowBuilder, WorkflowContext, executor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.graph.work import RUNS, SLEEPS_S, STEPS, WARM_RUNS, arguments, say_versions, time_barrier, time_chains


def chain(storage: FileCheckpointStorage | None) -> Workflow:
    """The chain."""
    steps = [_add(f"s{at}", last=at == STEPS - 1) for at in range(STEPS)]
    builder = WorkflowBuilder(start_executor=steps[0], checkpoint_storage=storage, output_from=[steps[-1]])
    return builder.add_chain(steps).build()


def _add(name: str, *, last: bool) -> Any:
    """A step of the chain. The framework reads the annotations, so they must not be put off."""

    @executor(id=name)
    async def add(n: int, context: WorkflowContext[int, int]) -> None:
        await (context.yield_output if last else context.send_message)(n + 1)

    return add


def barrier() -> Workflow:
    """The barrier; a run begins with one step, so one that waits for nothing comes first."""
    start, a, b, c, d = (_wait(name) for name in ("start", "A", "B", "C", "D"))

    @executor(id="end")
    async def end(names: list[str], context: WorkflowContext[str, str]) -> None:
        await context.yield_output("end")

    builder = WorkflowBuilder(start_executor=start, output_from=[end])
    builder.add_fan_out_edges(start, [a, b]).add_edge(a, c).add_edge(b, d)
    return builder.add_fan_in_edges([c, d], end).build()


def _wait(name: str) -> Any:
    """A step of the barrier."""

    @executor(id=name)
    async def wait(message: str, context: WorkflowContext[str]) -> None:
        await asyncio.sleep(SLEEPS_S.get(name, 0.0))
        await context.send_message(name)

    return wait


class Chains:
    """Workflows that are built and wait to be run."""

    def __init__(self, storage: FileCheckpointStorage | None) -> None:
        self._ready = [chain(storage) for _ in range(RUNS + WARM_RUNS)]

    async def run(self, count: int) -> list[int]:
        """See `work.Chains`."""

        async def one() -> int:
            result = await self._ready.pop().run(0)
            return int(result.get_outputs()[0])

        return await asyncio.gather(*(one() for _ in range(count)))


async def main() -> None:
    """Measure what the command line says."""
    mode, folder = arguments()
    say_versions("agent-framework-core")
    if mode == "barrier":
        await time_barrier(lambda: barrier().run("go"))
    else:
        await time_chains(Chains(FileCheckpointStorage(folder) if mode == "durable" else None).run)


asyncio.run(main())
