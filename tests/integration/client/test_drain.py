"""A server that drains names others: the client goes there, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.client.talking_node import KEY, TalkingNode
from tests.integration.running import KEY as SERVER_KEY
from tests.integration.running import RunningServer, model

from open_autoglm.client import AsyncClient, RejectedError

PATIENCE_S = 60.0


@pytest.fixture
async def nodes() -> AsyncIterator[list[TalkingNode]]:
    async with TalkingNode() as first, TalkingNode() as second:
        yield [first, second]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in the client
            await asyncio.sleep(0.01)


def place(node: TalkingNode) -> str:
    return node.address.removeprefix("mcp://")


async def test_requests_go_where_the_server_says_and_come_back_when_that_one_is_lost(nodes: list[TalkingNode]) -> None:
    first, second = nodes
    async with AsyncClient(first.address, KEY, connections=2) as client:
        assert (await client.infer("m", "hello")).text == "hello"
        first.drain("nonsense", place(second))
        await until(lambda: len(second.peers) == 2)
        for number in range(20):
            assert (await client.infer("m", f"number {number}")).text == f"number {number}"
        assert (len(first.requests), len(second.requests)) == (1, 20)
        second.cut()
        await until(lambda: len(first.peers) == 2)
        assert (await client.infer("m", "back")).text == "back"
        assert len(first.requests) == 2


async def test_a_stream_that_runs_ends_where_it_began(nodes: list[TalkingNode]) -> None:
    first, second = nodes
    async with AsyncClient(first.address, KEY) as client:
        stream = client.stream("m", "walk 300")
        text = await anext(stream)
        first.drain(place(second))
        await until(lambda: second.peers)
        text += "".join([piece async for piece in stream])
        assert text == "".join(f"{number} " for number in range(300))
        assert not second.requests


async def test_who_turns_the_client_away_there_does_not_matter(nodes: list[TalkingNode]) -> None:
    first, second = nodes
    second.refuses = True
    async with AsyncClient(first.address, KEY) as client:
        await client.infer("m", "hello")
        first.drain(place(second))
        await until(lambda: second.hellos and first.peers)
        assert (await client.infer("m", "still here")).text == "still here"
    async with AsyncClient(second.address, KEY) as client:
        with pytest.raises(RejectedError):
            await client.infer("m", "hello")


async def test_a_client_of_this_machine_goes_to_no_other(nodes: list[TalkingNode]) -> None:
    first, _ = nodes
    async with AsyncClient(first.address, KEY) as client:
        await client.infer("m", "hello")
        first.drain("192.0.2.1:80", "models.example:80")
        await until(lambda: first.hellos == 2)
        assert (await client.infer("m", "still here")).text == "still here"


@contextlib.asynccontextmanager
async def serving(folder: Path, name: str, join: list[str]) -> AsyncIterator[RunningServer]:
    cluster = {"secret": "a-secret-of-the-tests", "bind": "127.0.0.1:0", "name": name, "join": join}
    await asyncio.to_thread(folder.mkdir)
    running = RunningServer(folder, {"models": [model("small", "embedded:glm-nano")], "cluster": cluster})
    await asyncio.to_thread(running.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.__exit__)


async def test_a_server_of_a_cluster_names_the_others(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(tmp_path / "one", "one", []))
        rows = (await asyncio.to_thread(one.admin_get, "/admin/v1/nodes"))["nodes"]
        two = await stack.enter_async_context(serving(tmp_path / "two", "two", [rows[0]["gossip"]]))
        address = one.url.replace("http", "mcp")
        async with AsyncClient(address, SERVER_KEY) as client, asyncio.timeout(PATIENCE_S):
            assert (await client.infer("small", "What is 1 + 1?")).model == "small"
            known: list[str] = []
            while two.url.removeprefix("http://") not in known:
                told = (await asyncio.to_thread(one.admin_get, "/admin/v1/nodes"))["nodes"]
                known = [row["address"] for row in told]
            one.process.terminate()
            await asyncio.to_thread(one.process.wait)
            assert (await client.infer("small", "What is 1 + 1?")).model == "small"
        figures = await asyncio.to_thread(two.admin_get, "/metrics")
        assert 'route="/mcp/v1/frames",model="small",status="200",code=""} 1' in figures
