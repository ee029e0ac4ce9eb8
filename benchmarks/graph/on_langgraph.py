"""LangGraph: `on_langgraph.py MODE FOLDER`, see `benchmarks/graph/work.py`.

Durable: its SQLite saver with `durability="sync"`, a checkpoint on the disk before the next step begins, and SQLite's
`synchronous=FULL`, which our journal has too.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.graph.work import SLEEPS_S, STEPS, arguments, say_versions, time_barrier, time_chains


class Number(TypedDict):
    """State of a chain."""

    n: int


class Names(TypedDict):
    """State of the barrier."""

    names: Annotated[list[str], operator.add]


async def add(state: Number) -> Number:
    """A step of a chain."""
    return {"n": state["n"] + 1}


def wait(name: str) -> Any:
    """A step of the barrier."""

    async def step(state: Names) -> Names:
        await asyncio.sleep(SLEEPS_S.get(name, 0.0))
        return {"names": [name]}

    return step


def chain(saver: AsyncSqliteSaver | None) -> Any:
    """The chain."""
    graph = StateGraph(Number)
    for at in range(STEPS):
        graph.add_node(f"s{at}", add)
        graph.add_edge(f"s{at - 1}" if at else START, f"s{at}")
    graph.add_edge(f"s{STEPS - 1}", END)
    return graph.compile(checkpointer=saver)


def barrier() -> Any:
    """The barrier."""
    graph = StateGraph(Names)
    for name in ("A", "B", "C", "D", "end"):
        graph.add_node(name, wait(name))
    for before, after in ((START, "A"), (START, "B"), ("A", "C"), ("B", "D"), ("end", END)):
        graph.add_edge(before, after)
    graph.add_edge(["C", "D"], "end")
    return graph.compile()


async def chains(graph: Any, count: int, thread: list[int], **how: Any) -> list[int]:
    """See `work.Chains`."""

    async def run() -> int:
        thread[0] += 1
        config = {"recursion_limit": STEPS + 5, "configurable": {"thread_id": str(thread[0])}}
        return int((await graph.ainvoke({"n": 0}, config, **how))["n"])

    return await asyncio.gather(*(run() for _ in range(count)))


async def main() -> None:
    """Measure what the command line says."""
    mode, folder = arguments()
    say_versions("langgraph", "langgraph-checkpoint-sqlite")
    if mode == "barrier":
        graph = barrier()
        await time_barrier(lambda: graph.ainvoke({"names": []}))
    elif mode == "memory":
        graph = chain(None)
        await time_chains(lambda count: chains(graph, count, [0]))
    else:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")) as saver:
            await saver.setup()
            await saver.conn.execute("PRAGMA synchronous=FULL")
            graph = chain(saver)
            thread = [0]
            await time_chains(lambda count: chains(graph, count, thread, durability="sync"))


asyncio.run(main())
