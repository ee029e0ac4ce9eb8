"""One write per turn of the loop and connection, and what a peer that does not read leads to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from open_autoglm.protocol.frames import PREFACE, encode_frame
from open_autoglm.protocol.handshake import Credentials, Hello, Welcome, write_hello, write_welcome
from open_autoglm.protocol.opcodes import HELLO, PING, WELCOME
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.framed_shell import Flusher, FramedShell


class FakeTransport(asyncio.Transport):
    """Takes what is written, and holds it back when it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Owner:
    """Notes what it is told; also the sink of a server's connection."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.connection: ServerConnection

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *given: self.told.append(name)

    def on_hello(self, hello: Hello) -> None:
        self.connection.accept("c")


def served(loop: asyncio.AbstractEventLoop, *, reads: bool = False) -> tuple[FramedShell, FakeTransport, Owner]:
    owner = Owner()
    shell = FramedShell(Flusher(loop), reads_while_paused=reads)
    owner.connection = ServerConnection(cast(Any, owner), shell.wake, ConnectionSettings(), 0.0)
    shell.connection, shell.owner = owner.connection, cast(Any, owner)
    transport = FakeTransport()
    shell.connection_made(transport)
    return shell, transport, owner


HELLO_BYTES = PREFACE + encode_frame(
    HELLO, 0, write_hello(Hello(versions=["1.0"], codecs=["json"], auth=Credentials(key="k")))
)


async def test_frames_of_one_turn_are_one_write() -> None:
    shell, transport, _ = served(asyncio.get_running_loop())
    shell.data_received(HELLO_BYTES)
    for number in range(10):
        shell.data_received(encode_frame(PING, 0, arg=number))
    assert transport.written == []
    await asyncio.sleep(0)
    assert len(transport.written) == 1
    shell.data_received(encode_frame(PING, 0, arg=11))
    await asyncio.sleep(0)
    assert len(transport.written) == 2


async def test_who_does_not_take_answers_is_not_read() -> None:
    shell, transport, owner = served(asyncio.get_running_loop())
    shell.pause_writing()
    assert (transport.reading, shell.paused) == (False, True)
    shell.resume_writing()
    assert (transport.reading, shell.paused) == (True, False)
    assert owner.told == ["on_pause", "on_resume"]


async def test_a_node_is_read_all_the_same() -> None:
    shell, transport, _ = served(asyncio.get_running_loop(), reads=True)
    shell.pause_writing()
    assert transport.reading


async def test_who_takes_nothing_for_too_long_is_closed() -> None:
    shell, transport, _ = served(asyncio.get_running_loop())
    shell.patrol_unsent(0.0, 30.0)
    transport.unsent = 1000
    for now_s in (10.0, 20.0, 39.0):
        shell.patrol_unsent(now_s, 30.0)
    assert not transport.closed
    transport.unsent = 900
    shell.patrol_unsent(41.0, 30.0)
    assert not transport.closed
    shell.patrol_unsent(72.0, 30.0)
    assert transport.closed


async def test_the_last_word_goes_out_before_the_end() -> None:
    shell, transport, owner = served(asyncio.get_running_loop())
    shell.data_received(b"\0MCP\x07")
    await asyncio.sleep(0)
    assert len(transport.written) == 1
    assert transport.closed
    shell.connection_lost(None)
    assert owner.told.count("on_closed") == 1
    assert owner.told[-1] == "on_gone"


class Handler:
    """Notes how its stream ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        self.ends.append("response")

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None: ...

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.ends.append("error")

    def on_lost(self, detail: str) -> None:
        self.ends.append("lost")


def session() -> tuple[FramedSession, FakeTransport, list[object]]:
    loop = asyncio.get_running_loop()
    over: list[object] = []
    made = FramedSession(
        Hello(versions=["1.0"], codecs=["json"]),
        Flusher(loop),
        ConnectionSettings(),
        0.0,
        other=lambda *frame: None,
        over=over.append,
        welcomed=loop.create_future(),
    )
    transport = FakeTransport()
    made.shell.connection_made(transport)
    return made, transport, over


async def test_each_request_of_a_session_is_told_its_end_once() -> None:
    made, _, over = session()
    handler, cancelled = Handler(), Handler()
    assert made.request(handler, b"x" * 20, 0, 0) == 0
    made.shell.data_received(encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="json"))))
    assert made.codec == "json"
    assert await made.welcomed
    assert made.request(handler, b"x" * 20, 0, 0) == 1
    stream = made.request(cancelled, b"x" * 20, 0, 0)
    made.cancel(stream)
    made.shell.connection_lost(None)
    made.shell.connection_lost(None)
    assert (handler.ends, cancelled.ends, over) == (["lost"], [], [made])


async def test_a_session_that_drains_takes_nothing_new_and_closes_behind_its_last_answer() -> None:
    made, transport, over = session()
    made.shell.data_received(encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="json"))))
    handler = Handler()
    assert made.request(handler, b"x" * 20, 0, 0) == 1
    made.shell.data_received(encode_frame(6, 0, b"{}", arg=1000))
    assert over == [made]
    assert made.request(Handler(), b"x" * 20, 0, 0) == 0
    assert not transport.closed
    made.shell.data_received(encode_frame(11, 1, b"y" * 20))
    assert handler.ends == ["response"]
    assert transport.closed
