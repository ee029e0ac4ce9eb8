"""Slow and hostile clients: thousands of sockets that hold on, while others must be served as if they were not there.

Usage: `python -m benchmarks.reliability.hostile [--sockets 2000]`. A quarter each: silent, half a head, half a body,
and readers that ask for a stream of a megabyte and take nothing. Prints JSON: what the good clients got, and when each
kind had been closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.client import Client, Question
from benchmarks.reliability.gateway import KEY, running_gateway
from benchmarks.reliability.load import Load, summary
from benchmarks.reliability.station import Station, answer_text
from open_autoglm.testing.reply import FOREVER, Reply, Steps

REPEAT = 3000
"""A stream of sixty such tokens is more than all buffers on its way hold."""
KINDS = ("silent", "half_head", "half_body", "slow_reader")
BOUND_S = 45.0
GOOD_RATE = 100.0


def opening(kind: str) -> bytes:
    """What a hostile client of this kind sends, all it ever sends."""
    body = json.dumps({"model": "flood", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    match kind:
        case "silent":
            return b""
        case "half_head":
            return head[: len(head) // 2]
        case "half_body":
            return head + body[: len(body) // 2]
        case _:
            return head + body


def flood(reply: Reply) -> Steps:
    """A long stream, as fast as it is read, and then nothing more."""
    reply.begin()
    reply.tokens = [token * REPEAT for token in reply.tokens]
    yield from reply.say()
    yield FOREVER


class Holder:
    """One hostile client: notes when it was closed. A slow reader reads nothing, so it looks at its socket's state."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        self.sock = socket.socket()
        if kind == "slow_reader":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.opened_s = time.monotonic()
        self.closed_s = 0.0
        self.sock.sendall(opening(kind))

    def look(self) -> None:
        """See whether the server has closed the connection."""
        if self.closed_s:
            return
        # tcp_info's first byte is the state; 1 is ESTABLISHED.
        state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state != 1:
            self.closed_s = time.monotonic()
            self.sock.close()


async def measure(sockets: int) -> dict[str, Any]:
    """Run it all; see the module."""
    async with Station() as good, Station(behaviour=flood) as flooding:
        models = [{"name": "chat", "endpoint": good.url}, {"name": "flood", "endpoint": flooding.url}]
        with tempfile.TemporaryDirectory() as folder, running_gateway(Path(folder), {"models": models}) as gateway:
            return await _hold(sockets, gateway.port)


async def _hold(sockets: int, port: int) -> dict[str, Any]:
    client = Client("127.0.0.1", port, answer_text)

    def make(rng: random.Random, number: int) -> Question:
        return Question(f"good {number}", key=KEY, stream=rng.random() < 0.5)

    before = Load(client, GOOD_RATE, make, 1)
    await before.run(5.0)
    load = Load(client, GOOD_RATE, make, 2)
    running = asyncio.create_task(load.run(BOUND_S + 30.0))
    holders = []
    for number in range(sockets):
        holders.append(Holder(KINDS[number % len(KINDS)], port))
        if number % 20 == 19:
            await asyncio.sleep(0.25)
    while not running.done():
        for holder in holders:
            holder.look()
        await asyncio.sleep(0.25)
    await running
    client.close()
    closed: dict[str, Any] = {}
    for kind in KINDS:
        mine = [holder for holder in holders if holder.kind == kind]
        ages = [holder.closed_s - holder.opened_s for holder in mine if holder.closed_s]
        closed[kind] = {"sockets": len(mine), "closed": len(ages), "latest_s": round(max(ages, default=0.0), 1)}
    for holder in holders:
        holder.sock.close()
    return {"alone": summary(before.outcomes), "beside_hostile": summary(load.outcomes), "closed": closed}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    print(json.dumps(uvloop.run(measure(parser.parse_args().sockets)), indent=1))


if __name__ == "__main__":
    main()
