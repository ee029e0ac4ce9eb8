"""A node's service and a client's connection, joined without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from open_autoglm import clock
from open_autoglm.engines.model_engine import ModelEngine
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.inference.service import NodeLine, NodeService
from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.handshake import VERSIONS, Credentials, Hello, Welcome
from open_autoglm.protocol.preambles import ResponsePreamble, read_response, write_request
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.wire_error import WireError, read_error
from open_autoglm.secret import Secret


class Heard:
    """What a client was told of its streams; a `ClientSink`."""

    def __init__(self) -> None:
        self.connection: ClientConnection
        self.welcome: Welcome | None = None
        self.texts: dict[int, str] = {}
        self.thoughts: dict[int, str] = {}
        self.answers: dict[int, tuple[ResponsePreamble, dict[str, Any]]] = {}
        self.errors: dict[int, WireError] = {}
        self.others: list[tuple[int, int, bytes]] = []
        self.closed: tuple[str, str] | None = None
        self.drained = False

    def on_welcome(self, welcome: Welcome) -> None:
        self.welcome = welcome

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        assert stream not in self.answers
        preamble = read_response(payload)
        self.answers[stream] = preamble, self.connection.codec.decode(payload[preamble.body_at :])

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        assert stream not in self.answers
        told = self.thoughts if flags else self.texts
        told[stream] = told.get(stream, "") + payload.decode()
        self.connection.consume(stream, len(payload))

    def on_error(self, stream: int, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.errors[stream] = read_error(self.connection.codec, status, flags, retry_after_ms, payload)

    def on_message(self, stream: int, flags: int, payload: bytes) -> None:
        self.others.append((0, stream, payload))

    def on_drain(self, grace_ms: int, payload: bytes) -> None:
        self.drained = True

    def on_credit(self, stream: int, released: int) -> None:
        """Nothing is sent in chunks."""

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        self.others.append((opcode, stream, payload))

    def on_closed(self, code: str, message: str) -> None:
        self.closed = (code, message)


def greeting(codec: str = "msgpack", key: str | None = None) -> Hello:
    """What a client says first."""
    return Hello(versions=list(VERSIONS), codecs=[codec], auth=Credentials(key=key))


class Wired:
    """See the module.

    Args:
        engines: by the name that clients use; started by whoever made them.
        keys: as of `NodeService`.
        hello: of the client.
    """

    def __init__(
        self, engines: Mapping[str, ModelEngine], keys: tuple[Secret, ...] = (), hello: Hello | None = None
    ) -> None:
        self.models = {name: ServedModel(name, "test:", engine) for name, engine in engines.items()}
        self.service = NodeService(self.models, asyncio.get_event_loop(), keys)
        self.server, self.line = self._connect()
        self.heard = Heard()
        self.client = ClientConnection(
            hello or greeting(), self.heard, lambda: None, ConnectionSettings(), clock.monotonic()
        )
        self.heard.connection = self.client
        self.turn()

    def _connect(self) -> tuple[Any, NodeLine]:
        return self.service.connect(lambda: None, "test", clock.monotonic())

    def turn(self) -> None:
        """Carry bytes until nobody has any."""
        while self.client.out or self.server.out:
            if sent := b"".join(self.client.take()):
                self.server.receive(sent, clock.monotonic())
            if told := b"".join(self.server.take()):
                self.client.receive(told, clock.monotonic())

    def ask(self, model: str, body: dict[str, Any], flags: int = 0, remaining_ms: int = 0) -> int:
        """Send a request and return its stream."""
        stream = self.client.request(write_request(model) + self.client.codec.encode(body), flags, remaining_ms)
        self.turn()
        return stream

    async def until_ended(self, *streams: int) -> None:
        """Wait for the endings of these streams."""
        async with asyncio.timeout(20):
            while not all(stream in self.heard.answers or stream in self.heard.errors for stream in streams):
                await asyncio.sleep(0.001)
                self.turn()
