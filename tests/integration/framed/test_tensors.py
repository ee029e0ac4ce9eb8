"""Requests in tensors through a server process, to node processes and to nodes that do what they are told."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.framed.scripted_node import ScriptedNode
from tests.integration.framed.test_framed import linked, port_of, serving, until
from tests.integration.node.node_process import Process
from tests.integration.running import KEY, RunningServer, model, speaking_upstream

from open_autoglm.backends.node_tensors import CONNECTION_BYTES_MAX, TENSORS_MAX
from open_autoglm.client import AsyncClient, AutoGLMError, Client, RequestError
from open_autoglm.protocol.arrays import write_array
from open_autoglm.protocol.opcodes import INFER_REQUEST, LAST, RESUMABLE, STREAM, TENSOR, TENSORS
from open_autoglm.protocol.preambles import write_request

DATA = Path(__file__).parents[2] / "data" / "onnx" / "tensorflow"
PATIENCE_S = 60.0
ONE: dict[str, Any] = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([7], np.int64)}


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    async with ScriptedNode(asyncio.get_running_loop()) as node:
        yield node


@pytest.fixture
async def server(tmp_path: Path, node: ScriptedNode) -> AsyncIterator[RunningServer]:
    entry = model("m", f"mcp://127.0.0.1:{node.port}")
    async with serving(tmp_path, {"models": [entry], "explain": {"relayed": 1}}) as server:
        await linked(node)
        yield server


def address(server: RunningServer) -> str:
    return f"mcp://127.0.0.1:{port_of(server)}"


async def code_of(asked: Any) -> str:
    with pytest.raises(AutoGLMError) as caught:
        await asked
    return caught.value.code


async def test_a_model_of_tensorflow_answers_through_the_server_as_it_does_alone(tmp_path: Path) -> None:
    running = await asyncio.to_thread(Process, "--threads", "1", models=(f"tf={DATA}", "echo=echo:"))
    try:
        url = f"mcp://127.0.0.1:{running.port}"
        models = [model(name, url) for name in ("tf", "echo")]
        cases = json.loads((DATA / "answers.json").read_text())
        async with serving(tmp_path, {"models": models}) as server:
            for place in (url, address(server)):
                for codec in ("msgpack", "json"):
                    async with AsyncClient(place, KEY, codec) as client, asyncio.timeout(PATIENCE_S):
                        for case in cases:
                            sent = {name: np.array(case[name], np.float32) for name in ("features", "scale")}
                            answer = await client.infer_tensors("tf", sent)
                            assert np.allclose(answer.tensors["scores"], case["scores"], atol=1e-6)
                            assert answer.tensors["choice"].tolist() == case["choice"]
                            assert (answer.model, len(answer.model_version)) == ("tf", 64)
                        for asked, told in (
                            (client.infer_tensors("echo", sent), "takes messages, no tensors"),
                            (client.infer_tensors("tf", {"x": sent["scale"]}), "the model takes"),
                            (client.infer("tf", "in words"), "takes tensors"),
                        ):
                            with pytest.raises(RequestError, match=told):
                                await asked
            body = {"model": "tf", "messages": [{"role": "user", "content": "in words"}]}
            over_http = await asyncio.to_thread(server.ask, body)
            assert over_http.status_code == 400
            assert "takes tensors" in over_http.json()["error"]["message"]
    finally:
        await asyncio.to_thread(running.end, signal.SIGKILL)


async def test_they_go_as_they_came_and_are_accounted_for(server: RunningServer, node: ScriptedNode) -> None:
    async with AsyncClient(address(server), KEY) as client:
        answer = await client.infer_tensors("m", ONE, timeout_s=30, session="s-1", trace_id="0a" * 16)
        for name, array in ONE.items():
            assert np.array_equal(answer.tensors[name], array)
        assert (answer.model, answer.model_version, answer.attempts) == ("m", "v7", 1)
        assert answer.trace_id == "0a" * 16
    assert node.tensors == [[write_array(name, array) for name, array in ONE.items()]]
    [(preamble, body, remaining_ms)] = node.asked
    assert (preamble.model, preamble.session, preamble.trace_id.hex()) == ("m", "s-1", "0a" * 16)
    assert body == {}
    assert 20_000 < remaining_ms <= 30_000
    figures = await asyncio.to_thread(server.admin_get, "/metrics")
    assert 'route="/mcp/v1/frames",model="m",status="200",code=""} 1' in figures
    [record] = (await asyncio.to_thread(server.admin_get, "/admin/v1/requests"))["requests"]
    size = sum(map(len, node.tensors[0]))
    assert record["model"] == "m"
    assert size <= record["bytes_in"] <= size + 200
    assert size <= record["bytes_out"] <= size + 200


async def test_large_ones_go_in_fragments_and_many_beside_each_other(server: RunningServer) -> None:
    large = {"x": np.arange(5 << 20, dtype=np.uint8), "y": np.arange(3 << 20, dtype=np.uint8)}
    async with AsyncClient(address(server), KEY, connections=2) as client, asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(client.infer_tensors("m", large | {"z": np.array([n])}) for n in range(6)))
        for number, answer in enumerate(answers):
            assert answer.tensors["z"].tolist() == [number]
            assert all(np.array_equal(answer.tensors[name], large[name]) for name in large)


async def test_another_endpoint_answers_when_one_does_not_unless_the_client_forbids_it(
    tmp_path: Path, node: ScriptedNode
) -> None:
    async with ScriptedNode(asyncio.get_running_loop()) as other:
        models = [model("m", f"mcp://127.0.0.1:{each.port}") for each in (node, other)]
        async with serving(tmp_path, {"models": models}) as server:
            await linked(node)
            await linked(other)
            async with AsyncClient(address(server), KEY) as client, asyncio.timeout(PATIENCE_S):
                for script in ("error 503", "die", "error 503"):
                    node.does, other.does = [script], []
                    answers = [await client.infer_tensors("m", ONE) for _ in range(4)]
                    assert all(np.array_equal(answer.tensors["x"], ONE["x"]) for answer in answers)
                    assert not node.does
                    assert max(answer.attempts for answer in answers) == 2
                    await until(lambda: len(node.peers) == 2)
                node.does, other.does = ["error 503"] * 20, ["error 503"] * 20
                before = len(node.asked) + len(other.asked)
                assert await code_of(client.infer_tensors("m", ONE, retry=False)) == "upstream_error"
                assert len(node.asked) + len(other.asked) == before + 1


async def test_a_deadline_and_a_cancel_reach_the_node(server: RunningServer, node: ScriptedNode) -> None:
    node.does = ["hang"] * 10
    async with AsyncClient(address(server), KEY) as client:
        late = asyncio.create_task(client.infer_tensors("m", ONE, timeout_s=5))
        await until(lambda: len(node.asked) == 1)
        assert await code_of(late) == "deadline_exceeded"
        await until(lambda: len(node.cancelled) == 1)
        task = asyncio.create_task(client.infer_tensors("m", ONE))
        await until(lambda: len(node.asked) == 2)
        task.cancel()
        await until(lambda: len(node.cancelled) == 2)
        node.does.clear()
        assert (await client.infer_tensors("m", ONE)).model_version == "v7"


async def test_limits_of_a_key_hold(tmp_path: Path, node: ScriptedNode) -> None:
    config = {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "limits": {"requests_per_minute": 2}}
    async with serving(tmp_path, config) as server:
        await linked(node)
        async with AsyncClient(address(server), KEY) as client:
            for _ in range(2):
                await client.infer_tensors("m", ONE)
            assert await code_of(client.infer_tensors("m", ONE)) == "rate_limit_exceeded"
            assert await code_of(client.infer_tensors("other", ONE)) in ("model_not_found", "rate_limit_exceeded")


async def test_models_that_are_on_no_node_say_so(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        models = [model("far", upstream.station().url), model("own", "embedded:glm-nano")]
        async with serving(tmp_path, {"models": models}) as server, AsyncClient(address(server), KEY) as client:
            for name in ("far", "own"):
                assert await code_of(client.infer_tensors(name, ONE)) == "unsupported_parameter"


async def test_what_is_too_much_or_is_none_is_refused_and_nothing_else_suffers(server: RunningServer) -> None:
    third = {"x": np.zeros(31 << 20, np.uint8)}
    async with AsyncClient(address(server), KEY) as client, asyncio.timeout(PATIENCE_S):
        session = await opened(client)
        connection = session.connection
        kept = [connection.open(TENSOR, write_array("x", third["x"])) for _ in range(4)]
        assert 5 * third["x"].nbytes > CONNECTION_BYTES_MAX
        assert await code_of(client.infer_tensors("m", third)) == "overloaded"
        for stream in kept:
            connection.cancel(stream)
        assert (await client.infer_tensors("m", third)).tensors["x"].nbytes == third["x"].nbytes
        many = {str(number): ONE["y"] for number in range(TENSORS_MAX + 1)}
        assert await code_of(client.infer_tensors("m", many)) == "request_too_large"
        assert await code_of(client.infer_tensors("m", {"x": np.zeros(33 << 20, np.uint8)})) == "request_too_large"
        for tensor, flags in (
            (write_array("x", ONE["x"])[:-1], TENSORS),
            (write_array("x", ONE["x"]), 0),
            (b"", TENSORS),
        ):
            assert await asked_rawly(client, tensor, flags) == "invalid_request"
        assert (await opened(client)) is session, "one request's mistake has ended the others"
        assert (await client.infer_tensors("m", ONE)).model_version == "v7"


async def test_flags_that_mean_nothing_beside_tensors_are_passed_over(server: RunningServer) -> None:
    async with AsyncClient(address(server), KEY) as client, asyncio.timeout(PATIENCE_S):
        for flags in (STREAM, RESUMABLE):
            assert await asked_rawly(client, write_array("x", ONE["x"]), flags | TENSORS) == ""


async def test_a_client_that_does_not_read_is_sent_one_answer_at_a_time(
    server: RunningServer, node: ScriptedNode
) -> None:
    large = {"x": np.arange(12 << 20, dtype=np.uint8)}
    async with AsyncClient(address(server), KEY) as client, asyncio.timeout(PATIENCE_S):
        session = await opened(client)
        transport = session.shell._transport
        assert transport is not None
        transport.pause_reading()
        asked = [asyncio.create_task(client.infer_tensors("m", large)) for _ in range(2)]
        await until(lambda: len(node.tensors) == 2)
        # Both answers are there, and one waits; it counts among the bytes that may be kept.
        transport.resume_reading()
        for answer in await asyncio.gather(*asked):
            assert np.array_equal(answer.tensors["x"], large["x"])
        for _ in range(CONNECTION_BYTES_MAX // large["x"].nbytes):
            await client.infer_tensors("m", {"x": large["x"][: 4 << 20]})


def test_without_a_loop(tmp_path: Path) -> None:
    running = Process("--threads", "1", models=(f"tf={DATA}", "echo=echo:"))
    case = json.loads((DATA / "answers.json").read_text())[0]
    try:
        with Client(f"mcp://127.0.0.1:{running.port}") as client:
            sent = {name: np.array(case[name], np.float32) for name in ("features", "scale")}
            assert client.infer_tensors("tf", sent).tensors["choice"].tolist() == case["choice"]
    finally:
        running.end(signal.SIGKILL)


async def opened(client: AsyncClient) -> Any:
    """The client's connection, once it is open."""
    pool = client._pool
    assert pool is not None
    await until(lambda: pool.connections)
    return pool.session()


class Heard:
    """What comes on one stream."""

    def __init__(self) -> None:
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.until_s = float("inf")

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        self.over.set_result("")

    def on_chunk(self, *_: Any) -> None: ...

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.over.set_result("invalid_request" if b"invalid_request" in payload else repr(payload))

    def on_lost(self, detail: str) -> None:
        self.over.set_result(detail)

    def expire(self) -> None: ...


async def asked_rawly(client: AsyncClient, tensor: bytes, flags: int) -> str:
    """Send a tensor, unless it is empty, and a request; return the code of the error, or nothing."""
    session = await opened(client)
    connection, heard = session.connection, Heard()
    payload = write_request("m") + connection.codec.encode({})
    if tensor:
        stream = connection.open(TENSOR, tensor, LAST)
        connection.send(INFER_REQUEST, stream, payload, flags)
    else:
        stream = connection.open(INFER_REQUEST, payload, flags)
    session.handlers[stream] = heard
    return await heard.over
