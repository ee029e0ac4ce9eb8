"""Calls in tensors, to a node and through a server, and what shared memory could save of them.

`python -m benchmarks.framed.tensors`: a call sends one tensor of so many bytes to a node that sends it back, one after
another on one connection. Time is the least of several runs. `shared` is what a call would take at least whose tensors
lie in shared memory: a call with a tensor of 4 bytes, and each way one copy into a segment and its opening at the other
end; `fresh` with a segment made for each tensor, `reused` with one that is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from tests.integration.framed.scripted_node import ScriptedNode
from tests.integration.running import KEY, RunningServer, model

from benchmarks.rig.machine import commit, describe
from open_autoglm.client import AsyncClient

RESULT = Path(__file__).resolve().parents[1] / "results" / "tensors.json"
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}
RUNS = 7
RUN_BYTES = 64 << 20
CALLS_MAX = 200
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(process: int) -> float:
    """CPU time of another process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def least_ms(ask: Callable[[], Awaitable[Any]], size: int, others_s: Callable[[], float]) -> dict[str, float]:
    """Wall and CPU milliseconds of one call; CPU of this process and of others."""
    calls = min(CALLS_MAX, max(4, RUN_BYTES // size))
    wall, cpu = [], []
    for _ in range(RUNS):
        began = time.perf_counter(), time.process_time() + others_s()
        for _ in range(calls):
            await ask()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() + others_s() - began[1])
    return {"wall_ms": round(min(wall) / calls * 1e3, 3), "cpu_ms": round(min(cpu) / calls * 1e3, 3)}


def shared_ms(size: int, *, fresh: bool) -> float:
    """Milliseconds to hand a tensor over in shared memory, once."""
    tensor = np.arange(size, dtype=np.uint8)
    best = float("inf")
    kept = shared_memory.SharedMemory(create=True, size=size)
    for _ in range(RUNS * 3):
        began_s = time.perf_counter()
        segment = shared_memory.SharedMemory(create=True, size=size) if fresh else kept
        np.ndarray((size,), np.uint8, segment.buf)[:] = tensor
        other = shared_memory.SharedMemory(segment.name) if fresh else kept
        int(np.ndarray((size,), np.uint8, other.buf)[-1])
        if fresh:
            other.close()
            segment.close()
            segment.unlink()
        best = min(best, time.perf_counter() - began_s)
    kept.close()
    kept.unlink()
    return best * 1e3


async def measure() -> dict[str, Any]:
    """All sizes."""
    table: dict[str, Any] = {}
    async with ScriptedNode(asyncio.get_running_loop()) as node:
        with tempfile.TemporaryDirectory() as folder:
            entry = model("m", f"mcp://127.0.0.1:{node.port}")
            server = RunningServer(Path(folder), {"models": [entry]})
            await asyncio.to_thread(server.__enter__)
            try:
                direct = AsyncClient(f"mcp://127.0.0.1:{node.port}", KEY)
                relayed = AsyncClient(server.url, KEY)

                def asks(client: AsyncClient, tensor: Any) -> Callable[[], Awaitable[Any]]:
                    async def ask() -> None:
                        await client.infer_tensors("m", {"x": tensor})
                        node.tensors.clear()
                        node.asked.clear()

                    return ask

                async with direct, relayed:
                    tiny = await least_ms(asks(direct, np.zeros(4, np.uint8)), 4, lambda: 0.0)
                    table["4 B"] = {"to a node": tiny}
                    for name, size in SIZES.items():
                        tensor = np.arange(size, dtype=np.uint8)
                        alone = await least_ms(asks(direct, tensor), size, lambda: 0.0)
                        through = await least_ms(asks(relayed, tensor), size, lambda: cpu_s(server.process.pid))
                        shared = {
                            kind: round(tiny["wall_ms"] + 2 * shared_ms(size, fresh=kind == "fresh"), 3)
                            for kind in ("fresh", "reused")
                        }
                        table[name] = {"to a node": alone, "through the server": through, "shared_ms": shared}
            finally:
                await asyncio.to_thread(server.__exit__)
    return table


def main() -> None:
    """Measure; `--write` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    table = asyncio.run(measure())
    result = {"measured_at": datetime.now(UTC).isoformat(), **commit(), "machine": describe(), "calls": table}
    if given.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
