"""`GET /mcp/v1/stream` and messages in JSON, through a server process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.framed.asker import Asker
from tests.integration.framed.scripted_node import ScriptedNode
from tests.integration.framed.test_framed import linked, node, port_of, serving
from tests.integration.running import KEY, RunningServer, model
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from open_autoglm import clock
from open_autoglm.protocol.client_connection import ClientConnection as Framed
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.preambles import write_request
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_session import FramedSession

__all__ = ["node"]
FIXTURES = Path(__file__).parents[2] / "data" / "fixtures" / "messages"
MODELS = ("glm-large", "m")


@pytest.fixture
async def server(tmp_path: Path, node: ScriptedNode) -> Any:
    models = [model(name, f"mcp://127.0.0.1:{node.port}") for name in MODELS]
    async with serving(tmp_path, {"models": models, "routing": {"default": "m"}}) as server:
        await linked(node)
        yield server


def opened(server: RunningServer, key: str | None = KEY, **more: Any) -> connect:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    url = f"ws://127.0.0.1:{port_of(server)}/mcp/v1/stream"
    return connect(url, subprotocols=["mcp.v1"], additional_headers=headers, proxy=None, **more)  # type: ignore[list-item]


async def said(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), 20.0))


@pytest.mark.parametrize("name", ["infer_request.json", "opcode_request.json"])
async def test_messages_of_the_fixtures_as_they_stand(server: RunningServer, name: str) -> None:
    message = (FIXTURES / name).read_bytes()
    wanted = json.loads(message)
    prompt = wanted["payload"].get("data_chunk") or wanted["payload"]["prompt"]
    async with opened(server) as socket:
        assert socket.subprotocol == "mcp.v1"
        await socket.send(message.decode())
        over_websocket = await said(socket)
    async with Asker(port_of(server), KEY) as asker:
        over_tcp = await asked_in_json(asker, message)
    for answer in (over_websocket, *over_tcp):
        assert answer["payload"]["text"] == prompt
        assert answer.get("trace_id") == wanted.get("trace_id")
        assert answer.get("session_id") == wanted.get("session_id")
        assert answer.get("opcode") == (11 if "opcode" in wanted else None)
    assert len(over_tcp) == 1


async def asked_in_json(asker: Asker, message: bytes) -> list[Any]:
    """Send MESSAGE and return what came on its stream."""
    found: list[Any] = []
    over = asyncio.Event()

    class Session(FramedSession):
        __slots__ = ()

        def on_message(self, stream: int, flags: int, payload: bytes) -> None:
            found.append(json.loads(payload))
            if flags & 0x40:
                over.set()

    asker.session.__class__ = Session
    assert asker.session.connection.message(message)
    await asyncio.wait_for(over.wait(), 20.0)
    return found


async def test_a_message_is_streamed_when_it_asks_for_that(server: RunningServer) -> None:
    message = {"type": "INFER_REQUEST", "trace_id": "t", "payload": {"prompt": "stream 3", "stream": True}}
    async with opened(server) as socket:
        await socket.send(json.dumps(message))
        answers = [await said(socket) for _ in range(4)]
    async with Asker(port_of(server), KEY) as asker:
        assert len(await asked_in_json(asker, json.dumps(message).encode())) == 4
    assert [answer["type"] for answer in answers] == ["INFER_CHUNK"] * 3 + ["INFER_RESPONSE"]
    assert [answer["payload"].get("seq") for answer in answers] == [0, 1, 2, None]


async def test_several_messages_at_once(server: RunningServer) -> None:
    async with opened(server) as socket:
        for number in range(20):
            message = {"type": "INFER_REQUEST", "trace_id": str(number), "payload": {"prompt": f"p {number}"}}
            await socket.send(json.dumps(message))
        answers = [await said(socket) for _ in range(20)]
    assert {(answer["trace_id"], answer["payload"]["text"]) for answer in answers} == {
        (str(number), f"p {number}") for number in range(20)
    }


async def test_what_is_no_message_is_answered_with_an_error(server: RunningServer) -> None:
    async with opened(server) as socket:
        for text in ("{", "[]", '{"opcode": 99, "payload": {}}', "[" * 5000):
            await socket.send(text)
            assert (await said(socket))["payload"]["code"] == "invalid_request"


@pytest.mark.parametrize("key", ["wrong", None])
async def test_text_needs_a_key_in_the_head(server: RunningServer, key: str | None) -> None:
    async with opened(server, key) as socket:
        await socket.send('{"type": "INFER_REQUEST", "payload": {"prompt": "hi"}}')
        assert (await said(socket))["payload"]["code"] == "invalid_api_key"


async def test_pages_of_others_are_not_let_in(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(server, origin="https://elsewhere.example"):
            pass
    assert refused.value.response.status_code == 403
    async with opened(server, origin=f"http://127.0.0.1:{port_of(server)}") as socket:
        await socket.send('{"type": "INFER_REQUEST", "payload": {"prompt": "hi"}}')
        assert (await said(socket))["payload"]["text"] == "hi"


async def test_other_paths_are_not_upgraded(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port_of(server)}/v1/other", proxy=None):
            pass
    assert refused.value.response.status_code in (401, 404)


class _Waiting:
    """Takes one answer."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def on_welcome(self, welcome: object) -> None: ...

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        self.payloads.append(payload)

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None: ...

    def on_error(self, stream: int, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.payloads.append(payload)

    def on_message(self, stream: int, flags: int, payload: bytes) -> None: ...

    def on_drain(self, grace_ms: int, payload: bytes) -> None: ...

    def on_credit(self, stream: int, released: int) -> None: ...

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None: ...

    def on_closed(self, code: str, message: str) -> None: ...


async def test_frames_in_binary_messages_wherever_they_are_cut(server: RunningServer) -> None:
    sink = _Waiting()
    hello = Hello(versions=["1.0"], codecs=["json"], auth=Credentials(key=KEY))
    framed = Framed(hello, sink, lambda: None, ConnectionSettings(), clock.monotonic())
    async with opened(server, None) as socket:

        async def pass_on() -> None:
            data = b"".join(framed.take())
            for start in range(0, len(data), 7):
                await socket.send(data[start : start + 7])

        await pass_on()
        while not framed.opened:
            framed.receive(await asyncio.wait_for(socket.recv(decode=False), 20.0), clock.monotonic())
        assert framed.request(write_request("m") + b'{"prompt":"over a websocket"}')
        await pass_on()
        while not sink.payloads:
            framed.receive(await asyncio.wait_for(socket.recv(decode=False), 20.0), clock.monotonic())
        await socket.send("text after frames")
        await asyncio.wait_for(socket.wait_closed(), 20.0)
    assert b"over a websocket" in sink.payloads[0]


async def test_a_slow_text_client_is_not_written_to_without_end(server: RunningServer, node: ScriptedNode) -> None:
    message = {"type": "INFER_REQUEST", "payload": {"prompt": "stream 20000", "stream": True}}
    async with opened(server, max_queue=1, max_size=None) as socket:
        await socket.send(json.dumps(message))
        await asyncio.sleep(2.0)
        assert node.sent < 12_000
        count = 0
        while (await said(socket))["type"] == "INFER_CHUNK":
            count += 1
    assert count == 20_000
