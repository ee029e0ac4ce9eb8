"""Both ends of a connection with recording roles, and a wire between them that tests hold in their hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from open_autoglm.protocol import (
    HEADER,
    HEADER_BYTES,
    ClientConnection,
    ConnectionSettings,
    Hello,
    ResumeStore,
    ServerConnection,
    encode_frame,
)
from open_autoglm.protocol.handshake import write_hello
from open_autoglm.protocol.opcodes import NAMES

HELLO = Hello(versions=["1.0"], codecs=["json"])


class Recording:
    """A role that notes what it hears: `calls` has the callback's name, less `on_`, and its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def take(self) -> list[tuple[Any, ...]]:
        calls, self.calls = self.calls, []
        return calls

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name[3:], *arguments))


class AcceptingServer(Recording):
    """Lets every client in."""

    def __init__(self, token: str = "", owner: str = "me") -> None:
        super().__init__()
        self.token, self.owner = token, owner
        self.connection: ServerConnection

    def on_hello(self, hello: Hello) -> None:
        self.connection.accept("c1", self.token, self.owner)


class Pair:
    """A client's end, a server's end, and what is on its way."""

    def __init__(
        self,
        hello: Hello = HELLO,
        store: ResumeStore | None = None,
        token: str = "",
        owner: str = "me",
        open_now: bool = True,
        **limits: Any,
    ) -> None:
        self.now_s = 100.0
        self.woken = 0
        settings = ConnectionSettings(**limits)
        self.asking, self.answering = Recording(), AcceptingServer(token, owner)
        self.server = ServerConnection(self.answering, self._wake, settings, self.now_s, store)
        self.answering.connection = self.server
        self.client = ClientConnection(hello, self.asking, self._wake, settings, self.now_s)
        if open_now:
            self.settle()
            self.asking.take()

    def _wake(self) -> None:
        self.woken += 1

    def to_server(self) -> bytes:
        data = b"".join(self.client.take())
        self.server.receive(data, self.now_s)
        return data

    def to_client(self) -> bytes:
        data = b"".join(self.server.take())
        self.client.receive(data, self.now_s)
        return data

    def settle(self) -> None:
        while self.client.out or self.server.out:
            self.to_server()
            self.to_client()


def opened_server(**limits: Any) -> tuple[ServerConnection, AcceptingServer]:
    """A server's end whose client has been let in, for tests that write the client's frames themselves."""
    answering = AcceptingServer()
    connection = ServerConnection(answering, lambda: None, ConnectionSettings(**limits), 0.0)
    answering.connection = connection
    connection.receive(b"\0MCP\1\0\0\0" + encode_frame(1, 0, write_hello(HELLO)), 0.0)
    connection.take()
    return connection, answering


def opened_client(**limits: Any) -> tuple[ClientConnection, Recording]:
    """A client's end that has had its WELCOME."""
    pair = Pair(**limits)
    return pair.client, pair.asking


def names(data: bytes) -> list[str]:
    """Opcodes of some frames."""
    return [NAMES.get(frame[0], str(frame[0])) for frame in frames(data)]


def frames(data: bytes) -> list[tuple[int, int, int, int, int, bytes]]:
    """Opcode, flags, aux, stream, arg and payload of each frame, read without the reader that is tested."""
    found = []
    while data:
        length, *numbers = HEADER.unpack_from(data)
        found.append((*numbers, data[HEADER_BYTES : HEADER_BYTES + length]))
        data = data[HEADER_BYTES + length :]
    return found
