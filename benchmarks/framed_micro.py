"""Microseconds that the framed protocol costs, without any socket: `python benchmarks/framed_micro.py`.

Frames are cut from blocks of 64 KiB and made one by one; a round is a request and its answer through a client's and a
server's end of a connection, 8 in flight, blocks handed from the one to the other as they are. CPU time, best of runs.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from open_autoglm.protocol import (
    CODECS,
    ClientConnection,
    ConnectionSettings,
    FrameReader,
    Hello,
    ServerConnection,
    encode_frame,
)
from open_autoglm.protocol.opcodes import INFER_REQUEST, STREAM
from open_autoglm.protocol.preambles import read_request, read_response, write_request, write_response

RUNS = 7
BODY = {"prompt": "Say in one sentence what a gateway is for.", "max_tokens": 64, "temperature": 0.7}
IN_FLIGHT = 8


class Count:
    """A sink of frames that only counts them."""

    def __init__(self) -> None:
        self.frames = 0

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        self.frames += 1


class Answering:
    """A server's role that answers at once, with `chunks` chunks before the response."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.connection: ServerConnection
        self.answer = write_response(12, 9, "stop", 1, "v1", "echo") + CODECS["msgpack"].encode({"text": "x" * 60})

    def on_hello(self, hello: Hello) -> None:
        self.connection.accept("c1")

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        connection = self.connection
        for _ in range(self.chunks):
            connection.chunk(stream, b"word ")
        connection.respond(stream, self.answer)

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AttributeError(name)


class Asking:
    """A client's role that counts answers."""

    def __init__(self) -> None:
        self.answers = 0
        self.connection: ClientConnection

    def on_welcome(self, welcome: object) -> None:
        pass

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        self.connection.consume(stream, len(payload))

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        self.answers += 1


def microseconds(work: Callable[[], int]) -> float:
    """Least CPU time per unit of some work; the work says how many units it was."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        units = work()
        best = min(best, (time.process_time() - start) / units * 1e6)
    return round(best, 3)


def decode(payload_bytes: int) -> float:
    """Cut frames out of blocks of 64 KiB."""
    frame = encode_frame(INFER_REQUEST, 1, b"x" * payload_bytes)
    data = frame * (4 * 1024 * 1024 // len(frame))
    blocks = [data[start : start + 65536] for start in range(0, len(data), 65536)]

    def work() -> int:
        sink, reader = Count(), FrameReader(1 << 20)
        for block in blocks:
            reader.feed(block, sink)
        return sink.frames

    return microseconds(work)


def encode(payload_bytes: int) -> float:
    """Make frames."""
    payload = b"x" * payload_bytes

    def work() -> int:
        for _ in range(50_000):
            encode_frame(INFER_REQUEST, 1, payload)
        return 50_000

    return microseconds(work)


def rounds(chunks: int) -> float:
    """Requests and their answers through both ends of a connection."""
    settings = ConnectionSettings()
    answering, asking = Answering(chunks), Asking()
    server = answering.connection = ServerConnection(answering, _nothing, settings, 0.0)  # type: ignore[arg-type]
    hello = Hello(versions=["1.0"], codecs=["msgpack"])
    client = asking.connection = ClientConnection(hello, asking, _nothing, settings, 0.0)  # type: ignore[arg-type]
    server.receive(b"".join(client.take()), 0.0)
    client.receive(b"".join(server.take()), 0.0)
    payload = write_request("chat") + CODECS["msgpack"].encode(BODY)
    flags = STREAM if chunks else 0

    def work() -> int:
        before = asking.answers
        for _ in range(2000 // (chunks + 1)):
            for _ in range(IN_FLIGHT):
                client.request(payload, flags, 30_000)
            server.receive(b"".join(client.take()), 0.0)
            client.receive(b"".join(server.take()), 0.0)
        return asking.answers - before

    return microseconds(work)


def preambles() -> dict[str, float]:
    """Read and write the fixed beginnings of payloads."""
    request, response = write_request("chat-large", "s-1"), write_response(12, 9, "stop", 1, "v1", "chat-large")

    def each(call: Callable[..., Any], *arguments: Any) -> float:
        def work() -> int:
            for _ in range(50_000):
                call(*arguments)
            return 50_000

        return microseconds(work)

    return {
        "read_request": each(read_request, request),
        "write_request": each(write_request, "chat-large", "s-1"),
        "read_response": each(read_response, response),
        "write_response": each(write_response, 12, 9, "stop", 1, "v1", "chat-large"),
    }


def codecs() -> dict[str, Any]:
    """Size, and microseconds to write and to read a small body."""
    table = {}
    for name in ("json", "msgpack"):
        codec = CODECS[name]
        data = codec.encode(BODY)

        def write(codec: Any = codec) -> int:
            for _ in range(50_000):
                codec.encode(BODY)
            return 50_000

        def read(codec: Any = codec, data: bytes = data) -> int:
            for _ in range(50_000):
                codec.decode(data)
            return 50_000

        table[name] = {"bytes": len(data), "encode": microseconds(write), "decode": microseconds(read)}
    return table


def _nothing() -> None:
    pass


if __name__ == "__main__":
    figures = {
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "unit": "CPU microseconds",
        "decode_frame": {f"{size} bytes": decode(size) for size in (0, 128, 1024, 8192)},
        "encode_frame": {f"{size} bytes": encode(size) for size in (0, 128, 1024, 8192)},
        "round_unary_both_ends": rounds(0),
        "round_streamed_16_chunks_both_ends": rounds(16),
        "preambles": preambles(),
        "codecs_small_body": codecs(),
    }
    print(json.dumps(figures, indent=2))
