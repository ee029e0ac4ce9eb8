"""The client through a server process, to a node and to the server's own models."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from tests.integration.client import talking_node
from tests.integration.client.cutting_relay import CuttingRelay
from tests.integration.client.talking_node import TalkingNode
from tests.integration.running import KEY, RunningServer, model

from open_autoglm.client import AsyncClient, RejectedError, RequestError, ServerError, UpstreamError
from open_autoglm.protocol.opcodes import RESUMABLE

PATIENCE_S = 60.0
TEXT = "".join(f"{number} " for number in range(1000))


@pytest.fixture
async def node() -> AsyncIterator[TalkingNode]:
    async with TalkingNode() as node:
        yield node


@contextlib.asynccontextmanager
async def serving(folder: Path, node: TalkingNode, **server: object) -> AsyncIterator[RunningServer]:
    """A server with the node, and with a model of its own."""
    models = [
        model("m", node.address, token=talking_node.KEY),
        model("small", "embedded:glm-nano"),
    ]
    running = RunningServer(folder, {"models": models, "server": server})
    await asyncio.to_thread(running.__enter__)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not node.peers:  # noqa: ASYNC110  # what is waited for happens in the server
                await asyncio.sleep(0.01)
        yield running
    finally:
        await asyncio.to_thread(running.__exit__)


@pytest.mark.parametrize("codec", ["msgpack", "json", "protobuf"])
async def test_answers_and_streams(tmp_path: Path, node: TalkingNode, codec: str) -> None:
    async with serving(tmp_path, node) as server, AsyncClient(server.url, KEY, codec, connections=2) as client:
        answer = await client.infer("m", "hello", max_tokens=4)
        assert (answer.text, answer.model, answer.model_version, answer.attempts) == ("hello", "m", "v7", 1)
        answers = await asyncio.gather(*(client.infer("m", f"number {number}") for number in range(100)))
        assert [each.text for each in answers] == [f"number {number}" for number in range(100)]
        for resumable in (False, True):
            assert (await client.stream("m", "count 1000", resumable=resumable).whole()).text == TEXT
        own = client.stream("small", "What is 274 + 658?", temperature=0)
        assert "".join([piece async for piece in own]) == own.answer.text == "932"
        with pytest.raises(RejectedError) as caught:
            await client.infer("unknown", "hello")
        assert (caught.value.code, caught.value.http_status) == ("model_not_found", 404)
        assert caught.value.request_id


async def test_a_stream_goes_on_wherever_its_connection_is_cut(tmp_path: Path, node: TalkingNode) -> None:
    cuts = [600, 300, 250, 1, 2000, 400, 100, 900, 3000]
    async with (
        serving(tmp_path, node) as server,
        CuttingRelay(int(server.url.rpartition(":")[2]), cuts) as relay,
        AsyncClient(relay.address, KEY, connect_timeout_s=PATIENCE_S) as client,
        asyncio.timeout(PATIENCE_S),
    ):
        answer = await client.stream("m", "walk 1000").whole()
        assert answer.text == TEXT
        assert answer.model_version == "v7"
        assert relay.broken >= 5
        [asked] = node.requests
        assert asked["prompt"] == "walk 1000", "it has not gone the short way, on which nothing is rewritten"
        assert not asked["flags"] & RESUMABLE


async def test_a_resumed_stream_whose_node_dies_is_no_whole_answer(tmp_path: Path, node: TalkingNode) -> None:
    async with (
        serving(tmp_path, node) as server,
        CuttingRelay(int(server.url.rpartition(":")[2]), [600]) as relay,
        AsyncClient(relay.address, KEY, connect_timeout_s=PATIENCE_S) as client,
        asyncio.timeout(PATIENCE_S),
    ):
        stream = client.stream("m", "walk 100000")
        text = await anext(stream)
        while not relay.broken or len(text) < 2000:
            text += await anext(stream)
        assert "".join(f"{number} " for number in range(100000)).startswith(text)
        node.cut()
        with pytest.raises(UpstreamError) as caught:
            await stream.whole()
        assert caught.value.code == "stream_interrupted"
        with pytest.raises(RequestError):
            _ = stream.answer


async def test_a_slow_reader_stops_the_node(tmp_path: Path, node: TalkingNode) -> None:
    window = 64 * 1024
    async with serving(tmp_path, node) as server, AsyncClient(server.url, KEY, window_bytes=window) as client:
        for resumable in (False, True):
            node.chunks = 0
            stream = client.stream("m", "flood 5000", resumable=resumable)
            text = await anext(stream)
            before = -1
            while before != node.chunks:  # until it has stopped
                before = node.chunks
                await asyncio.sleep(0.3)
            assert before < 2000
            text += "".join([piece async for piece in stream])
            assert text == "".join(f"{number:<1000}" for number in range(5000))


async def test_leaving_reaches_the_node(tmp_path: Path, node: TalkingNode) -> None:
    async with serving(tmp_path, node) as server, AsyncClient(server.url, KEY) as client:
        async with client.stream("m", "flood 100000") as stream:
            assert await anext(stream)
        async with asyncio.timeout(PATIENCE_S):
            while not node.cancelled:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)


async def test_wrong_keys_and_tls(tmp_path: Path, node: TalkingNode) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    models = [model("m", node.address, token=talking_node.KEY)]
    files = {"cert": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.pem")}
    running = RunningServer(tmp_path, {"models": models, "tls": files}, verify=context)
    await asyncio.to_thread(running.__enter__)
    try:
        assert running.url.startswith("https://")
        async with AsyncClient(running.url, KEY, tls=context) as client:
            assert (await client.infer("m", "hello")).text == "hello"
        async with AsyncClient(running.url, "wrong", tls=context) as client:
            with pytest.raises(RejectedError) as caught:
                await client.infer("m", "hello")
            assert caught.value.code == "invalid_api_key"
    finally:
        await asyncio.to_thread(running.__exit__)


async def test_within_a_websocket(tmp_path: Path, node: TalkingNode) -> None:
    async with serving(tmp_path, node) as server:
        address = server.url.replace("http://", "ws://")
        async with AsyncClient(address, KEY) as client:
            assert (await client.infer("m", "hello")).text == "hello"
            assert (await client.stream("m", "count 1000").whole()).text == TEXT
            assert (await client.stream("m", "flood 3000", resumable=False).whole()).text.endswith(f"{2999:<1000}")
        async with AsyncClient(address, "wrong") as client:
            with pytest.raises(RejectedError) as caught:
                await client.infer("m", "hello")
            assert caught.value.code == "invalid_api_key"
        async with AsyncClient(f"{address}/nowhere", KEY) as client:
            with pytest.raises(ServerError, match="cannot connect to ws://"):
                await client.infer("m", "hello")
