"""`autoglm node` as its users run it: a process, asked over a socket."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.node.node_process import Process
from tests.integration.node.raw_client import RawClient

from open_autoglm.cluster.settings import node_key
from open_autoglm.membership.load import read_load
from open_autoglm.protocol.opcodes import LOAD, NODE_COMMAND, NODE_RESULT, STREAM
from open_autoglm.secret import Secret

SECRET = "a secret of the tests"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Process]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    running = Process("--secret-file", str(secret), "--class", "edge", "--data-dir", str(tmp_path / "data"))
    yield running
    running.end(signal.SIGKILL)


async def connected(node: Process) -> RawClient:
    return await RawClient.connect(node.port, node_key(Secret(SECRET)).reveal())


async def test_glm_nano_answers_sums_right_alone_and_many_at_once(node: Process) -> None:
    client = await connected(node)
    sums = [(a, b) for a in range(112, 998, 61) for b in (135, 658)]
    streams = [client.ask("glm-nano", {"prompt": f"What is {a} + {b}?"}, STREAM * (a % 2)) for a, b in sums]
    for stream, (a, b) in zip(streams, sums, strict=True):
        preamble, body = await client.answer(stream)
        text = client.heard.texts.get(stream, body.get("text"))
        assert text == str(a + b)
        assert (preamble.finish, preamble.model) == ("stop", "glm-nano")
    assert any(client.heard.thoughts.values())
    await client.close()


async def test_the_command_line_says_what_it_runs_and_the_admin_listener_what_it_did(node: Process) -> None:
    assert re.search(r"^glm-nano +embedded:glm-nano +[0-9a-f]{12} +edge +4$", node.said, re.MULTILINE)
    client = await connected(node)
    await client.answer(client.ask("echo", {"prompt": "one two three"}))
    assert await asyncio.to_thread(node.get, "/healthz") == (200, '{"status":"ok"}')
    assert (await asyncio.to_thread(node.get, "/readyz"))[0] == 200
    metrics = (await asyncio.to_thread(node.get, "/metrics"))[1]
    assert 'mcp_requests_total{route="node",model="echo",status="200",code=""} 1' in metrics
    assert 'mcp_tokens_total{model="echo",kind="completion"} 3' in metrics
    assert 'mcp_connections{side="client"} 1' in metrics
    await client.close()


async def test_loads_come_by_themselves_and_commands_are_answered(node: Process) -> None:
    client = await connected(node)
    await client.until(lambda: any(opcode == LOAD for opcode, _, _ in client.heard.others))
    before = next(read_load(payload) for opcode, _, payload in client.heard.others if opcode == LOAD)
    assert (before.slots, before.running, before.queue) == (5, 0, 0)
    assert before.memory_free_bytes > 0
    client.heard.others.clear()
    stream = client.connection.open(NODE_COMMAND, client.connection.codec.encode({"command": "status"}))
    await client.until(lambda: any(opcode == NODE_RESULT for opcode, _, _ in client.heard.others))
    result = next(payload for opcode, at, payload in client.heard.others if (opcode, at) == (NODE_RESULT, stream))
    status = client.connection.codec.decode(result)
    assert (status["class"], status["draining"]) == ("edge", False)
    assert [model["name"] for model in status["models"]] == ["glm-nano", "echo"]
    await client.close()


async def test_who_has_no_key_is_turned_away(node: Process) -> None:
    for key in (None, "wrong"):
        client = await RawClient.connect(node.port, key)
        assert client.heard.closed is not None
        assert client.heard.closed[0] == "invalid_api_key"
        await client.close()


async def test_sigterm_finishes_what_runs_and_tells_the_peers(node: Process) -> None:
    client = await connected(node)
    streams = [client.ask("glm-nano", {"prompt": f"What is {a} + 4321?"}) for a in range(1000, 1040)]
    await client.until(lambda: bool(client.heard.answers))
    ended = asyncio.create_task(asyncio.to_thread(node.end))
    await client.until(lambda: client.heard.drained)
    for stream in streams:
        assert (await client.answer(stream))[0].finish == "stop"
    code, logged = await ended
    assert code == 0
    await client.until(lambda: client.heard.closed is not None)
    assert client.heard.closed is not None
    assert client.heard.closed[0] == "server_draining"
    assert "draining" in logged
    assert "Traceback" not in logged
    await client.close()


def test_ctrl_c_ends_it_too() -> None:
    running = Process()
    code, logged = running.end(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in logged


@pytest.mark.parametrize(
    ("words", "models", "said"),
    [
        ((), ("m=embedded:glm-nan",), "did you mean 'glm-nano'?"),
        ((), ("m=nowhere/model",), "no such folder or file; a source begins with one of"),
        ((), ("m=/tmp",), "has no manifest.json"),
        (("--host", "0.0.0.0"), ("m=echo:",), "give --secret-file, or listen on 127.0.0.1"),
        (("--join", "127.0.0.1:9"), ("m=echo:",), "to join a cluster takes its secret; give --secret-file"),
        (("--secret-file", "/nowhere"), ("m=echo:",), "--secret-file /nowhere cannot be read"),
        ((), ("m=echo:", "m=echo:"), "two models are called 'm'"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(words: tuple[str, ...], models: tuple[str, ...], said: str) -> None:
    code, logged = Process(*words, models=models).end()
    assert code == 1
    assert said in logged
    assert logged.count("\n") == 1


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, logged = Process("--port", str(port), models=("m=echo:",)).end()
    assert code == 1
    assert f"error: 127.0.0.1:{port} is taken; choose another one with --port" in logged
