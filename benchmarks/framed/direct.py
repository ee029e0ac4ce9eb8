"""The direct path beside a client that talks to the node with no server at all: `python -m benchmarks.framed.direct`.

Server on core 0, node and client on core 1. Both ways are asked in turn by one process, window after window, so that
what else the machine does falls on both. Direct requests go by tickets, which are asked for, verified, renewed and
reported on meanwhile. Then the server is asked for tickets alone, as fast as it writes them, for their price in CPU.
The result goes to `benchmarks/results/direct.json`, and from there to docs/benchmarks.md by
`python benchmarks/report.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from benchmarks.framed.asking import KEY, MAX_TOKENS, MODEL, PROMPT
from benchmarks.framed.run import SOURCES, check_forms, environment
from benchmarks.rig.machine import commit, describe
from benchmarks.rig.process import Child, free_ports

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "direct.json"
SECRET: Final = "a secret of the benchmarks"
CONNECTIONS, IN_FLIGHT = 8, 64
WINDOW_S: Final = 1.0
TICKETS: Final = 10_000
_AT_ONCE: Final = 64
_START_S: Final = 30.0


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, to the nanosecond; see proc(5), schedstat."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Window:
    """What one side did for a while."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._cpu = {name: cpu_s(pid) for name, pid in pids.items()}
        self._own_s, self._began_s = time.process_time(), time.perf_counter()
        self.count = self.wrong = 0

    def figures(self) -> dict[str, Any]:
        """Requests/s, and CPU in microseconds per request."""
        wall_s, own_s = time.perf_counter() - self._began_s, time.process_time() - self._own_s
        count = max(1, self.count)
        used = {f"{name}_us": (cpu_s(pid) - self._cpu[name]) / count * 1e6 for name, pid in self._pids.items()}
        return {
            "requests_per_s": round(self.count / wall_s, 1),
            "client_us": round(own_s / count * 1e6, 2),
            "wrong": self.wrong,
            **{name: round(value, 2) for name, value in used.items()},
        }


async def ask(server: str, node: str, pids: dict[str, int], windows: int) -> dict[str, Any]:
    """Both ways in turn, and then tickets alone."""
    from open_autoglm.client import AsyncClient

    clients = {
        "alone": AsyncClient(node, SECRET, connections=CONNECTIONS),
        "direct": AsyncClient(server, KEY, connections=CONNECTIONS, direct=True),
    }
    while not clients["direct"].asks_node(MODEL):
        await clients["direct"].infer(MODEL, PROMPT)
        await asyncio.sleep(0.02)
    rows = []
    for number in range(2 * windows + 2):
        side = ("alone", "direct")[number % 2]
        client = clients[side]
        tickets = _tickets(clients["direct"])
        window = Window(pids)
        until_s = time.perf_counter() + WINDOW_S

        async def repeat(client: AsyncClient = client, window: Window = window, until_s: float = until_s) -> None:
            while time.perf_counter() < until_s:
                answer = await client.infer(MODEL, PROMPT, max_tokens=MAX_TOKENS)
                window.wrong += answer.text != PROMPT
                window.count += 1

        await asyncio.gather(*(repeat() for _ in range(IN_FLIGHT)))
        used = _tickets(clients["direct"]) - tickets
        if number >= 2:  # the first of both warm up
            rows.append({"side": side, **window.figures(), "requests": window.count, "tickets": used})
    price = await _price(clients["direct"], pids["server"])
    for client in clients.values():
        await client.close()
    return {"windows": rows, "ticket": price}


def _tickets(client: Any) -> int:
    return int(client._direct.tickets)


