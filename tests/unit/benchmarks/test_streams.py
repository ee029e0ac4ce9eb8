"""The stream upstream's framing and wheel, and the load's counting, without sockets."""

import asyncio

import httptools
from benchmarks.rig import payload
from benchmarks.rig.probe import parse_answer, post_bytes
from benchmarks.rig.stream_load import Client, Round, quantile
from benchmarks.rig.stream_upstream import SLOTS, Upstream, Wheel, wire_writes


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def upstream() -> tuple[Upstream, Pipe, Wheel]:
    wheel = Wheel(asyncio.get_running_loop())
    connection, pipe = Upstream(wheel), Pipe()
    connection.connection_made(pipe)
    return connection, pipe, wheel


def test_the_wire_carries_exactly_the_stream() -> None:
    assert parse_answer(b"".join(wire_writes())) == (200, b"".join(payload.stream_writes()))


async def test_upstream_answers_each_kind_of_request() -> None:
    connection, pipe, _ = upstream()
    connection.data_received(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert parse_answer(pipe.written) == (200, payload.models_body())
    pipe.written = b""
    connection.data_received(post_bytes(payload.request_body(), 1))
    assert parse_answer(pipe.written) == (200, payload.answer_body())
    pipe.written = b""
    request = post_bytes(payload.request_body(stream=True, burst=True), 1)
    for position in range(0, len(request), 100):
        connection.data_received(request[position : position + 100])
    assert pipe.written == b"".join(wire_writes())


async def test_a_paced_stream_begins_with_one_event_and_ends_after_65_writes() -> None:
    connection, pipe, wheel = upstream()
    connection.data_received(post_bytes(payload.request_body(stream=True), 1))
    assert pipe.written == wire_writes()[0]
    assert sum(len(slot) for slot in wheel.slots) == wheel.streams == 1
    assert len(wheel.slots) == SLOTS
    sent = 1
    while connection.send_next():
        sent += 1
    assert sent + 1 == payload.STREAM_WRITES
    assert pipe.written == b"".join(wire_writes())


async def test_a_stream_of_a_gateway_that_left_ends() -> None:
    connection, _, _ = upstream()
    connection.data_received(post_bytes(payload.request_body(stream=True), 1))
    connection.connection_lost(None)
    assert not connection.send_next()


async def load(*answers: bytes, ends_s: float = 0.0) -> tuple[Round, Pipe]:
    loop = asyncio.get_running_loop()
    client, pipe = Client(b"ask"), Pipe()
    client.connection_made(pipe)
    current = Round(loop, ends_s)
    client.begin(current)
    for answer in answers:
        client.data_received(answer)
    return current, pipe


async def test_whole_streams_are_counted_and_the_last_one_ends_the_round() -> None:
    answer = b"".join(wire_writes())
    current, pipe = await load(answer[:700], answer[700:])
    assert (current.streams, current.exact, current.faults, current.running) == (1, 1, [], 0)
    assert current.done.done()
    assert pipe.written == b"ask"


async def test_while_there_is_time_the_next_stream_is_asked_for() -> None:
    answer = b"".join(wire_writes())
    current, pipe = await load(answer, answer, ends_s=float("inf"))
    assert (current.streams, current.exact, current.running) == (2, 2, 1)
    assert pipe.written == b"ask" * 3


async def test_wrong_answers_are_faults_and_not_streams() -> None:
    refused, _ = await load(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull")
    assert refused.faults == ["status 503: b'full'"]
    assert refused.streams == 0
    short, _ = await load(b"".join(wire_writes()).replace(b"data: [DONE]", b"data: [DON_]"))
    assert "does not end with [DONE]" in short.faults[0]
    assert short.exact == 0


async def test_a_connection_lost_in_a_stream_is_a_fault() -> None:
    loop = asyncio.get_running_loop()
    client = Client(b"ask")
    client.connection_made(Pipe())
    current = Round(loop, 0.0)
    client.begin(current)
    client.connection_lost(None)
    assert "closed by the target" in current.faults[0]
    assert current.running == 0


def test_the_parser_takes_several_answers_of_one_connection() -> None:
    class Counter:
        whole = 0

        def on_message_complete(self) -> None:
            self.whole += 1

    counter = Counter()
    parser = httptools.HttpResponseParser(counter)
    parser.feed_data(b"".join(wire_writes()) * 3)
    assert counter.whole == 3


def test_quantiles() -> None:
    values = [float(value) for value in range(100)]
    assert quantile(values, 0.5) == 50.0
    assert quantile(values, 0.99) == 99.0
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) == 0.0
