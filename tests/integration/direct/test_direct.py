"""The direct path with a server and nodes in processes of their own: what it does, and what it survives."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.integration.direct.refusing_relay import RefusingRelay
from tests.integration.direct.stage import SECRET, answered, figures, nodes, serving, until, until_direct
from tests.integration.running import KEY, RunningServer

from open_autoglm.client import AsyncClient, AutoGLMError

REQUESTS = 300


async def ask(client: AsyncClient, count: int, wrong: list[str]) -> None:
    """Ask one request after another; what is not as it should be is noted."""
    for number in range(count):
        try:
            answer = await client.infer("echo", f"number {number}")
            if answer.text != f"number {number}":
                wrong.append(answer.text)
        except AutoGLMError as error:
            wrong.append(f"{error.code}: {error.message}")


async def ask_until(client: AsyncClient, stop: asyncio.Event, wrong: list[str]) -> None:
    """Ask until told to stop."""
    while not stop.is_set():
        await ask(client, 50, wrong)


async def ask_for_ever(client: AsyncClient) -> None:
    """Ask until something goes wrong."""
    async with asyncio.timeout(30):
        while True:
            await client.infer("echo", "and now")
            await asyncio.sleep(0.02)


def told(server: RunningServer) -> int:
    """What the server knows of, relayed or direct."""
    return answered(server, "frames") + answered(server, "direct")


async def test_the_node_answers_and_the_server_counts(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 1) as (node,),
        serving(tmp_path, [node.port], tickets={"requests": 100}) as server,
        AsyncClient(server.url, KEY, direct=True, connections=2) as client,
    ):
        asked = await until_direct(client)
        wrong: list[str] = []
        await asyncio.gather(*(ask(client, REQUESTS, wrong) for _ in range(4)))
        stream = client.stream("echo", "in pieces")
        assert "".join([piece async for piece in stream]) == stream.answer.text == "in pieces"
        wrong += [(await client.infer("echo", "s", session="a", priority=0)).text for _ in range(3)]  # by the server
        assert wrong == ["s"] * 3
        in_all = asked + 4 * REQUESTS + 1 + 3
        await until(lambda: told(server) == in_all)
        assert answered(server, "direct") >= REQUESTS
        tickets = sum(figures(server, "mcp_tickets_total").values())
        assert answered(server, "direct") / 100 <= tickets <= in_all / 50
        tokens = figures(server, "mcp_tokens_total")
        assert sum(tokens.values()) == 2 * (3 * asked + 2 * 4 * REQUESTS + 2 + 3)
        await until(lambda: "direct: ticket" in server.log())


async def test_no_request_is_lost_when_a_node_is_killed(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 2) as both,
        serving(tmp_path, [node.port for node in both]) as server,
        AsyncClient(server.url, KEY, direct=True, connections=2) as client,
    ):
        await until_direct(client)
        wrong: list[str] = []
        stop = asyncio.Event()
        asking = asyncio.gather(*(ask_until(client, stop, wrong) for _ in range(8)))
        await asyncio.sleep(3.0)  # the retries that a server allows follow the traffic of some seconds
        await until(lambda: client.asks_node("echo"))
        paths = client._direct
        assert paths is not None
        pool = paths._paths["echo"].pool
        assert pool is not None
        (used,) = [node for node in both if str(node.port) in str(pool._address)]
        unread = client.stream("echo", "asked of the node, read later")
        used.process.send_signal(signal.SIGKILL)
        await asyncio.sleep(0.2)
        assert (await unread.whole()).text == "asked of the node, read later"
        stop.set()
        await asking
        assert wrong == []
        await until_direct(client)  # to the other node


async def test_a_node_that_cannot_be_reached_is_asked_through_the_server(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 1) as (node,),
        RefusingRelay(node.port, b'"ticket"') as relay,
        serving(tmp_path, [relay.port]) as server,
        AsyncClient(server.url, KEY, direct=True, connect_timeout_s=2.0) as client,
    ):
        wrong: list[str] = []
        await ask(client, REQUESTS, wrong)
        await until(lambda: relay.refused)
        await ask(client, REQUESTS, wrong)
        assert (wrong, client.asks_node("echo")) == ([], False)
        assert answered(server, "frames") == 2 * REQUESTS
        relay.word = b""  # from now on it lets everybody through
        await until_direct(client)


async def test_tickets_are_renewed_before_they_end_and_end_with_their_key(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 1) as (node,),
        serving(tmp_path, [node.port], tickets={"life": "2s"}) as server,
        AsyncClient(server.url, KEY, direct=True) as client,
    ):
        await until_direct(client)
        seen = set()
        async with asyncio.timeout(30):
            while client._direct is not None and client._direct.tickets < 3:
                assert (await client.infer("echo", "still there")).text == "still there"
                seen.add(client.asks_node("echo"))
                await asyncio.sleep(0.02)
        assert seen == {True}
        models = [{"name": "echo", "endpoint": f"mcp://127.0.0.1:{node.port}", "token": SECRET}]
        await asyncio.to_thread(server.apply, *models, auth={"api_key": "another-key-of-the-tests"})
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(AutoGLMError) as caught:
            await ask_for_ever(client)
        assert caught.value.code == "invalid_api_key"
        assert asyncio.get_running_loop().time() - began_s < 2.0 + 1.0


async def test_requests_go_on_and_are_counted_when_the_server_is_restarted(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1) as (node,):
        async with serving(tmp_path, [node.port]) as server:
            port = int(server.url.rpartition(":")[2])
            client = AsyncClient(server.url, KEY, direct=True)
            await until_direct(client)
            server.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(server.process.wait)
            wrong: list[str] = []
            await ask(client, REQUESTS, wrong)
            assert wrong == []
        async with serving(tmp_path, [node.port], server={"port": port}) as server:
            # The figures of tickets of the server before come to this one, as nobody else is there.
            await until(lambda: answered(server, "direct") >= REQUESTS)
            await until_direct(client)
            await ask(client, REQUESTS, wrong)
            assert wrong == []
        await client.close()


async def test_a_key_with_limits_is_held_to_them(tmp_path: Path) -> None:
    limits = {"requests_per_second": 40, "burst": 200}
    async with (
        nodes(tmp_path, 1) as (node,),
        serving(tmp_path, [node.port], limits=limits) as server,
        AsyncClient(server.url, KEY, direct=True) as client,
    ):
        began_s = asyncio.get_running_loop().time()
        asked = await until_direct(client)
        refused = answers = 0
        for _ in range(3000):
            try:
                await client.infer("echo", "more")
                answers += 1
            except AutoGLMError as error:
                refused += error.code == "rate_limit_exceeded"
        seconds = asyncio.get_running_loop().time() - began_s
        assert answers + refused == 3000
        assert refused
        assert asked + answers <= 200 + 40 * seconds + 1
        assert answered(server, "direct") >= 0


async def test_without_a_secret_or_with_tickets_off_everything_goes_through_the_server(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 1) as (node,),
        serving(tmp_path, [node.port], tickets={"enabled": False}) as server,
        AsyncClient(server.url, KEY, direct=True) as client,
    ):
        wrong: list[str] = []
        await ask(client, REQUESTS, wrong)
        assert (wrong, client.asks_node("echo"), answered(server, "frames")) == ([], False, REQUESTS)
