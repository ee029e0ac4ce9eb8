"""The client without a loop of one's own, against a server in another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.client.talking_node import KEY, TalkingNode
from tests.integration.upstreams import wait_until

from open_autoglm.client import Client, RejectedError, RequestError, ServerError

PATIENCE_S = 10.0


@pytest.fixture
def node() -> Iterator[TalkingNode]:
    """A server that runs in a thread of its own."""
    node = TalkingNode()
    ready, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with node:
            loops.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield node
    loops[0].call_soon_threadsafe(over.set)
    thread.join(PATIENCE_S)


def test_an_answer(node: TalkingNode) -> None:
    with Client(node.address, KEY) as client:
        answer = client.infer("m", "hello", max_tokens=3)
        assert (answer.text, answer.model_version) == ("hello", "v7")
        assert node.requests[0]["max_tokens"] == 3


def test_threads_share_a_client(node: TalkingNode) -> None:
    with Client(node.address, KEY, connections=2) as client, ThreadPoolExecutor(8) as threads:
        prompts = [f"prompt {number}" for number in range(100)]
        assert [answer.text for answer in threads.map(lambda prompt: client.infer("m", prompt), prompts)] == prompts


def test_a_stream(node: TalkingNode) -> None:
    with Client(node.address, KEY) as client:
        stream = client.stream("m", "count 50")
        text = "".join(stream)
        assert text == stream.answer.text == "".join(f"{number} " for number in range(50))
        assert stream.answer.trace_id == stream.trace_id
        assert client.stream("m", "think").whole().reasoning == "Hm."
        with client.stream("m", "flood 100000") as left:
            assert next(left)
        with pytest.raises(RequestError, match="left before its end"):
            next(left)


def test_errors_come_through(node: TalkingNode) -> None:
    with Client(node.address, KEY) as client, pytest.raises(ServerError, match="as you like"):
        client.infer("m", "error overloaded")
    with Client(node.address, "wrong") as client, pytest.raises(RejectedError) as caught:
        client.infer("m", "hello")
    assert caught.value.code == "invalid_api_key"


def test_a_closed_client_says_so(node: TalkingNode) -> None:
    client = Client(node.address, KEY)
    client.infer("m", "hello")
    client.close()
    client.close()
    with pytest.raises(ServerError, match="the client is closed"):
        client.infer("m", "hello")


def test_closing_ends_what_runs(node: TalkingNode) -> None:
    client = Client(node.address, KEY)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.infer, "m", "hang")
        wait_until(lambda: node.requests, "the request has come")
        client.close()
        assert asking.exception(PATIENCE_S) is not None
