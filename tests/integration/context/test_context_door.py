"""The door of `/context`: what a client that leaves, or that is slow to ask, does to the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from open_autoglm.backends.caller import Reply
from open_autoglm.errors import ServerError
from open_autoglm.secret import Secret
from open_autoglm.server.admin import build_admin, serve_admin
from open_autoglm.server.admin_listener import AdminListener
from open_autoglm.server.context_endpoint import ContextEndpoint
from open_autoglm.server.context_face import ContextFace
from open_autoglm.server.context_offer import ContextOffer
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.offer_settings import ContextSettings

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask_model", "arguments": {"model": "m", "prompt": "x"}},
}


class Slow:
    """A model that thinks until it is told to answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ask(self, member: str, messages: list[Any], **_: Any) -> Reply:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Reply(f"{member} says {messages[0].text()}, Bearer abcdef123456")


@pytest.fixture
async def slow() -> Slow:
    return Slow()


async def no_desk() -> ToolDesk:
    raise AssertionError("nothing is offered")


def face(slow: Slow) -> ContextFace:
    return ContextFace(None, slow, ContextOffer(ContextSettings(), no_desk))  # type: ignore[arg-type]


@pytest.fixture
async def listener(slow: Slow) -> AsyncIterator[AdminListener]:
    endpoint = ContextEndpoint(face(slow))
    opened = await serve_admin(build_admin(None, key=Secret("the-key"), context=endpoint))  # type: ignore[arg-type]
    yield opened
    await endpoint.close()
    await opened.close(0.1)


class Stuck:
    """What manages sessions, and never starts, or fails at once."""

    def __init__(self, problem: Exception | None) -> None:
        self._problem = problem

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        if self._problem is not None:
            raise self._problem
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize("problem", [None, OSError("broken")])
async def test_nobody_waits_for_ever_for_what_does_not_start(problem: Exception | None, slow: Slow) -> None:
    endpoint = ContextEndpoint(face(slow), load=lambda _: Stuck(problem), open_s=0.05)
    for _ in range(2):
        with pytest.raises(ServerError, match="does not start"):
            await asyncio.wait_for(endpoint.app(), 30)
    await endpoint.close()
    with pytest.raises(ServerError, match="stopping"):
        await endpoint.app()


async def test_what_was_begun_early_is_what_clients_get(slow: Slow) -> None:
    endpoint = ContextEndpoint(face(slow))
    endpoint.begin()
    endpoint.begin()
    first, second = await asyncio.gather(endpoint.app(), endpoint.app())
    assert first == second
    await endpoint.close()


async def sent(listener: AdminListener, body: bytes, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = listener.address
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST /context HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer the-key\r\n"
        "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def ask(listener: AdminListener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = json.dumps(CALL).encode()
    return await sent(listener, body, len(body))


async def test_a_client_that_leaves_stops_the_model(listener: AdminListener, slow: Slow) -> None:
    _, writer = await ask(listener)
    await asyncio.wait_for(slow.asked.wait(), 30)
    writer.close()
    await asyncio.wait_for(slow.cancelled.wait(), 30)


async def test_a_client_that_stays_gets_its_answer(listener: AdminListener, slow: Slow) -> None:
    reader, writer = await ask(listener)
    await asyncio.wait_for(slow.asked.wait(), 30)
    slow.answer.set()
    answer = json.loads((await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")[2])
    assert answer["result"]["structuredContent"]["text"] == "m says x, Bearer ***"
    assert not slow.cancelled.is_set()
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_question_is_forgotten(listener: AdminListener) -> None:
    _, writer = await sent(listener, b"{", 100)
    writer.close()
    reader, writer = await sent(listener, b"{}", 2)
    assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_server_that_stops_ends_what_runs(listener: AdminListener, slow: Slow) -> None:
    _, writer = await ask(listener)
    await asyncio.wait_for(slow.asked.wait(), 30)
    await listener.close(0.05)
    await asyncio.wait_for(slow.cancelled.wait(), 30)
    writer.close()
