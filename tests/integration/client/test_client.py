"""The client against a server that does as it is told, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from tests.integration.client.talking_node import CALL, KEY, TalkingNode

from open_autoglm.client import AsyncClient, AutoGLMError, RejectedError, RequestError, ServerError, UpstreamError
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE, STREAM
from open_autoglm.protocol.settings import ConnectionSettings

PATIENCE_S = 10.0


async def until(condition: Any) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in the server
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("codec", ["msgpack", "json", "protobuf"])
async def test_an_answer_says_all_that_the_server_said(codec: str) -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY, codec) as client:
        answer = await client.infer("m", "grüß dich", temperature=0.5, session="s-1", retry=False, timeout_s=30)
        assert (answer.text, answer.finish_reason, answer.model, answer.model_version) == (
            "grüß dich",
            "stop",
            "m",
            "v7",
        )
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 4, 7)
        assert len(answer.trace_id) == 32
        (request,) = node.requests
        assert 29_000 < request.pop("remaining_ms") <= 30_000
        assert request == {"prompt": "grüß dich", "temperature": 0.5, "session": "s-1", "flags": NO_RETRY}


async def test_many_requests_at_once_get_their_own_answers() -> None:
    settings = ConnectionSettings(requests_max=4)
    async with TalkingNode(settings) as node, AsyncClient(node.address, KEY, connections=2) as client:
        answers = await asyncio.gather(*(client.infer("m", f"prompt {number}") for number in range(200)))
        assert [answer.text for answer in answers] == [f"prompt {number}" for number in range(200)]
        assert len({answer.trace_id for answer in answers}) == 200
        assert node.hellos == 2


async def test_more_than_may_wait_are_refused() -> None:
    settings = ConnectionSettings(requests_max=1)
    async with TalkingNode(settings) as node, AsyncClient(node.address, KEY, waiting_max=1) as client:
        first = asyncio.create_task(client.infer("m", "hang"))
        await until(lambda: node.requests)
        second = asyncio.create_task(client.infer("m", "two"))
        await asyncio.sleep(0)
        with pytest.raises(ServerError, match="wait for room") as caught:
            await client.infer("m", "three")
        assert caught.value.code == "overloaded"
        first.cancel()
        assert (await second).text == "two"


async def test_errors_carry_what_the_server_said() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        with pytest.raises(ServerError) as caught:
            await client.infer("m", "error overloaded")
        error = caught.value
        assert (error.code, error.http_status, error.retryable, error.retry_after_s) == ("overloaded", 503, True, 1.5)
        assert error.request_id == "req-1"  # type: ignore[attr-defined]
        with pytest.raises(RequestError, match="as you like"):
            await client.infer("m", "error model_not_found")
        with pytest.raises(UpstreamError, match="as you like"):
            await client.stream("m", "error upstream_error").whole()
        assert (await client.infer("m", "still here")).text == "still here"


async def test_a_wrong_key_is_told_and_not_tried_again() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, "wrong", connections=3) as client:
        for _ in range(3):
            with pytest.raises(RejectedError) as caught:
                await client.infer("m", "hello")
            assert (caught.value.code, caught.value.http_status) == ("invalid_api_key", 401)
        await asyncio.sleep(0.3)
        assert node.hellos <= 3


async def test_nobody_there_is_told_at_once() -> None:
    async with TalkingNode() as node:
        address = node.address
    async with AsyncClient(address, KEY) as client, asyncio.timeout(PATIENCE_S):
        with pytest.raises(ServerError, match="cannot connect to mcp://127") as caught:
            await client.infer("m", "hello")
        assert (caught.value.code, caught.value.retryable) == ("no_healthy_endpoint", True)


async def test_a_server_that_drains_is_left_and_tried_again() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        node.draining = True
        with pytest.raises(ServerError, match="the peer is about to stop"):
            await client.infer("m", "hello")
        await until(lambda: node.hellos > 2)
        node.draining = False
        answer = None
        while answer is None:  # refused at once until the next connection is open
            with contextlib.suppress(ServerError):
                answer = await client.infer("m", "hello")
            await asyncio.sleep(0.01)
        assert answer.text == "hello"


async def test_a_server_that_comes_back_is_waited_for() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY, connect_timeout_s=PATIENCE_S) as client:
        await client.infer("m", "one")
        former = set(node.peers)
        node.cut()
        await until(lambda: former.isdisjoint(node.peers))  # others may have come already
        assert (await client.infer("m", "two")).text == "two"


@pytest.mark.parametrize("resumable", [False, True])
async def test_an_answer_whose_connection_is_lost_is_asked_for_again_a_few_times(resumable: bool) -> None:
    async with TalkingNode(keeps=False) as node, AsyncClient(node.address, KEY) as client, asyncio.timeout(PATIENCE_S):
        asking = asyncio.create_task(client.infer("m", "hang", timeout_s=PATIENCE_S, resumable=resumable))
        for times in range(1, 4):
            await until(lambda times=times: len(node.requests) == times)
            node.cut()
        with pytest.raises(UpstreamError) as caught:
            await asking
        assert (caught.value.code, caught.value.retryable) == ("stream_interrupted", True)
        left = [request["remaining_ms"] for request in node.requests]
        assert left == sorted(left, reverse=True)
        assert left[0] <= PATIENCE_S * 1000
        assert (await client.infer("m", "hello")).text == "hello"


async def test_the_next_connection_s_answer_is_as_good() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client, asyncio.timeout(PATIENCE_S):
        asking = asyncio.create_task(client.infer("m", "hang"))
        await until(lambda: node.requests)
        node.hangs = False
        node.cut()
        assert (await asking).text == "hang"


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_may_be_sent_once_is_lost_with_its_connection(streamed: bool) -> None:
    async with TalkingNode(keeps=False) as node, AsyncClient(node.address, KEY) as client, asyncio.timeout(PATIENCE_S):
        stream = client.stream("m", "hang", retry=False)
        asking = asyncio.create_task(stream.whole() if streamed else client.infer("m", "hang", retry=False))
        await until(lambda: node.requests)
        node.cut()
        with pytest.raises(UpstreamError) as caught:
            await asking
        assert caught.value.code == "stream_interrupted"
        await client.infer("m", "hello")
        assert len(node.requests) == 2


async def test_the_deadline_holds_while_nobody_is_there_to_ask_again() -> None:
    async with TalkingNode() as node:
        client = AsyncClient(node.address, KEY, connect_timeout_s=PATIENCE_S)
        asking = asyncio.create_task(client.infer("m", "hang", timeout_s=3.0))
        await until(lambda: node.requests)
    with pytest.raises(UpstreamError) as caught:
        await asking
    assert caught.value.code == "deadline_exceeded"
    await client.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_time_runs_out(streamed: bool) -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client, asyncio.timeout(PATIENCE_S):
        stream = client.stream("m", "hang", timeout_s=0.05)
        with pytest.raises(UpstreamError, match=r"within 0\.05 s") as caught:
            await (stream.whole() if streamed else client.infer("m", "hang", timeout_s=0.05))
        assert caught.value.code == "deadline_exceeded"
        await until(lambda: node.cancelled == 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_whoever_stops_waiting_tells_the_server(streamed: bool) -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        asking = client.stream("m", "hang").whole() if streamed else client.infer("m", "hang")
        task = asyncio.create_task(asking)
        await until(lambda: node.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: node.cancelled == 1)


async def test_a_stream_comes_in_pieces_and_ends_with_the_answer() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        stream = client.stream("m", "count 100", max_tokens=9)
        with pytest.raises(RequestError, match="read to its end"):
            stream.answer  # noqa: B018
        pieces = [piece async for piece in stream]
        text = "".join(f"{number} " for number in range(100))
        assert "".join(pieces) == stream.answer.text == text
        assert all(pieces)
        assert len(pieces) > 1
        assert stream.answer.trace_id == stream.trace_id
        assert node.requests[0]["flags"] == STREAM | RESUMABLE
        assert [piece async for piece in stream] == []


async def test_thinking_and_tool_calls_are_in_the_answer_and_not_in_the_text() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        stream = client.stream("m", "think", resumable=False)
        assert "".join([piece async for piece in stream]) == "Zwölf"
        answer = stream.answer
        assert (answer.reasoning, answer.finish_reason, stream.reasoning) == ("Hm.", "tool_calls", "Hm.")
        assert answer.tool_calls == (CALL,)
        assert node.requests[0]["flags"] == STREAM


@pytest.mark.parametrize("way", ["context", "aclose", "dropped"])
async def test_leaving_a_stream_cancels_it(way: str) -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        stream = client.stream("m", "flood 100000")
        if way == "context":
            async with stream:
                await anext(stream)
        else:
            await anext(stream)
            if way == "aclose":
                await stream.aclose()
        if way != "dropped":
            with pytest.raises(AutoGLMError, match="left before its end"):
                await anext(stream)
        del stream
        gc.collect()
        await until(lambda: node.cancelled == 1)


async def test_a_slow_reader_stops_the_server() -> None:
    window = 64 * 1024
    async with TalkingNode() as node, AsyncClient(node.address, KEY, window_bytes=window) as client:
        stream = client.stream("m", "flood 1000")
        text = await anext(stream)
        for _ in range(3):
            before = -1
            while before != node.chunks:  # until it has stopped
                before = node.chunks
                await asyncio.sleep(0.05)
            assert node.chunks * 1000 <= len(text) + 2 * window
            text += await anext(stream)
        text += "".join([piece async for piece in stream])
        assert text == "".join(f"{number:<1000}" for number in range(1000))


async def test_a_stream_goes_on_over_the_next_connection() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        pieces = []
        async for piece in (stream := client.stream("m", "walk 1000")):
            pieces.append(piece)
            if node.hellos < 4 and node.peers:
                node.cut()
        assert "".join(pieces) == "".join(f"{number} " for number in range(1000))
        assert stream.answer.usage.completion_tokens == 4
        assert node.hellos == 4
        assert len(node.requests) == 1


async def test_an_answer_may_be_gone_on_with_too() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        answer = await client.infer("m", "hello", resumable=True)
        assert (answer.text, node.requests[0]["flags"]) == ("hello", RESUMABLE)


async def test_a_stream_that_nobody_kept_ends_with_an_error() -> None:
    async with TalkingNode(keeps=False) as node, AsyncClient(node.address, KEY) as client:
        stream = client.stream("m", "count 100000")
        await anext(stream)
        node.cut()
        with pytest.raises(UpstreamError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "stream_interrupted"


async def test_a_server_that_forgot_the_stream_ends_it_with_an_error() -> None:
    async with TalkingNode() as node, AsyncClient(node.address, KEY) as client:
        stream = client.stream("m", "count 100000")
        await anext(stream)
        assert node.store is not None
        node.store._rings.clear()
        node.cut()
        with pytest.raises(UpstreamError, match="cannot go on with it"):
            async for _ in stream:
                pass


async def test_a_closed_client_says_so() -> None:
    async with TalkingNode() as node:
        client = AsyncClient(node.address, KEY)
        asking = asyncio.create_task(client.infer("m", "hang"))
        await until(lambda: node.requests)
        await client.close()
        with pytest.raises(UpstreamError, match="closed"):
            await asking
        with pytest.raises(ServerError, match="the client is closed"):
            await client.infer("m", "hello")
        await until(lambda: not node.peers)
