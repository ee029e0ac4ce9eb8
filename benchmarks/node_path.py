"""What a request costs a node beside its model: the framed service with the echo engine, without a socket.

    python -m benchmarks.node_path

Frames of 64 requests come in as one block, as from a busy connection; the time is that between the block and the bytes
of all answers, best of many rounds, on one core. The model's own work, system calls and the event loop are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from open_autoglm import clock
from open_autoglm.engines.echo import EchoEngine
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.inference.service import NodeService
from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.handshake import VERSIONS, Hello
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import write_request
from open_autoglm.protocol.settings import ConnectionSettings

IN_FLIGHT = 64
BLOCKS = 20
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is 274 + 658?"}],
    "max_tokens": 64,
    "temperature": 0.0,
}


class Counter:
    """Counts answers, and takes everything else."""

    answers = 0

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        """One more."""
        self.answers += 1

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


def request_us(codec: str, flags: int, rounds: int) -> float:
    """Microseconds for each request, the best round."""
    service = NodeService({"echo": ServedModel("echo", "echo:", EchoEngine())}, asyncio.new_event_loop())
    server, _ = service.connect(lambda: None, "here", clock.monotonic())
    counter: Any = Counter()
    hello = Hello(versions=list(VERSIONS), codecs=[codec])
    client = ClientConnection(hello, counter, lambda: None, ConnectionSettings(), clock.monotonic())
    server.receive(b"".join(client.take()), clock.monotonic())
    client.receive(b"".join(server.take()), clock.monotonic())
    payload = write_request("echo") + client.codec.encode(BODY)
    best_s = float("inf")
    for _ in range(rounds):
        taken_s = 0.0
        for _ in range(BLOCKS):
            for _ in range(IN_FLIGHT):
                client.request(payload, flags, 30_000)
            block = b"".join(client.take())
            started_s = time.perf_counter()
            server.receive(block, clock.monotonic())
            answers = b"".join(server.take())
            taken_s += time.perf_counter() - started_s
            client.receive(answers, clock.monotonic())
        best_s = min(best_s, taken_s / (BLOCKS * IN_FLIGHT))
    if counter.answers != rounds * BLOCKS * IN_FLIGHT:
        raise RuntimeError(f"{counter.answers} answers")
    return round(best_s * 1e6, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    result = {
        f"{codec}, {kind}": request_us(codec, flags, rounds)
        for codec in ("msgpack", "json")
        for kind, flags in (("in one piece", 0), ("streamed", STREAM))
    }
    print(json.dumps({"us_per_request": result}, indent=2))


if __name__ == "__main__":
    main()
