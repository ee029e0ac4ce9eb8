"""A hundred thousand connections to one server: `python -m benchmarks.connections`.

Several processes hold them (`benchmarks.crowd`), authenticated and idle, first over the framed protocol, then over
HTTP; then so many of them are pinged for a while, at random. Memory is the sum of the proportional sets (PSS) of the
supervisor and all workers; what the kernel holds for the sockets of both sides stands beside it. Writes
`benchmarks/results/connections.json`. Each server process and each client process may have as many connections as its
limit of descriptors allows, so there are several of both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.crowd import KEY
from benchmarks.rig.machine import commit, describe, parse_field
from benchmarks.rig.targets import ROOT

RESULT: Final = ROOT / "benchmarks" / "results" / "connections.json"
_ADMIN_KEY: Final = "admin-key-of-the-crowd"
_FEW: Final = 200
"""Connections that stand before the first look at the memory, so that what is made once is not counted as theirs."""
_REST_S: Final = 3.0
_NOT_PINGED: Final = dict.fromkeys(("p50_ms", "p99_ms", "max_ms", "lost", "closed", "cpu_share"))


class Served:
    """Our server with so many workers; use as a context."""

    def __init__(self, folder: Path, workers: int, connections: int) -> None:
        config = {
            # The kernel spreads connections by chance, so each worker gets room for a quarter more than its part.
            "server": {
                "port": 0,
                "admin_port": 0,
                "admin_key": _ADMIN_KEY,
                "data_dir": str(folder),
                "workers": workers,
                "max_connections": connections * 5 // 4,
            },
            "auth": {"api_key": KEY},
            "limits": {"wire": {"idle_timeout": "1h"}},
            "logging": {"level": "WARNING"},
            "drain": {"accept": 0},
            "models": [],
        }
        path = folder / "config.json"
        path.touch(0o600)
        path.write_text(json.dumps(config))
        self._words = [sys.executable, "-m", "mcp_server", "--config", str(path)]
        self._folder = folder

    def __enter__(self) -> Self:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        self._log = (self._folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            self._words,
            env=environ | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        found: list[str] = []
        while len(found) < 2:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {self.log()}")
            found += [word.partition("://")[2] for word in line.split() if "://" in word]
        self.address, self._admin = found
        self.pids = [self._process.pid, *(row["pid"] for row in self.status().get("workers", []))]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(60.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10.0)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        request = urllib.request.Request(
            f"http://{self._admin}/admin/v1/status", headers={"authorization": f"Bearer {_ADMIN_KEY}"}
        )
        with urllib.request.urlopen(request, timeout=30.0) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def log(self) -> str:
        """What it has written."""
        return (self._folder / "server.log").read_text()

    def memory(self) -> dict[str, int]:
        """Bytes of all its processes: `pss` in proportion, `private` of one process only."""
        sums = {"pss": 0, "private": 0}
        for pid in self.pids:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sums["pss"] += _kib(text, "Pss")
            sums["private"] += _kib(text, "Private_Dirty") + _kib(text, "Private_Clean")
        return sums

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class Client:
    """One process of the crowd; use as a context."""

    def __init__(self, address: str, kind: str, count: int, first: int) -> None:
        self._words = [
            *(sys.executable, "-m", "benchmarks.crowd", address, "--kind", kind),
            *("--count", str(count), "--first", str(first)),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10.0)
        self._process.stdout.close()

    def tell(self, words: str) -> None:
        """Say what to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")

    def hear(self) -> dict[str, Any]:
        """Wait for what it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a client has ended")
        told: dict[str, Any] = json.loads(line)
        return told


def measure(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    """Hold the connections of one kind, ping them, and tell what it took."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        server = stack.enter_context(Served(Path(name), given.workers, given.connections))
        empty = server.memory()
        few = stack.enter_context(Client(server.address, kind, _FEW, 250))
        few.hear()
        time.sleep(_REST_S)
        before, kernel_before = server.memory(), kernel_bytes()
        opened_s = time.monotonic()
        share = (given.connections - _FEW) // given.clients
        counts = [share] * (given.clients - 1) + [given.connections - _FEW - share * (given.clients - 1)]
        clients = [
            stack.enter_context(Client(server.address, kind, count, 1 + at * 8)) for at, count in enumerate(counts)
        ]
        for client in clients:
            client.hear()
        opened_s = time.monotonic() - opened_s
        time.sleep(_REST_S)
        held = server.memory()
        status = server.status()
        pings = pinged(server, clients, given) if given.seconds else _NOT_PINGED
        after, kernel_after = server.memory(), kernel_bytes()
        added = given.connections - _FEW
        return {
            "kind": kind,
            "connections": status["connections"],
            "of_workers": [row["connections"] for row in status.get("workers", [])],
            "open_s": opened_s,
            "pss_empty": empty["pss"],
            "pss_before": before["pss"],
            "pss_held": held["pss"],
            "pss_after": after["pss"],
            "bytes_per_connection": (held["pss"] - before["pss"]) / added,
            "kernel_bytes_per_connection": (kernel_after - kernel_before) / added,
            **pings,
            "log_lines": len(server.log().splitlines()),
        }


def pinged(server: Served, clients: list[Client], given: argparse.Namespace) -> dict[str, Any]:
    """Ping connections at random for a while; how soon they were answered, and what it took."""
    cpu_s = server.cpu_s()
    for client in clients:
        client.tell(f"ping {given.seconds} {given.rate / given.clients}")
    told = [client.hear() for client in clients]
    cpu_s = server.cpu_s() - cpu_s
    seconds = sorted(second for each in told for second in each["seconds"])
    return {
        "pings": len(seconds),
        "p50_ms": quantile(seconds, 0.5) * 1000,
        "p99_ms": quantile(seconds, 0.99) * 1000,
        "max_ms": seconds[-1] * 1000 if seconds else 0.0,
        "lost": sum(each["lost"] for each in told),
        "closed": sum(each["closed"] + each["refused"] for each in told),
        "server_pings": sum(each["server_pings"] for each in told),
        "cpu_share": cpu_s / given.seconds,
    }


def kernel_bytes() -> int:
    """What the kernel's own structures take, of the whole machine: slab that it cannot give back, and TCP's pages."""
    meminfo = Path("/proc/meminfo").read_text()
    tcp = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    pages = int(tcp.split()[tcp.split().index("mem") + 1])
    return _kib(meminfo, "SUnreclaim") + pages * os.sysconf("SC_PAGE_SIZE")


def quantile(ordered: list[float], share: float) -> float:
    """The value that so large a share of ordered values does not exceed; 0 when there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _kib(text: str, name: str) -> int:
    return int(parse_field(text, name).split()[0]) * 1024


def main() -> None:
    """Measure each kind, print the result and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="of pings; 0 looks at the memory only")
    parser.add_argument("--rate", type=float, default=500.0, help="pings per second, over all connections")
    parser.add_argument("--kind", choices=("framed", "http"), action="append", help="framed and http when left out")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = most * 4 // 5
    needed = max(given.connections // given.workers, given.connections // given.clients)
    if needed > room:
        parser.error(f"{needed} connections for one process, but its limit is {most}: more workers, more clients")
    result = {
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **commit(),
        "machine": describe(),
        "settings": {name: getattr(given, name) for name in ("connections", "workers", "clients", "seconds", "rate")},
        "runs": [measure(kind, given) for kind in given.kind or ("framed", "http")],
    }
    text = json.dumps(result, indent=1)
    given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
