"""Whole calls, in frames and over gRPC: `python -m benchmarks.framed.calls`; forms of messages beside them.

A call is a request and its answer (the same text) between one client and one server of one process, one after another,
with a prompt of 100 bytes, 4 KB or 64 KB. CPU time of both ends, least of several runs. Bytes are counted by a relay
between them, in other calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
import msgspec
from tests.integration.client.talking_node import KEY, TalkingNode

from benchmarks.framed.grpc_messages import METHOD, Ask, Told
from benchmarks.rig.machine import commit, describe
from benchmarks.serialization import measure
from open_autoglm.client import AsyncClient
from open_autoglm.protocol.codecs import CODECS

RESULT = Path(__file__).resolve().parents[1] / "results" / "serialization.json"
SIZES = {"100 B": 100, "4 KB": 4096, "64 KB": 65536}
RUNS = 9
_TEXT = 'The "gateway" takes a question to one of several models,\nand brings back what that one says of it. '


def body_of(size: int) -> dict[str, Any]:
    """A request's body with a prompt of so many bytes."""
    return {"prompt": (_TEXT * (size // len(_TEXT) + 1))[:size], "max_tokens": 256, "temperature": 0.7}


class CountingRelay:
    """Passes bytes on between clients and one port, and counts them; use as a context.

    Attributes:
        asked, answered: bytes of the client's and of the server's.
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked = self.answered = self.port = 0

    async def __aenter__(self) -> CountingRelay:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks.add(asyncio.create_task(self._copy(reader, above_writer, "asked")))
        self._tasks.add(asyncio.create_task(self._copy(above_reader, writer, "answered")))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        while data := await reader.read(65536):
            setattr(self, name, getattr(self, name) + len(data))
            writer.write(data)


async def call(ask: Callable[[], Awaitable[Any]], relayed: Callable[[], Awaitable[Any]], relay: CountingRelay) -> Any:
    """Bytes on the wire and CPU of one call."""
    for _ in range(20):  # header tables and windows settle
        await relayed()
    await asyncio.sleep(0.05)
    asked, answered = relay.asked, relay.answered
    for _ in range(50):
        await relayed()
    await asyncio.sleep(0.05)
    figures: dict[str, float] = {
        "request_bytes": round((relay.asked - asked) / 50, 1),
        "answer_bytes": round((relay.answered - answered) / 50, 1),
    }
    best = float("inf")
    for _ in range(RUNS):
        began_s = time.process_time()
        for _ in range(200):
            await ask()
        best = min(best, time.process_time() - began_s)
    return {**figures, "both_ends_us": round(best / 200 * 1e6, 1)}


async def framed_call(size: int, codec: str) -> Any:
    """Our client and our connection, around a handler that sends the prompt back."""
    body = body_of(size)
    prompt = body.pop("prompt")
    async with (
        TalkingNode() as node,
        CountingRelay(node.port) as relay,
        AsyncClient(node.address, KEY, codec) as plain,
        AsyncClient(f"127.0.0.1:{relay.port}", KEY, codec) as counted,
    ):
        return await call(lambda: plain.infer("m", prompt, **body), lambda: counted.infer("m", prompt, **body), relay)


async def grpc_call(size: int) -> Any:
    """grpc.aio's client and server, around a handler that sends the prompt back."""
    prompt = body_of(size)["prompt"]

    async def infer(ask: Any, context: Any) -> Any:
        return Told(text=ask.prompt, model=ask.model, version="v7", finish_reason="stop", prompt_tokens=3)

    _, service, name = METHOD.split("/")
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        infer, request_deserializer=Ask.FromString, response_serializer=Told.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    metadata = (("authorization", f"Bearer {KEY}"),)
    async with CountingRelay(port) as relay:
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{each}") for each in (port, relay.port)]
        stubs = [
            channel.unary_unary(METHOD, request_serializer=Ask.SerializeToString, response_deserializer=Told.FromString)
            for channel in channels
        ]

        def asks(stub: Any) -> Callable[[], Awaitable[Any]]:
            return lambda: stub(
                Ask(model="m", prompt=prompt, max_tokens=256, temperature=0.7), metadata=metadata, timeout=60
            )

        figures = await call(asks(stubs[0]), asks(stubs[1]), relay)
        for channel in channels:
            await channel.close()
        await server.stop(0)
        return figures


def main() -> None:
    """Measure and keep it."""
    calls: dict[str, dict[str, Any]] = {}
    for name, size in SIZES.items():
        calls[name] = {f"frames, {codec}": asyncio.run(framed_call(size, codec)) for codec in CODECS}
        calls[name]["gRPC"] = asyncio.run(grpc_call(size))
    result = {
        "measured_at": datetime.now(UTC).isoformat(),
        **commit(),
        "machine": describe(),
        "versions": {"msgspec": msgspec.__version__, "grpcio": grpc.__version__},
        "requests": measure(),
        "calls": calls,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"requests": result["requests"], "calls": calls}, indent=1))


if __name__ == "__main__":
    main()
