"""A server that says what a prompt asks for, in frames, and keeps streams for those who come back.

| prompt, or last message | it |
|---|---|
| `count N` | streams N chunks `0 `, `1 `, … one by one in turns of the loop, as far as there is credit, then ends |
| `walk N` | the same, a millisecond between them |
| `flood N` | streams N chunks of 1,000 bytes as fast as there is credit |
| `think` | streams thinking, an answer and a tool call |
| `error CODE` | refuses with that code |
| `hang` | says nothing |
| anything else | answers with the same text; the model `whole` says how many requests there were |
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from types import TracebackType
from typing import Any, Self, cast

from open_autoglm import clock
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.opcodes import REASONING, STREAM, TICKET_REQUEST
from open_autoglm.protocol.preambles import read_request, write_response
from open_autoglm.protocol.proof import CHALLENGE_BYTES
from open_autoglm.protocol.resume import ResumeStore
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_shell import Flusher, FramedShell

KEY = "key-of-the-node"
SIGNER = SigningKey(KEY)
CALL = {"id": "call-1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


class NodePeer:
    """One connection; see `protocol.sinks.ServerSink` and `transport.framed_shell.ShellOwner`."""

    def __init__(self, node: TalkingNode) -> None:
        self._node = node
        self.shell = FramedShell(node.flusher)
        now_s = clock.monotonic()
        self.connection = ServerConnection(self, self.shell.wake, node.settings, now_s, node.store)
        self.shell.connection, self.shell.owner = self.connection, self
        self._talks: dict[int, asyncio.Task[None]] = {}
        self._credit: dict[int, asyncio.Event] = {}

    def on_hello(self, hello: Hello) -> None:
        self._node.hellos += 1
        signature = hello.auth.signature
        if signature is not None and signature.key == SIGNER.id:
            self.connection.challenge(SIGNER, secrets.token_bytes(CHALLENGE_BYTES), self._let_in)
        else:
            self._let_in(hello.auth.key == KEY)

    def _let_in(self, known: bool) -> None:
        if not known or self._node.refuses:
            self.connection.refuse(RequestError("invalid_api_key", "this API key is not known here"))
            return
        self._node.peers.add(self)
        self.connection.accept("talking", f"token-{self._node.hellos}", "somebody")
        if self._node.draining:
            self.connection.drain(0, (), clock.monotonic())

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        node, connection = self._node, self.connection
        preamble = read_request(payload)
        body = connection.codec.decode(payload[preamble.body_at :])
        node.requests.append({**body, "session": preamble.session, "flags": flags, "remaining_ms": remaining_ms})
        prompt = str(body["messages"][-1]["content"] if "messages" in body else body.get("prompt", ""))
        word, _, rest = prompt.partition(" ")
        if word in ("count", "walk", "flood", "think") and flags & STREAM:
            self._talks[stream] = asyncio.get_running_loop().create_task(self._talk(stream, word, rest))
        elif word == "error":
            connection.fail(stream, ServerError(rest, "as you like", retry_after_s=1.5), {"request_id": "req-1"})
        elif word != "hang" or not node.hangs:
            connection.respond(stream, self._end({"text": prompt}, preamble.model))

    async def _talk(self, stream: int, word: str, rest: str) -> None:
        if word == "think":
            self.connection.chunk(stream, b"Hm.", REASONING)
            self.connection.chunk(stream, "Zwölf".encode())
            self.connection.respond(stream, self._end({"tool_calls": [CALL]}, "m", "tool_calls"))
            return
        for number in range(int(rest)):
            text = f"{number:<1000}" if word == "flood" else f"{number} "
            if self.connection.chunk(stream, text.encode()) < len(text):
                event = self._credit[stream] = asyncio.Event()
                await event.wait()
            self._node.chunks += 1
            if word != "flood":
                await asyncio.sleep(0.001 if word == "walk" else 0)
        self.connection.respond(stream, self._end({}, "m"))

    def _end(self, body: dict[str, Any], model: str, finish: str = "stop") -> bytes:
        return write_response(3, 4, finish, 1, "v7", model) + self.connection.codec.encode(body)

    def on_message(self, stream: int, payload: bytes) -> None:
        self.connection.message(stream, payload)

    def on_cancel(self, stream: int) -> None:
        self._node.cancelled += 1
        if (talk := self._talks.pop(stream, None)) is not None:
            talk.cancel()

    def on_credit(self, stream: int, released: int) -> None:
        if (event := self._credit.pop(stream, None)) is not None:
            event.set()

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        assert opcode == TICKET_REQUEST, f"opcode {opcode} came"
        self.connection.fail(stream, ServerError("not_implemented", "no tickets here"))

    def on_closed(self, code: str, message: str) -> None:
        self.shell.wake()

    def on_pause(self) -> None:
        pass

    def on_resume(self) -> None:
        pass

    def on_gone(self) -> None:
        self._node.peers.discard(self)

    def stop(self) -> None:
        """End everything."""
        for talk in self._talks.values():
            talk.cancel()
        self.shell.abort()


class TalkingNode:
    """See the module; use as a context.

    Attributes:
        requests: bodies that came, with `session`, `flags` and `remaining_ms`.
        hellos, cancelled, chunks: how often.
        peers: open connections.
        draining: whether who comes is let in and sent away; `refuses` whether nobody is let in.
        hangs: whether `hang` says nothing; else it is a text like any other.
        port: where it listens.
    """

    def __init__(
        self,
        settings: ConnectionSettings | None = None,
        *,
        keeps: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.settings = settings or ConnectionSettings()
        self.store = ResumeStore() if keeps else None
        self.requests: list[dict[str, Any]] = []
        self.hellos = self.cancelled = self.chunks = 0
        self.peers: set[NodePeer] = set()
        self.draining = self.refuses = False
        self.hangs = True
        self.port = 0
        self._all: list[NodePeer] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.flusher = Flusher(loop)
        self._listener = await loop.create_server(self._peer, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for peer in self._all:
            peer.stop()
        await asyncio.sleep(0.01)

    @property
    def address(self) -> str:
        """As clients write it."""
        return f"{'mcp' if self._tls is None else 'mcps'}://127.0.0.1:{self.port}"

    def drain(self, *alternatives: str) -> None:
        """Send everybody away, to these addresses."""
        for peer in list(self.peers):
            peer.connection.drain(1000, alternatives, clock.monotonic())

    def cut(self) -> None:
        """Break every connection."""
        for peer in list(self.peers):
            peer.shell.abort()

    def _peer(self) -> asyncio.Protocol:
        peer = NodePeer(self)
        self._all.append(peer)
        return cast(asyncio.Protocol, peer.shell)
