"""The framed protocol through a server process: the short cut, and everything that leaves it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.framed.asker import Answer, Asker
from tests.integration.framed.scripted_node import CHUNK, ScriptedNode
from tests.integration.running import KEY, RunningServer, chat_body, model, speaking_upstream

from open_autoglm.protocol.opcodes import NODE_COMMAND, TICKET_REQUEST

PATIENCE_S = 20.0


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    async with ScriptedNode(asyncio.get_running_loop()) as node:
        yield node


@contextlib.asynccontextmanager
async def serving(folder: Path, config: dict[str, Any]) -> AsyncIterator[RunningServer]:
    server = RunningServer(folder, config)
    await asyncio.to_thread(server.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.__exit__)


@pytest.fixture
async def server(tmp_path: Path, node: ScriptedNode) -> AsyncIterator[RunningServer]:
    async with serving(tmp_path, {"models": [model("m", f"mcp://127.0.0.1:{node.port}")]}) as server:
        await linked(node)
        yield server


async def linked(node: ScriptedNode, count: int = 1) -> None:
    await until(lambda: len(node.keys) >= count)
    await asyncio.sleep(0.1)  # until the server has read the welcome


async def until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come true"
        await asyncio.sleep(0.02)


def port_of(server: RunningServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture
async def asker(server: RunningServer) -> AsyncIterator[Asker]:
    async with Asker(port_of(server), KEY) as asker:
        yield asker


async def test_a_request_reaches_the_node_as_it_is_and_so_does_its_answer(asker: Asker, node: ScriptedNode) -> None:
    answer = await asker.ask("hello there", remaining_ms=30_000, temperature=0.5).wait()
    assert (answer.body, answer.status) == ({"text": "hello there"}, 0)
    assert answer.preamble is not None
    assert (answer.preamble.version, answer.preamble.finish, answer.preamble.completion_tokens) == ("v7", "stop", 4)
    [(preamble, body, remaining_ms)] = node.asked
    assert body == {"prompt": "hello there", "temperature": 0.5}
    assert (preamble.model, remaining_ms) == ("m", 30_000)
    assert preamble.trace_id != bytes(16)


async def test_many_requests_on_one_connection(asker: Asker) -> None:
    answers = [asker.ask(f"number {number}") for number in range(300)]
    for number, answer in enumerate(answers):
        assert (await answer.wait()).body == {"text": f"number {number}"}


async def test_figures_and_records_say_what_was_relayed(tmp_path: Path, node: ScriptedNode) -> None:
    models = [model("m", f"mcp://127.0.0.1:{node.port}")]
    async with serving(tmp_path, {"models": models, "explain": {"relayed": 1}}) as server:
        await linked(node)
        async with Asker(port_of(server), KEY) as asker:
            for _ in range(3):
                await asker.ask("hi").wait()
        figures = await asyncio.to_thread(server.admin_get, "/metrics")
        assert 'route="/mcp/v1/frames",model="m",status="200",code=""} 3' in figures
        assert 'mcp_tokens_total{model="m",kind="completion"} 12' in figures
        listed = await asyncio.to_thread(server.admin_get, "/admin/v1/requests")
        records = listed["requests"] if isinstance(listed, dict) else listed
        assert [record["model"] for record in records] == ["m", "m", "m"]


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_codecs(server: RunningServer, codec: str) -> None:
    async with Asker(port_of(server), KEY, codec) as asker:
        for text in ("一个问题", "another"):
            assert (await asker.ask(text).wait()).body["text"] == text


async def test_a_stream_passes_whole(asker: Asker) -> None:
    answer = await asker.ask("stream 700", stream=True).wait()
    assert answer.text == CHUNK * 700
    assert answer.preamble is not None
    assert answer.preamble.finish == "stop"


async def test_a_client_that_gives_no_credit_stops_the_node(asker: Asker, node: ScriptedNode) -> None:
    answer = asker.ask("stream 5000", stream=True)
    answer.consumes = False
    await asyncio.wait_for(answer.first.wait(), PATIENCE_S)
    await asyncio.sleep(0.5)
    stopped = node.sent
    assert stopped * len(CHUNK) <= 2 * 256 * 1024 + 4 * len(CHUNK)
    answer.consumes = True
    asker.session.consume(answer.stream, len(answer.text))
    await answer.wait()
    assert answer.text == CHUNK * 5000


async def test_a_cancel_reaches_the_node(asker: Asker, node: ScriptedNode) -> None:
    answer = asker.ask("hang")
    await until(lambda: node.asked)
    asker.session.cancel(answer.stream)
    await until(lambda: node.cancelled)
    assert (await asker.ask("still here").wait()).body == {"text": "still here"}


async def test_who_leaves_cancels_all_it_has_asked(server: RunningServer, node: ScriptedNode) -> None:
    async with Asker(port_of(server), KEY) as asker:
        for _ in range(5):
            asker.ask("hang")
        await until(lambda: len(node.asked) == 5)
    await until(lambda: len(node.cancelled) == 5)


async def test_an_error_that_another_endpoint_can_repair_is_never_seen(tmp_path: Path, node: ScriptedNode) -> None:
    with speaking_upstream() as upstream:
        other = model("m", upstream.station().url)
        models = [model("m", f"mcp://127.0.0.1:{node.port}"), other]
        async with serving(tmp_path, {"models": models}) as server:
            await linked(node)
            async with Asker(port_of(server), KEY) as asker:
                answers = [await asker.ask(word).wait() for word in ["error 503"] * 4 + ["die"] * 2]
    assert all(answer.status == 0 and answer.body["text"] for answer in answers)
    assert node.asked


async def test_a_refusal_is_told(asker: Asker) -> None:
    answer = await asker.ask("error 400").wait()
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    unknown = await asker.ask("hi", "no-such-model").wait()
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert unknown.error["request_id"]


async def test_time_runs_out(asker: Asker, node: ScriptedNode) -> None:
    answer = await asker.ask("hang", remaining_ms=600).wait()
    assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
    await until(lambda: node.cancelled)


async def test_a_stream_that_breaks_ends_with_an_error(asker: Asker, node: ScriptedNode) -> None:
    answer = asker.ask("stream 5000", stream=True)
    answer.consumes = False
    await asyncio.wait_for(answer.first.wait(), PATIENCE_S)
    for peer in list(node.peers):
        peer.shell.abort()
    await answer.wait()
    assert answer.error["code"] == "stream_interrupted"
    await linked(node, 4)
    assert (await asker.ask("back again").wait()).body == {"text": "back again"}


async def test_a_wrong_key_is_turned_away(server: RunningServer) -> None:
    for key in ("wrong", None):
        async with Asker(port_of(server), key) as asker:
            assert not asker.let_in


async def test_a_key_that_was_revoked_is_turned_away(server: RunningServer, asker: Asker, node: ScriptedNode) -> None:
    assert (await asker.ask("before").wait()).status == 0
    entry = model("m", f"mcp://127.0.0.1:{node.port}")
    await asyncio.to_thread(server.apply, entry, auth={"api_key": "another-key-altogether"})
    assert (await asker.ask("after").wait()).status == -1


async def test_limits_of_a_key_hold(tmp_path: Path, node: ScriptedNode) -> None:
    config = {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "limits": {"requests_per_minute": 5}}
    async with serving(tmp_path, config) as server:
        await linked(node)
        async with Asker(port_of(server), KEY) as asker:
            answers = [await asker.ask("hi").wait() for _ in range(8)]
    assert [answer.status for answer in answers] == [0] * 5 + [429] * 3
    assert answers[-1].error["retry_after_ms"] > 0


async def test_http_clients_are_served_by_nodes_too(server: RunningServer, node: ScriptedNode) -> None:
    whole = await asyncio.to_thread(server.chat, "m")
    assert whole.json()["choices"][0]["message"]["content"] == "hello"
    assert whole.json()["usage"]["completion_tokens"] == 4
    body = chat_body("m", True) | {"messages": [{"role": "user", "content": "stream 3"}]}
    streamed = await asyncio.to_thread(server.ask, body)
    assert streamed.text.count("cccc" * 250) == 3
    assert "[DONE]" in streamed.text
    assert node.asked[0][1]["messages"][0]["content"] == "hello"


async def test_framed_clients_are_served_by_others_too(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        config = {"models": [model("m", upstream.station().url)]}
        async with serving(tmp_path, config) as server, Asker(port_of(server), KEY) as asker:
            whole = await asker.ask("hello").wait()
            streamed = await asker.ask("hello", stream=True).wait()
    assert whole.status == 0
    assert whole.body["text"]
    assert whole.body["text"].encode() == streamed.text
    assert whole.preamble is not None
    assert whole.preamble.attempts == 1


async def test_draining_ends_what_runs_and_takes_nothing_new(tmp_path: Path, node: ScriptedNode) -> None:
    config = {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "drain": {"accept": 0.2, "unary": 1, "stream": 2}}
    async with serving(tmp_path, config) as server:
        await linked(node)
        async with Asker(port_of(server), KEY) as asker, Asker(port_of(server), KEY) as idle:
            stream = asker.ask("stream 5000", stream=True)
            stream.consumes = False
            hanging = asker.ask("hang")
            await asyncio.wait_for(stream.first.wait(), PATIENCE_S)
            server.process.terminate()
            await asyncio.wait_for(asker.over.wait(), PATIENCE_S)
            await asyncio.wait_for(idle.over.wait(), PATIENCE_S)
            await hanging.wait()
            assert hanging.error["code"] == "server_draining"
            await stream.wait()
            assert stream.error["code"] == "server_draining"
            assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0


async def test_what_begins_while_new_connections_are_still_taken_has_as_long_as_the_rest(
    tmp_path: Path, node: ScriptedNode
) -> None:
    drain = {"accept": 0.5, "unary": 1, "stream": 20}
    async with serving(tmp_path, {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "drain": drain}) as server:
        await linked(node)
        async with Asker(port_of(server), KEY) as early:
            server.process.terminate()
            await asyncio.wait_for(early.over.wait(), PATIENCE_S)
            async with Asker(port_of(server), KEY) as late:
                stream = late.ask("stream 1000", stream=True)
                stream.consumes = False
                await asyncio.wait_for(late.over.wait(), PATIENCE_S)
                await asyncio.sleep(5.5)  # longer than a patrol's round, in which each connection is looked at
                stream.consumes = True
                late.session.consume(stream.stream, len(stream.text))
                await stream.wait()
                assert (stream.status, stream.text) == (0, CHUNK * 1000)


async def test_junk_connections_leave_nothing_behind(server: RunningServer, asker: Asker) -> None:
    for number in range(2000):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write((b"\0MCP\x02junk", b"\0", b"\0MCP\x01\0\0\0" + b"\xff" * 40)[number % 3])
            writer.close()
    assert (await asker.ask("still here").wait()).body == {"text": "still here"}
    status = await asyncio.to_thread(server.admin_get, "/admin/v1/status")
    assert status["connections"] <= 10


async def test_what_is_between_servers_and_nodes_is_refused(asker: Asker) -> None:
    for opcode, code in ((NODE_COMMAND, "forbidden"), (TICKET_REQUEST, "invalid_request")):
        answer = Answer(asker)
        stream = asker.session.connection.open(opcode, asker.codec.encode({"command": "stop"}))
        asker.session.handlers[stream] = answer
        assert (await answer.wait()).error["code"] == code
    assert (await asker.ask("still here").wait()).body == {"text": "still here"}
