"""A node that does what the prompt says, and notes what it was told.

| prompt | it |
|---|---|
| `stream N` | sends N chunks of 1,000 bytes, as far as there is credit, then the response |
| `error STATUS` | refuses with that status |
| `hang` | says nothing |
| `die` | drops the connection |
| anything else | answers with the same text |

A request in tensors is answered with the same tensors, unless `does` has one of the words above for it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from open_autoglm import clock
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.opcodes import ERROR, LAST, RETRYABLE, TENSOR, TENSORS
from open_autoglm.protocol.preambles import RequestPreamble, read_request, write_response
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_shell import Flusher, FramedShell

CHUNK = b"c" * 1000


class NodePeer:
    """One connection to the node."""

    def __init__(self, node: ScriptedNode) -> None:
        self._node = node
        self.shell = FramedShell(node.flusher)
        self.connection = ServerConnection(self, self.shell.wake, ConnectionSettings(), clock.monotonic())
        self.shell.connection, self.shell.owner = self.connection, self
        self._left: dict[int, int] = {}
        self._tensors: dict[int, list[bytes]] = {}

    def on_hello(self, hello: Hello) -> None:
        self._node.keys.append(hello.auth.key)
        self.connection.accept("scripted")

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        node = self._node
        preamble = read_request(payload)
        body = CODECS[self.connection.codec.name].decode(payload[preamble.body_at :])
        node.asked.append((preamble, body, remaining_ms))
        if flags & TENSORS:
            script = node.does.pop(0) if node.does else "tensors"
        else:
            script = str(body.get("prompt") or body["messages"][-1]["content"])
        word, _, number = script.partition(" ")
        match word:
            case "tensors":
                self._send_back(stream)
            case "stream":
                self._left[stream] = int(number)
                self._go_on(stream)
            case "error":
                fields = self.connection.codec.encode({"code": "overloaded", "message": "as the script says"})
                flags = RETRYABLE if int(number) >= 500 else 0
                self.connection.end(ERROR, stream, fields, flags, int(number))
            case "hang":
                pass
            case "die":
                self.shell.abort()
            case _:
                self._respond(stream, {"text": f"{word} {number}".strip()})

    def on_message(self, stream: int, payload: bytes) -> None:
        raise AssertionError("the server asks its nodes in frames")

    def on_cancel(self, stream: int) -> None:
        self._node.cancelled.append(stream)
        self._left.pop(stream, None)
        self._tensors.pop(stream, None)

    def on_credit(self, stream: int, released: int) -> None:
        self._go_on(stream)

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        assert opcode == TENSOR, f"opcode {opcode} came"
        self._tensors.setdefault(stream, []).append(payload)

    def on_closed(self, code: str, message: str) -> None:
        self.shell.wake()

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        self._node.peers.discard(self)

    def _go_on(self, stream: int) -> None:
        while self._left.get(stream, 0):
            self._left[stream] -= 1
            self._node.sent += 1
            if self.connection.chunk(stream, CHUNK) < len(CHUNK):
                return
        if self._left.pop(stream, None) is not None:
            self._respond(stream, {})

    def _send_back(self, stream: int) -> None:
        tensors = self._tensors.pop(stream)
        self._node.tensors.append(tensors)
        for place, tensor in enumerate(tensors, 1):
            self.connection.send(TENSOR, stream, tensor, LAST if place == len(tensors) else 0)
        self._respond(stream, {}, TENSORS)

    def _respond(self, stream: int, body: dict[str, Any], flags: int = 0) -> None:
        preamble = write_response(3, 4, "stop", 0, "v7", "node-model")
        self.connection.respond(stream, preamble + self.connection.codec.encode(body), flags)


class ScriptedNode:
    """See the module.

    Attributes:
        port: where it listens.
        asked: preamble, body and remaining milliseconds of each request.
        cancelled: streams that were cancelled.
        sent: chunks that were made.
        keys: shown in HELLO.
        does: what becomes of the next requests in tensors.
        tensors: payloads of each request that was answered with them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.flusher = Flusher(loop)
        self.asked: list[tuple[RequestPreamble, dict[str, Any], int]] = []
        self.cancelled: list[int] = []
        self.keys: list[str | None] = []
        self.sent = 0
        self.does: list[str] = []
        self.tensors: list[list[bytes]] = []
        self.port = 0
        self.peers: set[NodePeer] = set()
        self._loop = loop

    async def __aenter__(self) -> ScriptedNode:
        self._listener = await self._loop.create_server(self._peer, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for peer in list(self.peers):
            peer.shell.abort()
        await asyncio.sleep(0)

    def _peer(self) -> asyncio.Protocol:
        peer = NodePeer(self)
        self.peers.add(peer)
        return cast(asyncio.Protocol, peer.shell)
