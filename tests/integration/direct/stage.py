"""Nodes and a server in processes of their own, and what the server's figures say."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.integration.node.node_process import Process
from tests.integration.running import RunningServer

from open_autoglm.client import AsyncClient

SECRET = "a secret of the tests"
PATIENCE_S = 30.0


@contextlib.asynccontextmanager
async def nodes(folder: Path, count: int, *models: str) -> AsyncIterator[list[Process]]:
    """So many nodes, with a secret."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    words = ("--secret-file", str(secret))
    started = [await asyncio.to_thread(Process, *words, models=models or ("echo=echo:",)) for _ in range(count)]
    try:
        yield started
    finally:
        for node in started:
            await asyncio.to_thread(node.end)


@contextlib.asynccontextmanager
async def serving(folder: Path, ports: list[int], **config: Any) -> AsyncIterator[RunningServer]:
    """A server in front of nodes."""
    models = [{"name": "echo", "endpoint": f"mcp://127.0.0.1:{port}", "token": SECRET} for port in ports]
    running = RunningServer(folder, {"models": models, **config})
    await asyncio.to_thread(running.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.__exit__)


async def until(holds: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.02)


async def until_direct(client: AsyncClient) -> int:
    """Ask until requests go to a node; return how many were needed."""
    asked = 0
    async with asyncio.timeout(PATIENCE_S):
        while not client.asks_node("echo"):
            assert (await client.infer("echo", "are you there")).text == "are you there"
            asked += 1
            await asyncio.sleep(0.02)
    return asked


def figures(server: RunningServer, name: str) -> dict[str, float]:
    """Values of a metric, by their labels."""
    told = str(server.admin_get("/metrics"))
    rows = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", told, re.MULTILINE)
    return {labels: float(value) for labels, value in rows}


def answered(server: RunningServer, route: str) -> int:
    """Requests that ended well on a route."""
    counts = figures(server, "mcp_requests_total")
    return int(sum(n for labels, n in counts.items() if f'"/mcp/v1/{route}"' in labels and 'status="200"' in labels))
