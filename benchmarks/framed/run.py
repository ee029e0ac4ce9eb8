"""The framed path beside REST in front of gRPC, on the same engine: `python -m benchmarks.framed.run [--quick]`.

All processes run for the whole time, each side is asked in turn, round after round: gateways on core 0, nodes and
load on core 1. Ours runs in both forms, client, server and nodes alike; `benchmarks/setup.sh native` makes the compiled
one. The result goes to `benchmarks/results/framed.json`, and from there to docs/benchmarks.md by
`python benchmarks/report.py`.
"""

from __future__ import annotations

import argparse
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
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.framed.asking import KEY, MODEL
from benchmarks.rig.machine import commit, describe
from benchmarks.rig.process import Child, free_ports

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "framed.json"
START_S = 30.0
GATEWAY_CORE, LOAD_CORE = 0, 1
SOURCES: Final = {"plain": ROOT / "src", "compiled": ROOT / ".venvs" / "native" / "src"}
"""Where our package is in each form."""


def environment(form: str) -> dict[str, str]:
    """Of a process that is to find our package in one form."""
    return {"PYTHONPATH": f"{SOURCES[form]}:{ROOT}"}


def check_forms() -> None:
    """See that what is called compiled is, and that both forms are made of the same sources.

    Raises:
        RuntimeError: they are not.
    """
    asked = "from open_autoglm.native import current_form; form = current_form(); print(form.problem or form.name)"
    for form, folder in SOURCES.items():
        said = subprocess.run(
            [sys.executable, "-c", asked], env={**os.environ, **environment(form)}, capture_output=True, text=True
        ).stdout.strip()
        if said != form:
            raise RuntimeError(f"{folder} holds nothing {form} ({said or 'no package'}): benchmarks/setup.sh native")
    plain, compiled = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.py")} for folder in SOURCES.values()
    )
    if plain != compiled:
        raise RuntimeError("the compiled form is of other sources: benchmarks/setup.sh native")


class Side(NamedTuple):
    """Something that is measured.

    Attributes:
        kind: what it is asked in; see `benchmarks.framed.asking`.
        address: of its front.
        gateway: its process; empty where the client talks to a node.
        nodes: the processes behind it.
        form: of the client, where that is ours.
    """

    kind: str
    address: str
    gateway: str
    nodes: tuple[str, ...]
    form: str = "plain"


