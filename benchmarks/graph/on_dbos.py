"""DBOS: `on_dbos.py MODE FOLDER`, see `benchmarks/graph/work.py`.

Always durable, here in SQLite: there is no run in memory alone.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dbos import DBOS, DBOSConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.graph.work import SLEEPS_S, STEPS, arguments, say_versions, time_barrier, time_chains


@DBOS.step()
async def add(n: int) -> int:
    """A step of a chain."""
    return n + 1


@DBOS.workflow()
async def chain() -> int:
    """The chain."""
    n = 0
    for _ in range(STEPS):
        n = await add(n)
    return n


@DBOS.step()
async def wait(name: str) -> str:
    """A step of the barrier."""
    await asyncio.sleep(SLEEPS_S.get(name, 0.0))
    return name


@DBOS.workflow()
async def barrier() -> str:
    """The barrier."""

    async def branch(*names: str) -> None:
        for name in names:
            await wait(name)

    await asyncio.gather(branch("A", "C"), branch("B", "D"))
    return await wait("end")


async def chains(count: int) -> list[int]:
    """See `work.Chains`."""
    handles = await asyncio.gather(*(DBOS.start_workflow_async(chain) for _ in range(count)))
    return [await handle.get_result(polling_interval_sec=0.001) for handle in handles]


async def main() -> None:
    """Measure what the command line says."""
    mode, folder = arguments()
    say_versions("dbos")
    if mode == "memory":
        return
    config: DBOSConfig = {
        "name": "graph",
        "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        if mode == "barrier":
            await time_barrier(barrier)
        else:
            await time_chains(chains)
    finally:
        DBOS.destroy()


asyncio.run(main())
