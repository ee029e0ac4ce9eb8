"""A stream over connections that are cut between any two bytes, of which the server hears late: the text is exact.

Client and server are the real ones, between them are two buffers instead of a socket. What the one has said and the
other has not read is lost with the connection, a resumption as much as its answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.client.fake_link import CODEC, FakeLink

from open_autoglm.client.address import Address
from open_autoglm.client.pool import Pool
from open_autoglm.client.stream import AnswerStream
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.opcodes import RESUMABLE, STREAM
from open_autoglm.protocol.preambles import write_request, write_response
from open_autoglm.protocol.resume import ResumeStore
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.framed_shell import Flusher

CHUNKS = 12
TEXT = "".join(f"{number}é " for number in range(CHUNKS))
TURNS = 6
HELLO = Hello(versions=["1.0"], codecs=["msgpack"], agent="test")


class Producer:
    """What the server does: one stream, chunk by chunk, on the connection that it was asked on."""

    def __init__(self) -> None:
        self.store = ResumeStore()
        self.lines = 0
        self.asked: list[tuple[ServerConnection, int]] = []
        self.produced = 0
        self.cancelled = 0

    def produce(self) -> None:
        """Say one more chunk, or the end."""
        if self.asked and self.produced <= CHUNKS:
            connection, stream = self.asked[0]
            if self.produced < CHUNKS:
                connection.chunk(stream, f"{self.produced}é ".encode())
            else:
                connection.respond(stream, write_response(1, CHUNKS, "stop", 1, "v", "m"))
            self.produced += 1


class Line:
    """One connection, from end to end; also the server's sink and the client's transport."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        producer.lines += 1
        self._token = f"token-{producer.lines}"
        self._to_server = bytearray()
        self._to_client = bytearray()
        self.server = ServerConnection(self, lambda: None, ConnectionSettings(), 0.0, producer.store)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        self.session = FramedSession(
            HELLO,
            Flusher(loop),
            ConnectionSettings(),
            0.0,
            other=lambda *frame: None,
            over=lambda session: None,
            welcomed=loop.create_future(),
        )
        self.session.shell.connection_made(self)  # type: ignore[arg-type]
        self.deliver(1000, 1000)

    def deliver(self, to_server: int, to_client: int) -> None:
        """Let so many bytes arrive."""
        data, self._to_server = bytes(self._to_server[:to_server]), self._to_server[to_server:]
        if data:
            self.server.receive(data, 0.0)
        self.collect()
        data, self._to_client = bytes(self._to_client[:to_client]), self._to_client[to_client:]
        if data:
            self.session.shell.data_received(data)

    def collect(self) -> None:
        """Take what the server has to say."""
        self._to_client += b"".join(self.server.take())

    # The server's role.

    def on_hello(self, hello: Hello) -> None:
        self.server.accept("line", self._token, "somebody")

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        self._producer.asked.append((self.server, stream))

    def on_cancel(self, stream: int) -> None:
        self._producer.cancelled += 1

    def on_credit(self, stream: int, released: int) -> None:
        pass

    def on_closed(self, code: str, message: str) -> None:
        pass

    # The client's transport.

    def write(self, data: bytes) -> None:
        self._to_server += data

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        pass

    def close(self) -> None:
        pass


class World:
    """A client, its server, and what is between them.

    Attributes:
        deaf: lines that were cut, and whose server has not heard of it.
    """

    def __init__(self) -> None:
        self.producer = Producer()
        self.link = FakeLink()
        self.pool = Pool(Address("host", 1), CODEC, [self.link], waiting_max=9, connect_timeout_s=60.0)  # type: ignore[list-item]
        self.line: Line | None = None
        self.deaf: list[Line] = []
        payload = write_request("m") + CODEC.encode({"prompt": "p"})
        self.stream = AnswerStream(self.pool, payload, STREAM | RESUMABLE, timeout_s=600.0, trace=bytes(16))

    def do(self, step: Any) -> None:
        """One step of the schedule."""
        match step:
            case "connect" if self.line is None:
                self.line = Line(self.producer)
                self.link.open(self.line.session)  # type: ignore[arg-type]
            case "cut" if self.line is not None:
                line, self.line = self.line, None
                self.deaf.append(line)
                self.link.session = None
                self.link.on_change(self.link)
                line.session.shell.connection_lost(None)
            case "hear" if self.deaf:
                self.deaf.pop(0).server.lose(0.0)
            case "produce":
                self.producer.produce()
            case (int(to_server), int(to_client)) if self.line is not None:
                self.line.deliver(to_server, to_client)

    def close(self) -> None:
        self.pool.close("closed")


async def run(schedule: list[Any]) -> tuple[str, str, int, int]:
    """Follow a schedule, then let everything arrive; returns pieces, answer, requests and cancellations."""
    world = World()
    pieces: list[str] = []

    async def read() -> None:
        pieces.extend([piece async for piece in world.stream])

    world.do("connect")
    reader = asyncio.create_task(read())
    for step in [(1000, 0), *schedule, *(["connect", "produce", (9999, 9999)] * (CHUNKS + 8))]:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        world.do(step)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert reader.done(), "the stream did not end"
    await reader
    answer = world.stream.answer.text
    world.close()
    return "".join(pieces), answer, len(world.producer.asked), world.producer.cancelled


BYTES = st.integers(0, 60)
STEPS = st.one_of(
    st.sampled_from(["connect", "connect", "produce", "produce", "cut", "hear"]),
    st.tuples(st.sampled_from([0, 1000]), BYTES),
    st.tuples(BYTES, st.sampled_from([0, 1000])),
)


@settings(max_examples=300, deadline=None)
@example(schedule=["produce", (0, 99), "cut", "connect", (99, 0), "cut", "connect", (99, 99), "produce", "cut", "hear"])
@example(schedule=["produce", (0, 10), "cut", "connect", (10, 0), "cut", "hear", "hear", "connect", (99, 7), "cut"])
@given(schedule=st.lists(STEPS, max_size=40).filter(lambda steps: steps.count("cut") <= 14))
def test_the_text_is_exact_whatever_is_lost(schedule: list[Any]) -> None:
    pieces, answer, requests, cancelled = asyncio.run(run(schedule))
    assert pieces == answer == TEXT
    assert requests == 1
    assert cancelled == 0
