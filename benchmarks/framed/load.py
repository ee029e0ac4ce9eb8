"""`python -m benchmarks.framed.load`: CPU of the server per request on the framed path.

Client and node are one process on one core, the server another on the other core. Each of `--connections` keeps
`--in-flight` requests open. A figure is kept only if every answer was right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.framed.echo_node import serve_echo
from benchmarks.rig.accounting import cpu_seconds
from open_autoglm import clock
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import write_request
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.framed_shell import Flusher

_KEY = "key-of-the-load"
_ROOT = Path(__file__).parents[2]


class Asker:
    """Asks one request after another on a connection; see `transport.framed_session.StreamHandler`."""

    def __init__(self, session: FramedSession, load: Load) -> None:
        self._session = session
        self._load = load
        self._began_s = 0.0

    def ask(self) -> None:
        load = self._load
        self._began_s = time.perf_counter()
        self._stream = self._session.request(self, load.payload, load.flags, 0)

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        load = self._load
        load.seconds.append(time.perf_counter() - self._began_s)
        if chunks != load.chunks:
            load.wrong += 1
        if not load.over:
            self.ask()

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        self._session.consume(self._stream, len(payload))

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self._load.wrong += 1
        self._load.said = f"{status} {payload!r}"
        if not self._load.over:
            self.ask()

    def on_lost(self, detail: str) -> None:
        self._load.wrong += 1
        self._load.said = detail


class Load:
    """What all askers do, and what came of it."""

    def __init__(self, payload: bytes, flags: int, chunks: int) -> None:
        self.payload = payload
        self.flags = flags
        self.chunks = chunks
        self.seconds: list[float] = []
        self.wrong = 0
        self.said = ""
        self.over = False


def main() -> int:
    """Measure, print, and return 0 when all answers were right."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--connections", type=int, default=8)
    words.add_argument("--in-flight", type=int, default=8, help="on each connection")
    words.add_argument("--seconds", type=float, default=2.0, help="of each window")
    words.add_argument("--windows", type=int, default=5)
    words.add_argument("--chunks", type=int, default=0, help="stream so many chunks; 0: whole answers")
    words.add_argument("--codec", default="msgpack")
    words.add_argument("--direct", action="store_true", help="ask the node itself")
    words.add_argument("--profile", help="a command that is given the server's process id while it is busy")
    given = words.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    return uvloop.run(_measure(given, cores[0]))


async def _measure(given: argparse.Namespace, core: int) -> int:
    loop = asyncio.get_running_loop()
    node_port = await serve_echo(loop, given.chunks)
    with tempfile.TemporaryDirectory() as folder:
        if given.direct:
            return await _ask(given, loop, node_port, None)
        server, port = await _start_server(Path(folder), node_port, core)
        try:
            return await _ask(given, loop, port, server)
        finally:
            server.terminate()
            await asyncio.to_thread(server.wait, 30)


async def _ask(
    given: argparse.Namespace, loop: asyncio.AbstractEventLoop, port: int, server: subprocess.Popen[str] | None
) -> int:
    body = CODECS[given.codec].encode({"prompt": "a question of a few words", "max_tokens": 16})
    load = Load(write_request("echo") + body, STREAM if given.chunks else 0, given.chunks)
    sessions = [await _session(given, loop, port) for _ in range(given.connections)]
    askers = [Asker(session, load) for session in sessions for _ in range(given.in_flight)]
    for asker in askers:
        asker.ask()
    await asyncio.sleep(1.0)
    if given.profile and server:
        subprocess.Popen(f"{given.profile} {server.pid}", shell=True)  # noqa: ASYNC220
    windows = [await _window(given, load, server) for _ in range(given.windows)]
    load.over = True
    # Others disturb a window more or less; the quietest says most about us.
    windows.sort(key=lambda window: window["server_us" if server else "p50_ms"])
    print(json.dumps({"quietest": windows[0], "middle": windows[len(windows) // 2], "wrong": load.wrong}), load.said)
    return 1 if load.wrong else 0


async def _window(given: argparse.Namespace, load: Load, server: subprocess.Popen[str] | None) -> dict[str, float]:
    began_s, used_s = time.perf_counter(), cpu_seconds(server.pid) if server else 0.0
    own_s = time.process_time()
    load.seconds.clear()
    await asyncio.sleep(given.seconds)
    wall_s = time.perf_counter() - began_s
    used_s = (cpu_seconds(server.pid) if server else 0.0) - used_s
    own_s = time.process_time() - own_s
    seconds = sorted(load.seconds)
    count = len(seconds)
    figures = {
        "requests_per_s": round(count / wall_s),
        "server_us": round(used_s / count * 1e6, 2),
        "server_core": round(used_s / wall_s, 2),
        "load_core": round(own_s / wall_s, 2),
        "p50_ms": round(seconds[count // 2] * 1000, 3),
        "p99_ms": round(seconds[count * 99 // 100] * 1000, 3),
    }
    if given.chunks:
        figures["server_us_per_chunk"] = round(used_s / count / given.chunks * 1e6, 2)
    return figures


async def _session(given: argparse.Namespace, loop: asyncio.AbstractEventLoop, port: int) -> FramedSession:
    hello = Hello(versions=["1.0"], codecs=[given.codec], auth=Credentials(key=_KEY))
    session = FramedSession(
        hello,
        Flusher(loop),
        ConnectionSettings(),
        clock.monotonic(),
        other=lambda *frame: None,
        over=lambda session: None,
        welcomed=loop.create_future(),
    )
    await loop.create_connection(lambda: session.shell, "127.0.0.1", port)
    assert await session.welcomed, "the server did not let us in"
    return session


async def _start_server(folder: Path, node_port: int, core: int) -> tuple[subprocess.Popen[str], int]:
    config = {
        "server": {"port": 0, "admin_port": 0, "data_dir": str(folder)},
        "auth": {"api_key": _KEY},
        "limits": {"requests_per_second": 0},
        "logging": {"file": str(folder / "log")},
        "drain": {"accept": 0},
        "models": [{"name": "echo", "endpoint": f"mcp://127.0.0.1:{node_port}"}],
    }
    path = folder / "config.json"
    path.touch(0o600)
    path.write_text(json.dumps(config))
    server = subprocess.Popen(  # noqa: ASYNC220
        ["taskset", "-c", str(core), sys.executable, "-m", "mcp_server", "--config", str(path)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(_ROOT / "src")},
    )
    assert server.stdout is not None
    port = 0
    while True:
        line = await asyncio.to_thread(server.stdout.readline)
        assert line, "the server did not start"
        if not port and "http://" in line and "admin" not in line:
            port = int(line.split("http://")[1].split()[0].rstrip("/").rpartition(":")[2])
        if "admin listener on" in line:
            return server, port


if __name__ == "__main__":
    sys.exit(main())
