"""Upstreams for measurements: in this process, or in one of its own that can be frozen, killed and cut off.

`python -m benchmarks.reliability.station PORT` serves until its standard input ends; each line there is a JSON
command, answered by one line. See `StationProcess`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import random
import signal
import socket
import sys
from functools import partial
from typing import Any

import uvloop

from benchmarks.rig.process import free_ports
from open_autoglm.testing.faults import FAULTS
from open_autoglm.testing.reply import Asked, Behaviour, Manner, Reply, Steps
from open_autoglm.testing.speech import text_of as answer_text
from open_autoglm.testing.upstream import ScriptedUpstream, answer

__all__ = ["Station", "StationProcess", "answer_text"]

_FILL = 400
"""Connections that fill a listener's queue, so that further ones hang."""
_COMMAND_S = 10.0


def slotted(slots: int, service_s: float) -> Behaviour:
    """A server that works on so many requests at once, first come first served, each for `service_s` seconds."""
    free_s = [0.0] * slots

    def serve(reply: Reply) -> Steps:
        now_s = asyncio.get_running_loop().time()
        end_s = max(now_s, heapq.heappop(free_s)) + service_s
        heapq.heappush(free_s, end_s)
        yield end_s - now_s
        yield from answer(reply)

    return serve


class Station:
    """An upstream in this process; use it in an `async with` block.

    Args:
        slots, service_s: see `slotted`; without slots every request is answered at once, with `behaviour`.
        pace_s: seconds between two tokens of a stream.
        seed: for faults that strike a share of the requests.
    """

    def __init__(
        self,
        slots: int = 0,
        service_s: float = 0.0,
        pace_s: float = 0.0,
        seed: int = 1,
        behaviour: Behaviour = answer,
    ) -> None:
        self._plain = slotted(slots, service_s) if slots else behaviour
        self._fault: Behaviour | None = None
        self._share = 1.0
        self._rng = random.Random(seed)
        self.upstream = ScriptedUpstream(self._choose, pace_s=pace_s)

    async def __aenter__(self) -> Station:
        await self.upstream.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.upstream.stop()

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self.upstream.url

    @property
    def asked(self) -> int:
        """Requests so far."""
        return len(self.upstream.asked)

    def usual(self, fault: str = "none", share: float = 1.0, **arguments: Any) -> None:
        """Answer with a fault from now on: all requests, or a share of them."""
        behaviour = FAULTS[fault].behaviour
        self._fault = None if fault == "none" else partial(behaviour, **arguments) if arguments else behaviour
        self._share = share

    def _choose(self, asked: Asked) -> Behaviour:
        if self._fault is not None and self._rng.random() < self._share:
            return self._fault
        return self._plain


class StationProcess:
    """An upstream in a process of its own; use it in an `async with` block.

    Args:
        pace_s: seconds between two tokens; a unary answer takes as long.
    """

    def __init__(self, pace_s: float = 0.005) -> None:
        self.port = free_ports(1)[0]
        self._pace_s = pace_s
        self._process: asyncio.subprocess.Process | None = None
        self._fillers: list[socket.socket] = []

    async def __aenter__(self) -> StationProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.heal()
        self.kill()

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Start it, or start it again at the same port."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.reliability.station",
            str(self.port),
            str(self._pace_s),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        await asyncio.wait_for(self._process.stdout.readline(), _COMMAND_S)

    async def usual(self, fault: str = "none", share: float = 1.0, **arguments: Any) -> None:
        """As `Station.usual`; `pace_s` changes the pace of all answers."""
        await self.command({"usual": fault, "share": share, "arguments": arguments})

    async def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command and return its answer: the figures `asked` and `refused`."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await asyncio.wait_for(process.stdout.readline(), _COMMAND_S)
        answered: dict[str, Any] = json.loads(line)
        return answered

    async def asked(self) -> int:
        """Requests so far, since its start."""
        return int((await self.command({}))["asked"])

    def kill(self) -> None:
        """End it at once; connections are reset, new ones refused."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def freeze(self) -> None:
        """Stop it: the kernel still accepts for it, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def black_hole(self) -> None:
        """Stop it with a full queue: what is sent gets no answer of any kind, not even to a connect."""
        self.freeze()
        for _ in range(_FILL):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def heal(self) -> None:
        """End `freeze` or `black_hole`."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)


async def _serve(port: int, pace_s: float) -> None:
    station = Station(pace_s=pace_s)
    await station.upstream.start(port=port)
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        arguments = command.get("arguments", {})
        station.upstream.manner = Manner(pace_s=arguments.pop("pace_s", pace_s))
        if "usual" in command:
            station.usual(command["usual"], command["share"], **arguments)
        print(json.dumps({"asked": station.asked, "refused": station.upstream.turned_away}), flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
