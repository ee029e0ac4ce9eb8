"""What clients notice when the server is stopped, replaced and killed.

Usage: `python -m benchmarks.reliability.lifecycle [drain|restart|kill ...]`; all three when none is named. Prints JSON.

- drain: SIGTERM with the default configuration while 100 streams of 20 s run and 100 requests/s come. A balancer looks
  at `/readyz` each second and sends nothing more once it has said 503 twice, as a load balancer does.
- restart: hot restarts in a row while requests come on kept connections, on new connections, on connections that rest
  between two requests, and as streams. Nobody is told.
- kill: SIGKILL at random times under load, and the same command again, at once.

The client never repeats a request, not even on a kept connection that turns out to be closed: every request that
gets no right answer is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.reliability.client import Client, Connection, Outcome, Question
from benchmarks.reliability.gateway import ADMIN_KEY, KEY, ROOT, Gateway, config_text, running_gateway
from benchmarks.reliability.load import Load, quantile, summary
from benchmarks.reliability.station import Station, answer_text
from open_autoglm.testing.speech import TOKENS

STREAMS: Final = 100
STREAM_S: Final = 20.0
RATE: Final = 100.0
LOOK_S: Final = 1.0
"""Between two looks of the balancer."""
LOOKS: Final = 2
"""In a row, after which it turns away."""
PATIENT: Final = {"connect": "10s", "first_token": "60s"}
"""Clients, upstream and servers share the cores, and servers that start take them all for a moment."""
RESTARTS: Final = 10
BETWEEN_S: Final = 3.0
REST_S: Final = (0.5, 1.0, 2.0, 4.0)
"""Pauses of connections that rest; those longer than `drain.accept` are closed in their rest, as by any server."""
KILLS: Final = 20
READY_GOAL_S: Final = 2.0
TURN_S: Final = 30.0


class Strict(Client):
    """A client that repeats nothing."""

    async def _take(self) -> Connection:
        connection = await super()._take()
        connection.used = False
        return connection


def _ask(prompt: str, **more: Any) -> Callable[[random.Random, int], Question]:
    return lambda rng, number: Question(f"{prompt} {number}", key=KEY, **more)


def _status(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    """Ask on a new connection; status 0 when there is no answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=2.0) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return 0, b""


