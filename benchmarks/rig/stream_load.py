"""The stream load: many connections that ask for streams one after another, and check that every stream arrived whole.

Invariant: work is counted in whole streams. No stream is begun after the time is over and all begun ones are awaited,
so the CPU time between `go` and the summary belongs to exactly the streams counted. Usage: `python -m
benchmarks.rig.stream_load PORT CONNECTIONS DURATION_S paced|burst`; it prints `ready` after one stream on each
connection, waits for a line, then prints a JSON summary.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Final, cast

import httptools
import uvloop

from benchmarks.rig.payload import REQUEST_BYTES, STREAM_GAP_S, STREAM_WRITES, request_body, stream_fault, stream_writes
from benchmarks.rig.probe import post_bytes

# A stream that takes longer than this is given up, and so is the run.
STREAM_TIMEOUT_S: Final = 60.0
FAULTS_KEPT: Final = 3

_EXPECTED: Final = b"".join(stream_writes())


class Round:
    """One pass of the load: warm-up or measurement. `ends_s` is a time of the event loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ends_s: float) -> None:
        self.loop = loop
        self.ends_s = ends_s
        self.running = 0
        self.streams = 0
        self.exact = 0
        self.faults: list[str] = []
        self.first_s: list[float] = []
        self.whole_s: list[float] = []
        self.done = loop.create_future()

    def count(self, body: bytes, first_s: float, whole_s: float) -> None:
        """Takes one finished stream."""
        self.streams += 1
        self.first_s.append(first_s)
        self.whole_s.append(whole_s)
        if body == _EXPECTED:
            self.exact += 1
        elif fault := stream_fault(body):
            self.fail(fault)

    def fail(self, fault: str) -> None:
        """Notes a fault; the first few are kept."""
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(fault)

    def leave(self) -> None:
        """A connection has finished its last stream."""
        self.running -= 1
        if self.running == 0 and not self.done.done():
            self.done.set_result(None)


class Client(asyncio.Protocol):
    """One connection: asks, collects the body, hands it to its round, asks again while there is time."""

    __slots__ = ("asked_s", "connection", "first_s", "parser", "parts", "request", "round")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.round: Round | None = None
        self.connection: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.asked_s = self.first_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected to the target."""
        # uvloop's transports have the interface and not the class.
        self.connection = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection lost in the middle of a stream is a fault of the target."""
        self.connection = None
        if self.round is not None:
            self.round.fail(f"the connection was closed by the target: {exc!r}")
            self._leave(self.round)

    def begin(self, current: Round) -> None:
        """Joins a round and asks for the first stream."""
        self.round = current
        current.running += 1
        self._ask(current)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self.round is not None:
                self.round.fail(f"broken framing: {error!r}")
            if self.connection is not None:
                self.connection.abort()

    def on_body(self, body: bytes) -> None:
        """A part of the body, without the chunk framing."""
        if not self.parts and self.round is not None:
            self.first_s = time.perf_counter()
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        current = self.round
        if current is None:
            return
        now_s = time.perf_counter()
        status = self.parser.get_status_code()
        body = b"".join(self.parts)
        if status == 200:
            current.count(body, self.first_s - self.asked_s, now_s - self.asked_s)
        else:
            current.fail(f"status {status}: {body[:120]!r}")
        self.parser = httptools.HttpResponseParser(self)
        if current.loop.time() < current.ends_s and status == 200:
            self._ask(current)
        else:
            self._leave(current)

    def _ask(self, current: Round) -> None:
        if self.connection is None:
            current.fail("the target closed the connection between two streams")
            self._leave(current)
            return
        self.parts = []
        self.asked_s = time.perf_counter()
        self.connection.write(self.request)

    def _leave(self, current: Round) -> None:
        self.round = None
        current.leave()


async def run_round(clients: list[Client], duration_s: float, spread_s: float) -> Round:
    """Lets every client ask for streams for `duration_s`, beginning them evenly over `spread_s`; waits for the last."""
    loop = asyncio.get_running_loop()
    current = Round(loop, loop.time() + duration_s)
    current.running = 1
    for position, client in enumerate(clients):
        loop.call_later(spread_s * position / len(clients), client.begin, current)
    loop.call_later(spread_s + 0.001, current.leave)
    try:
        await asyncio.wait_for(asyncio.shield(current.done), duration_s + STREAM_TIMEOUT_S)
    except TimeoutError:
        current.fail(f"{current.running} streams did not end within {STREAM_TIMEOUT_S:.0f} s")
    return current


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def main(port: int, connections: int, duration_s: float, kind: str) -> None:
    """Connects, warms up, waits for a line on standard input, measures, prints the summary."""
    loop = asyncio.get_running_loop()
    request = post_bytes(request_body(REQUEST_BYTES, stream=True, burst=kind == "burst"), port)
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Client(request), "127.0.0.1", port)
        clients.append(client)
    spread_s = STREAM_GAP_S * STREAM_WRITES if kind == "paced" else 0.0
    warm = await run_round(clients, 0.0, spread_s)
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    began_s = loop.time()
    measured = await run_round(clients, duration_s, spread_s)
    summary = {
        "streams": measured.streams,
        "exact": measured.exact,
        "elapsed_s": loop.time() - began_s,
        "faults": warm.faults + measured.faults,
        "first_p50_s": quantile(measured.first_s, 0.5),
        "first_p99_s": quantile(measured.first_s, 0.99),
        "whole_p50_s": quantile(measured.whole_s, 0.5),
        "whole_p99_s": quantile(measured.whole_s, 0.99),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
