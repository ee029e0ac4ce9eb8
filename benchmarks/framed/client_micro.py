"""Microseconds that our client costs, without any socket: `python -m benchmarks.framed.client_micro`.

64 requests in flight over 8 connections whose far end answers in the next turn of the loop, by as little as finds the
streams' numbers in what was written; that is measured on its own and taken off. CPU time of a request, best of runs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import uvloop

from open_autoglm.client import AsyncClient
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.frames import HEADER, HEADER_BYTES, encode_frame
from open_autoglm.protocol.handshake import Welcome, write_welcome
from open_autoglm.protocol.opcodes import INFER_RESPONSE, WELCOME
from open_autoglm.protocol.preambles import write_response
from open_autoglm.transport.framed_client import FramedLink
from open_autoglm.transport.framed_session import FramedSession

CONNECTIONS, IN_FLIGHT = 8, 64
RUNS, REQUESTS = 20, 200
PROMPT = (
    "Say in one sentence, and in words that a child would know, what it is that a gateway does for the models. " * 2
)
_ANSWER = write_response(5, 7, "stop", 1, "v1", "echo") + CODECS["msgpack"].encode({"text": PROMPT})


def answers_to(data: bytes) -> bytes:
    """An answer for each request in a block."""
    answers = []
    at = 0
    while at < len(data):
        length, _, _, _, stream, _ = HEADER.unpack_from(data, at)
        at += HEADER_BYTES + length
        answers.append(HEADER.pack(len(_ANSWER), INFER_RESPONSE, 0, 0, stream, 0) + _ANSWER)
    return b"".join(answers)


class FarEnd(asyncio.Transport):
    """A transport whose other side answers at once."""

    def __init__(self, session: FramedSession) -> None:
        super().__init__()
        self._shell = session.shell
        self._loop = asyncio.get_running_loop()
        self._welcomed = False

    def write(self, data: Any) -> None:
        if self._welcomed:
            self._loop.call_soon(self._shell.data_received, answers_to(data))
            return
        self._welcomed = True
        welcome = encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="msgpack")))
        self._loop.call_soon(self._shell.data_received, welcome)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        pass

    abort = close


class Link(FramedLink):
    """A link without a socket."""

    async def _open(self, session: FramedSession) -> None:
        session.shell.connection_made(FarEnd(session))


async def measure() -> dict[str, Any]:
    """The client's own microseconds per request."""
    import open_autoglm.client.pool as pool

    pool.FramedLink = Link  # type: ignore[misc]
    async with AsyncClient("127.0.0.1:1", connections=CONNECTIONS) as client:

        async def ask(count: int) -> None:
            for _ in range(count):
                await client.infer("echo", PROMPT, max_tokens=64)

        async def run() -> float:
            began_s = time.process_time()
            await asyncio.gather(*(ask(REQUESTS) for _ in range(IN_FLIGHT)))
            return (time.process_time() - began_s) / REQUESTS / IN_FLIGHT

        await run()
        both_s = min([await run() for _ in range(RUNS)])
    block = encode_frame(10, 1, b"x" * 280) * CONNECTIONS
    far_s = float("inf")
    for _ in range(RUNS):
        began_s = time.process_time()
        for _ in range(2000):
            answers_to(block)
        far_s = min(far_s, (time.process_time() - began_s) / 2000 / CONNECTIONS)
    return {"client_us": round((both_s - far_s) * 1e6, 2), "far_end_us": round(far_s * 1e6, 2)}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure())))
