"""One load: so many requests in flight for so long, over frames, HTTP or gRPC.

`python -m benchmarks.framed.asking frames|http|aiohttp|grpc ADDRESS --pids gateway=1,node=2`: prints figures of each
window of time as JSON. Each
answer must be the prompt. CPU time is that of this process and of those that it is told to look at, within the window.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import uvloop

KEY = "key-of-the-load"
MODEL = "echo"
PROMPT = (
    "Say in one sentence, and in words that a child would know, what it is that a gateway does for the models. " * 2
    + "Go."
)
MAX_TOKENS = 64
_WARM_S = 0.7
_HTTP_BODIES = {
    "/infer": {"model": MODEL, "prompt": PROMPT, "max_tokens": MAX_TOKENS},
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": MAX_TOKENS,
    },
}

Ask = Callable[[], Awaitable[str]]


class Window:
    """What was answered, and how fast, while it was open.

    Attributes:
        seconds: of each request.
        wrong: answers that were none.
        over: whether to stop asking.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.wrong = 0
        self.over = False

    def answered(self, began_s: float, right: bool) -> None:
        """Count an answer."""
        self.seconds.append(time.perf_counter() - began_s)
        self.wrong += not right


async def repeat(window: Window, ask: Ask) -> None:
    """Ask one request after another."""
    while not window.over:
        began_s = time.perf_counter()
        window.answered(began_s, await ask() == PROMPT)


class HttpAsker(asyncio.Protocol):
    """One keep-alive connection, as cheap as Python makes it: the answer's text is looked for, not parsed."""

    def __init__(self, window: Window, path: str, host: str) -> None:
        self._window = window
        body = json.dumps(_HTTP_BODIES[path]).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._right = json.dumps(PROMPT).encode()
        self._kept = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transports have another base
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._kept += data
        head_end = self._kept.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._kept[:head_end].lower()
        length_at = head.index(b"content-length:") + 15
        size = int(head[length_at:].split(b"\r\n", 1)[0])
        if len(self._kept) < head_end + 4 + size:
            return
        self._window.answered(self._began_s, head.startswith(b"http/1.1 200") and self._right in self._kept)
        self._kept = b""
        if self._window.over:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._window.over:
            self._window.wrong += 1
        self.ended.set_result(None)

    def _ask(self) -> None:
        self._began_s = time.perf_counter()
        self._transport.write(self._request)


async def ask_frames(given: argparse.Namespace, window: Window) -> list[Awaitable[Any]]:
    """Our client."""
    from open_autoglm.client import AsyncClient

    client = AsyncClient(given.address, KEY, connections=given.connections)

    async def ask() -> str:
        return (await client.infer(MODEL, PROMPT, max_tokens=MAX_TOKENS)).text

    return [asyncio.create_task(repeat(window, ask)) for _ in range(given.in_flight)]


async def ask_http(given: argparse.Namespace, window: Window) -> list[Awaitable[Any]]:
    """One connection for each request in flight."""
    loop = asyncio.get_running_loop()
    place, _, path = given.address.partition("/")
    host, port = place.split(":")
    askers = []
    for _ in range(given.in_flight):
        _, asker = await loop.create_connection(lambda: HttpAsker(window, f"/{path}", place), host, int(port))
        askers.append(asker.ended)
    return askers


async def ask_aiohttp(given: argparse.Namespace, window: Window) -> list[Awaitable[Any]]:
    """aiohttp's client, as applications use it."""
    import aiohttp

    path = "/" + given.address.partition("/")[2]
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"Authorization": f"Bearer {KEY}"}, raise_for_status=True
    )

    async def ask() -> str:
        async with session.post(f"http://{given.address}", json=_HTTP_BODIES[path]) as answer:
            return str((await answer.json())["text"])

    return [asyncio.create_task(repeat(window, ask)) for _ in range(given.in_flight)]


async def ask_grpc(given: argparse.Namespace, window: Window) -> list[Awaitable[Any]]:
    """grpc.aio's client."""
    import grpc

    from benchmarks.framed.grpc_messages import METHOD, Ask, Told

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(given.address, options=options) for _ in range(given.connections)]
    stubs = [
        channel.unary_unary(METHOD, request_serializer=Ask.SerializeToString, response_deserializer=Told.FromString)
        for channel in channels
    ]
    metadata = (("authorization", f"Bearer {KEY}"),)

    def asks(place: int) -> Ask:
        stub = stubs[place % len(stubs)]

        async def ask() -> str:
            request = Ask(model=MODEL, prompt=PROMPT, max_tokens=MAX_TOKENS)
            return str((await stub(request, metadata=metadata, timeout=60)).text)

        return ask

    return [asyncio.create_task(repeat(window, asks(place))) for place in range(given.in_flight)]


ASKERS = {"frames": ask_frames, "http": ask_http, "aiohttp": ask_aiohttp, "grpc": ask_grpc}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process's threads that live, to the nanosecond; see proc(5) about `schedstat`."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Warm up, measure window after window, stop."""
    window = Window()
    askers = await ASKERS[given.kind](given, window)
    await asyncio.sleep(_WARM_S)
    pids = {name: int(pid) for name, _, pid in (pair.partition("=") for pair in given.pids.split(",") if pair)}
    pids["client"] = os.getpid()
    figures = [await _look(window, pids, given.seconds) for _ in range(given.windows)]
    window.over = True
    await asyncio.wait_for(asyncio.gather(*askers), 30)
    return figures


async def _look(window: Window, pids: dict[str, int], seconds: float) -> dict[str, Any]:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began_s = time.perf_counter()
    window.seconds = []
    await asyncio.sleep(seconds)
    taken = sorted(window.seconds)
    wall_s = time.perf_counter() - began_s
    cpu_s = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    count = len(taken)
    gateway_s, client_s = cpu_s.pop("gateway", 0.0), cpu_s.pop("client")
    return {
        "requests_per_s": round(count / wall_s, 1),
        "p50_ms": round(taken[count // 2] * 1e3, 4) if taken else None,
        "p99_ms": round(taken[count * 99 // 100] * 1e3, 4) if taken else None,
        "gateway_us": round(gateway_s / max(count, 1) * 1e6, 2),
        "nodes_us": round(sum(cpu_s.values()) / max(count, 1) * 1e6, 2),
        "client_us": round(client_s / max(count, 1) * 1e6, 2),
        "wrong": window.wrong,
    }


def main() -> int:
    """Print the figures; 0 when every answer was right."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("kind", choices=ASKERS)
    words.add_argument("address", help="host:port; for http with the path behind it")
    words.add_argument("--connections", type=int, default=8)
    words.add_argument("--in-flight", type=int, default=64, help="over all connections")
    words.add_argument("--seconds", type=float, default=0.5, help="of a window")
    words.add_argument("--windows", type=int, default=6)
    words.add_argument("--pids", default="", help="name=pid,…: whose CPU time to look at; one is called gateway")
    given = words.parse_args()
    figures = uvloop.run(measure(given))
    print(json.dumps(figures))
    return 1 if figures[-1]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