class Stage:
    """Every process of the comparison; use as a context.

    Args:
        folder: for logs and configurations.

    Attributes:
        sides: by name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, Child] = {}
        self._exits = ExitStack()
        self.sides: dict[str, Side] = {}

    def __enter__(self) -> Stage:
        grpc_ports = free_ports(2)
        for place, port in enumerate(grpc_ports):
            self._start(f"grpc{place}", ["-m", "benchmarks.framed.grpc_node", str(port)], LOAD_CORE, port)
        ours = {form: self._start_ours(form) for form in SOURCES}
        gateways = dict(zip(("grpc_gateway", "rest_gateway"), free_ports(2), strict=True))
        for name, port in gateways.items():
            words = ["-m", f"benchmarks.framed.{name}", str(port), KEY, *map(str, grpc_ports)]
            self._start(name, words, GATEWAY_CORE, port)
        grpcs, rest = ("grpc0", "grpc1"), f"127.0.0.1:{gateways['rest_gateway']}/infer"
        self.sides = {
            "framed": ours["plain"]["framed"],
            "framed_compiled": ours["compiled"]["framed"],
            "rest_grpc": Side("http", rest, "rest_gateway", grpcs),
            "aiohttp_grpc": Side("aiohttp", rest, "rest_gateway", grpcs),
            "http": ours["plain"]["http"],
            "http_compiled": ours["compiled"]["http"],
            "grpc": Side("grpc", f"127.0.0.1:{gateways['grpc_gateway']}", "grpc_gateway", grpcs),
            "direct": ours["plain"]["direct"],
            "direct_compiled": ours["compiled"]["direct"],
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def measure(self, side: Side, connections: int, in_flight: int, windows: int) -> list[dict[str, Any]]:
        """One load on one side, in so many windows of half a second.

        Raises:
            RuntimeError: the load failed, with what it said.
        """
        pids = {name: self._children[name].pid for name in side.nodes}
        if side.gateway:
            pids["gateway"] = self._children[side.gateway].pid
        words = [side.kind, side.address, "--connections", str(connections), "--in-flight", str(in_flight)]
        words += ["--windows", str(windows), "--pids", ",".join(f"{name}={pid}" for name, pid in pids.items())]
        done = subprocess.run(
            ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "benchmarks.framed.asking", *words],
            env={**os.environ, **environment(side.form)},
            capture_output=True,
            text=True,
            timeout=windows + 60,
        )
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stdout[-500:]} {done.stderr[-2000:]}")
        figures: list[dict[str, Any]] = json.loads(done.stdout)
        return figures

    def _start_ours(self, form: str) -> dict[str, Side]:
        """Two nodes and a server in one form; the ways to them."""
        server, admin, *ports = free_ports(6)
        nodes = tuple(f"{form}_node{place}" for place in range(2))
        for name, port, admin_port in zip(nodes, ports[:2], ports[2:], strict=True):
            words = ["node", "--model", f"{MODEL}=echo:", "--port", str(port), "--admin-port", str(admin_port)]
            self._start(name, ["-m", "mcp_server", *words], LOAD_CORE, port, form)
        name = f"{form}_server"
        words = ["-m", "mcp_server", "--config", self._configure(name, server, admin, ports[:2])]
        self._start(name, words, GATEWAY_CORE, server, form)
        return {
            "framed": Side("frames", f"127.0.0.1:{server}", name, nodes, form),
            "http": Side("http", f"127.0.0.1:{server}/v1/chat/completions", name, nodes, form),
            "direct": Side("frames", f"127.0.0.1:{ports[0]}", "", nodes[:1], form),
        }

    def _configure(self, name: str, port: int, admin_port: int, node_ports: list[int]) -> str:
        path = self._folder / f"{name}.json"
        config = {
            "server": {"port": port, "admin_port": admin_port, "data_dir": str(self._folder / name)},
            "auth": {"api_key": KEY},
            "limits": {"requests_per_second": 0},
            "logging": {"file": str(self._folder / f"{name}.log")},
            "models": [{"name": MODEL, "endpoint": f"mcp://127.0.0.1:{node}"} for node in node_ports],
        }
        path.touch(0o600)
        path.write_text(json.dumps(config))
        return str(path)

    def _start(self, name: str, words: list[str], core: int, port: int, form: str = "plain") -> None:
        environ = environment(form)
        child = Child([sys.executable, *words], core, self._folder / f"{name}.out", env=environ, folder=ROOT)
        self._children[name] = self._exits.enter_context(child)
        until_s = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError as error:
                if time.monotonic() > until_s or child.exit_code() is not None:
                    raise RuntimeError(f"{name} did not start: {child.log_tail()}") from error
                time.sleep(0.05)
            else:
                return


def main() -> int:
    """Measure all sides in turn and keep what came of it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--windows", type=int, default=6, help="of half a second, of each side in each round")
    words.add_argument("--quick", action="store_true", help="one short round, not kept")
    words.add_argument("--only", default="", help="sides, with commas between them; not kept")
    given = words.parse_args()
    rounds, windows = (1, 4) if given.quick else (given.rounds, given.windows)
    began_s = time.monotonic()
    check_forms()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder)) as stage:
        sides = {name: side for name, side in stage.sides.items() if not given.only or name in given.only.split(",")}
        for number in range(rounds):
            for load, connections, in_flight in (("many", 8, 64), ("one", 1, 1)):
                for name, side in sides.items():
                    figures = stage.measure(side, connections, in_flight, windows)
                    runs += [{"round": number, "load": load, "side": name, **window} for window in figures]
                    best = max(figures, key=lambda window: window["requests_per_s"])
                    print(number, f"{load:4} {name:15}", json.dumps(best), flush=True)
    if given.quick or given.only:
        return 0
    result = {
        "measured_at": datetime.now(UTC).isoformat(),
        **commit(),
        "machine": describe(),
        "settings": {"rounds": rounds, "windows": windows, "seconds": 0.5},
        "elapsed_s": round(time.monotonic() - began_s, 1),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT}; `python benchmarks/report.py` makes the page of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