async def _look(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    return await asyncio.to_thread(_status, port, path, **headers)


def _failed(outcomes: list[Outcome]) -> dict[str, Any]:
    bad = [outcome for outcome in outcomes if outcome.verdict != "right"]
    refused = sum(outcome.detail.startswith("no connection") for outcome in bad)
    return {
        "requests": len(outcomes),
        "failed": len(bad),
        "of_them_connections_refused": refused,
        "why": dict(Counter(outcome.detail for outcome in bad).most_common(5)),
    }


async def drain(folder: Path) -> dict[str, Any]:
    """SIGTERM under load; see the module."""
    async with Station(pace_s=STREAM_S / TOKENS) as station:
        config = {"models": [{"name": "chat", "endpoint": station.url}], "timeouts": PATIENT}
        with running_gateway(folder, config) as gateway:
            client = Strict("127.0.0.1", gateway.port, answer_text)
            long = [
                asyncio.create_task(client.ask(Question(f"long {number}", key=KEY, stream=True)))
                for number in range(STREAMS)
            ]
            load = Load(client, RATE, _ask("short"), seed=1)
            running = asyncio.create_task(load.run(600.0))
            await asyncio.sleep(3.0)
            told_s = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            await _turned(gateway.port)
            turned_s = time.monotonic()
            sent_after = len(load.outcomes)
            load.stop()
            await running
            streams = await asyncio.gather(*long)
            code = await asyncio.to_thread(gateway.process.wait, TURN_S)
            ended_s = time.monotonic()
            client.close()
        return {
            "streams": _failed(list(streams)),
            "unary": _failed(load.outcomes),
            "unary_before_balancer_turned": sent_after,
            "balancer_turned_after_s": round(turned_s - told_s, 2),
            "ended_after_s": round(ended_s - told_s, 2),
            "after_last_stream_s": round(ended_s - max(stream.ended_s for stream in streams), 2),
            "exit_code": code,
        }


async def _turned(port: int) -> None:
    """Look as a balancer does, until it would send nothing more."""
    bad = 0
    while True:
        code, _ = await _look(port, "/readyz")
        bad = 0 if code == 200 else bad + 1
        if bad == LOOKS:
            return
        await asyncio.sleep(LOOK_S)


async def restart(folder: Path) -> dict[str, Any]:
    """Hot restarts under load; see the module."""
    async with Station(pace_s=0.005) as station:
        config = {"models": [{"name": "chat", "endpoint": station.url}], "timeouts": PATIENT}
        with running_gateway(folder, config) as gateway:
            kept, fresh, streaming = (Strict("127.0.0.1", gateway.port, answer_text) for _ in range(3))
            loads = {
                "kept_connections": Load(kept, 200.0, _ask("kept"), seed=1),
                "new_connections": Load(fresh, 50.0, _ask("new", headers={"connection": "close"}), seed=2),
                "streams": Load(streaming, 20.0, _ask("stream", stream=True), seed=3),
            }
            resting = [_Resting(gateway.port, pause_s) for pause_s in REST_S for _ in range(4)]
            running = [asyncio.create_task(load.run(600.0)) for load in loads.values()]
            running += [asyncio.create_task(one.run()) for one in resting]
            await asyncio.sleep(BETWEEN_S)
            pids, took_s = await _restarts(gateway)
            for load in loads.values():
                load.stop()
            for one in resting:
                one.stop()
            await asyncio.gather(*running)
            codes = [await asyncio.to_thread(gateway.process.wait, TURN_S)]
            os.kill(pids[-1], signal.SIGINT)
            await _until_gone(pids)
        resting_outcomes = [outcome for one in resting for outcome in one.outcomes]
        return {
            "restarts": len(pids) - 1,
            **{name: _failed(load.outcomes) for name, load in loads.items()},
            "resting_connections": _failed(resting_outcomes),
            "latency_ms": summary(loads["kept_connections"].outcomes),
            "handed_over_after_s": {"median": quantile(took_s, 0.5), "max": max(took_s)},
            "exit_code_of_the_first": codes[0],
        }


async def _restarts(gateway: Gateway) -> tuple[list[int], list[float]]:
    pids, took_s = [gateway.process.pid], []
    for _ in range(RESTARTS):
        began_s = time.monotonic()
        os.kill(pids[-1], signal.SIGUSR2)
        while (pid := await _pid(gateway)) in (0, pids[-1]):
            if time.monotonic() - began_s > TURN_S:
                raise RuntimeError(f"no new process: {(gateway.folder / 'server.log').read_text()[-500:]}")
            await asyncio.sleep(0.05)
        took_s.append(round(time.monotonic() - began_s, 2))
        pids.append(pid)
        await asyncio.sleep(BETWEEN_S)
    return pids, took_s


async def _pid(gateway: Gateway) -> int:
    code, body = await _look(gateway.admin_port, "/admin/v1/status", authorization=f"Bearer {ADMIN_KEY}")
    return int(json.loads(body)["pid"]) if code == 200 else 0


async def _until_gone(pids: list[int]) -> None:
    until_s = time.monotonic() + TURN_S
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > until_s:
            raise RuntimeError("a process that was replaced still runs")
        await asyncio.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class _Resting:
    """One connection that rests between its requests."""

    def __init__(self, port: int, pause_s: float) -> None:
        self._client = Strict("127.0.0.1", port, answer_text)
        self._pause_s = pause_s
        self._stopped = asyncio.Event()
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Ask, rest, ask."""
        while not self._stopped.is_set():
            self.outcomes.append(await self._client.ask(Question(f"rest {len(self.outcomes)}", key=KEY)))
            try:
                await asyncio.wait_for(self._stopped.wait(), self._pause_s)
            except TimeoutError:
                continue
        self._client.close()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()


@dataclass
class _Killed:
    """What the kills have shown."""

    listening_s: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    revisions: set[str] = field(default_factory=set)


async def kill(folder: Path) -> dict[str, Any]:
    """SIGKILL at random times; see the module."""
    rng = random.Random(1)
    async with Station(pace_s=0.005) as station:
        port, admin_port = _lasting_ports(rng)
        path = folder / "config.json"
        path.write_text(
            config_text({"models": [{"name": "chat", "endpoint": station.url}], "timeouts": PATIENT}, port, admin_port)
        )
        client = Strict("127.0.0.1", port, answer_text, timeout_s=5.0)
        load = Load(client, RATE, _ask("kill"), seed=1)
        killed = _Killed()
        process = await _started(path, port, admin_port, killed)
        running = asyncio.create_task(load.run(600.0))
        try:
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(0.2, 1.5))
                process.kill()
                process.wait()
                process = await _started(path, port, admin_port, killed)
            load.stop()
            await running
            process.send_signal(signal.SIGINT)
            code = await asyncio.to_thread(process.wait, TURN_S)
        finally:
            process.kill()
            process.wait()
        verdicts = Counter(outcome.verdict for outcome in load.outcomes)
        ready_s = killed.ready_s[1:]
        return {
            "kills": KILLS,
            "listening_after_s": {"median": quantile(killed.listening_s, 0.5), "max": max(killed.listening_s)},
            "ready_after_s": {"median": quantile(ready_s, 0.5), "max": max(ready_s)},
            "cpu_until_ready_s": quantile(killed.cpu_s, 0.5),
            "within_goal": sum(value <= READY_GOAL_S for value in ready_s),
            "configurations_seen": len(killed.revisions),
            "requests": dict(verdicts),
            "wrong_answers": verdicts["wrong"],
            "exit_code": code,
        }


def _lasting_ports(rng: random.Random) -> tuple[int, int]:
    """Two free ports that stay free while nobody listens.

    Below the range that clients' own sockets are given: a client that knocks at a closed port of that range may be
    given the same port, and then it is connected to itself and the server cannot have it.
    """
    found: list[int] = []
    while len(found) < 2:
        port = rng.randrange(20_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    return found[0], found[1]


async def _started(path: Path, port: int, admin_port: int, killed: _Killed) -> subprocess.Popen[bytes]:
    """Start the server and wait until it is ready."""
    began_s = time.monotonic()
    process = _start(path)
    await _until_ready(port, "/readyz", began_s)
    killed.listening_s.append(round(time.monotonic() - began_s, 2))
    await _until_ready(admin_port, "/readyz", began_s)
    killed.ready_s.append(round(time.monotonic() - began_s, 2))
    killed.cpu_s.append(_cpu_s(process.pid))
    _, body = await _look(admin_port, "/admin/v1/config", authorization=f"Bearer {ADMIN_KEY}")
    killed.revisions.add(str({name: json.loads(body)[name] for name in ("revision", "digest")}))
    return process


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, user and system: steady where the machine is busy with other things."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(path: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "OPENAI", "OLLAMA"))}
    with (path.parent / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mcp_server", "--config", str(path)],
            env={**kept, "PYTHONPATH": str(ROOT / "src")},
            cwd=path.parent,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )


async def _until_ready(port: int, path: str, began_s: float) -> None:
    while (await _look(port, path))[0] != 200:
        if time.monotonic() - began_s > TURN_S:
            raise RuntimeError(f"nobody is ready at port {port}")
        await asyncio.sleep(0.01)


SCENARIOS: Final[dict[str, Callable[[Path], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "drain": drain,
    "restart": restart,
    "kill": kill,
}


async def measure(names: list[str]) -> dict[str, Any]:
    """Run the scenarios, one after the other."""
    results: dict[str, Any] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"lifecycle-{name}-") as folder:
            results[name] = await SCENARIOS[name](Path(folder))
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    names = parser.parse_args().names or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    print(json.dumps(uvloop.run(measure(names)), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