async def _price(client: Any, pid: int) -> dict[str, Any]:
    """CPU of the server for one ticket, its frames included."""
    paths = client._direct
    began_s, before_s = time.perf_counter(), cpu_s(pid)

    async def repeat() -> None:
        for _ in range(TICKETS // _AT_ONCE):
            assert (await paths._ask(MODEL)).requests

    await asyncio.gather(*(repeat() for _ in range(_AT_ONCE)))
    used_s, wall_s = cpu_s(pid) - before_s, time.perf_counter() - began_s
    return {"server_us": round(used_s / TICKETS * 1e6, 2), "per_s": round(TICKETS / wall_s), **micro()}


def micro() -> dict[str, float]:
    """Microseconds to write a ticket and to verify one, the best of many rounds."""
    from open_autoglm.security.ticket import Ticket, TicketKey, open_ticket, seal_ticket

    key = TicketKey(b"k" * 32)
    ticket = Ticket(b"8 bytes.", 123_456, "default", MODEL, 1000, 61_000, 2, 0)
    text = seal_ticket(ticket, key)
    figures = {}
    for name, work in (("seal_us", lambda: seal_ticket(ticket, key)), ("verify_us", lambda: open_ticket(text, (key,)))):
        best_s = float("inf")
        for _ in range(40):
            began_s = time.perf_counter()
            for _ in range(500):
                work()
            best_s = min(best_s, time.perf_counter() - began_s)
        figures[name] = round(best_s / 500 * 1e6, 2)
    return figures


def measure(windows: int, form: str) -> dict[str, Any]:
    """Start a node and a server, and ask; client, node and server alike are of `form`, a key of `SOURCES`.

    Raises:
        RuntimeError: something did not start, or an answer was wrong.
    """
    variables = environment(form)
    with tempfile.TemporaryDirectory() as name, ExitStack() as exits:
        folder = Path(name)
        node, node_admin, server, admin = free_ports(4)
        secret = folder / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        config = {
            "server": {"port": server, "admin_port": admin, "data_dir": str(folder / "data")},
            "auth": {"api_key": KEY},
            "limits": {"requests_per_second": 0},
            "logging": {"file": str(folder / "server.log")},
            "models": [{"name": MODEL, "endpoint": f"mcp://127.0.0.1:{node}", "token": SECRET}],
        }
        path = folder / "server.json"
        path.touch(0o600)
        path.write_text(json.dumps(config))
        words = ["node", "--model", f"{MODEL}=echo:", "--port", str(node), "--admin-port", str(node_admin)]
        pids = {
            "node": _start(exits, folder, [*words, "--secret-file", str(secret)], 1, node, variables),
            "server": _start(exits, folder, ["--config", str(path)], 0, server, variables),
        }
        asking = [sys.executable, "-m", "benchmarks.framed.direct", "--ask", json.dumps([server, node, pids, windows])]
        done = subprocess.run(
            ["taskset", "-c", "1", *asking],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=windows * 4 + 90,
        )
        if done.returncode:
            raise RuntimeError(f"{done.stdout[-500:]} {done.stderr[-2000:]}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def _start(exits: ExitStack, folder: Path, words: list[str], core: int, port: int, variables: dict[str, str]) -> int:
    command = [sys.executable, "-m", "mcp_server", *words]
    child = exits.enter_context(Child(command, core, folder / f"{port}.out", env=variables, folder=ROOT))
    until_s = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError as error:
            if time.monotonic() > until_s or child.exit_code() is not None:
                raise RuntimeError(f"{words[0]} did not start: {child.log_tail()}") from error
            time.sleep(0.05)
        else:
            return int(child.pid)


def main() -> int:
    """Measure, and keep what came of it; 0 when every answer was right."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--windows", type=int, default=20, help="of a second, for each way")
    words.add_argument("--quick", action="store_true", help="three windows, not kept")
    words.add_argument("--ask", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.ask:
        server, node, pids, windows = json.loads(given.ask)
        print(json.dumps(uvloop.run(ask(f"127.0.0.1:{server}", f"127.0.0.1:{node}", pids, windows))))
        return 0
    check_forms()
    forms = {form: measure(3 if given.quick else given.windows, form) for form in SOURCES}
    wrong = sum(row["wrong"] for figures in forms.values() for row in figures["windows"])
    for form, figures in forms.items():
        for row in [*figures["windows"], figures["ticket"]]:
            print(form, json.dumps(row))
    if given.quick or wrong:
        return 1 if wrong else 0
    result = {
        "measured_at": datetime.now(UTC).isoformat(),
        **commit(),
        "machine": describe(),
        "settings": {"windows": given.windows, "seconds": WINDOW_S},
        "forms": forms,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT}; `python benchmarks/report.py` makes the page of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
