"""Measures how a server finds and loses nodes, each a process of its own: `python benchmarks/discovery.py`.

Five nodes join with the server's address as their one seed; 16 clients send requests for three seconds, and go on while
one node is killed. A request that the client saw fail is a failed one: what a server can try again elsewhere must not
fail. Writes
`benchmarks/results/discovery.json`, whose figures stand in `docs/cluster.md`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[1]
RESULT: Final = ROOT / "benchmarks" / "results" / "discovery.json"
SECRET: Final = "a-secret-of-the-benchmark"
ADMIN_KEY: Final = "admin-key-of-the-benchmark"
MODEL: Final = "echo"
CLIENTS: Final = 16
LIMIT_S: Final = 60.0
WARM_S: Final = 3.0
"""A server that has served next to nothing may retry next to nothing: its retry budget grows with its successes."""
BODY: Final = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})


class Process:
    """A process of ours that says on which addresses it listens; use as a context.

    Attributes:
        started_s: when it was begun; `ready_s` when it said that it listens.
        addresses: in the order in which it told them.
    """

    def __init__(self, words: list[str], folder: Path, addresses: int) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        self.started_s = time.monotonic()
        self._log = (folder / f"{words[0]}-{id(self)}.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_server", *words],
            env=environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            text=True,
        )
        self.addresses: list[str] = []
        self._wanted = addresses
        self.ready_s = 0.0

    def wait(self) -> Self:
        """Wait until it listens.

        Raises:
            RuntimeError: it ended.
        """
        assert self.process.stdout is not None
        while len(self.addresses) < self._wanted:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.process.args} did not start; see {self._log.name}")
            self.addresses += [word.partition("://")[2] for word in line.split() if "://" in word]
        self.ready_s = time.monotonic()
        return self

    def log(self) -> str:
        """What it has written to standard error."""
        return Path(self._log.name).read_text(encoding="utf-8")

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


class Load:
    """Clients that ask one after the other, each on a connection of its own, until they are told to stop.

    Attributes:
        answered, failed: requests; of the failed ones what was said.
    """

    def __init__(self, address: str) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._address = address
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20.0)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                problem = "" if answer.status == 200 else f"{answer.status} {text[:300].decode(errors='replace')}"
            except OSError as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                if problem:
                    self.failed.append(problem)
                else:
                    self.answered += 1
            self._stop.wait(0.005)
        connection.close()


class Admin:
    """Asks the admin listener."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=10.0)

    def get(self, path: str) -> Any:
        """Return what it answers."""
        self._connection.request("GET", f"/admin/v1/{path}", headers={"authorization": f"Bearer {ADMIN_KEY}"})
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def endpoints(self) -> set[str]:
        """Addresses of nodes that requests may go to."""
        return {row["endpoint"] for row in self.get("models")["models"] if row["name"] == MODEL}


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition and return when it held, monotonic seconds.

    Raises:
        RuntimeError: it did not within a minute.
    """
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit_s:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.01)
    return time.monotonic()


def measure(folder: Path, count: int, kills: int = 1) -> dict[str, Any]:
    """Start everything, kill nodes one after the other, and return seconds and counts."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    config = {
        "server": {"port": 0, "admin_port": 0, "admin_key": ADMIN_KEY, "data_dir": str(folder / "data")},
        "limits": {"requests_per_second": 0},
        "drain": {"accept": 0},
        "logging": {"requests": 0},
        "cluster": {"secret": f"file:{secret}", "bind": "127.0.0.1:0"},
    }
    path = folder / "server.json"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    with ExitStack() as stack:
        server = stack.enter_context(Process(["serve", "--config", str(path)], folder, 2)).wait()
        data, admin_address = server.addresses
        admin = stack.enter_context(closing(Admin(admin_address)))
        seed = str(admin.get("nodes")["nodes"][0]["gossip"])
        words = ["node", "--model", f"{MODEL}=echo:", "--join", seed, "--secret-file", str(secret), "--port", "0"]
        nodes = [stack.enter_context(Process(words, folder, 1)) for _ in range(count)]
        for node in nodes:
            node.wait()
        addresses = {f"mcp://{node.addresses[0]}" for node in nodes}
        joined_s = wait_until(lambda: admin.endpoints() == addresses, "nodes in routing")
        figures: dict[str, Any] = {
            "nodes": count,
            "join_since_start_s": round(joined_s - nodes[0].started_s, 3),
            "join_since_last_ready_s": round(max(joined_s - max(node.ready_s for node in nodes), 0.0), 3),
            "start_to_ready_s": round(max(node.ready_s - node.started_s for node in nodes), 3),
            "lost_s": [],
        }
        wait_until(lambda: all(row["state"] == "ready" for row in admin.get("models")["models"]), "open links")
        with Load(data) as load:
            time.sleep(WARM_S)
            for node in nodes[:kills]:
                wait_until(lambda before=load.answered: load.answered > before + 100, "answers")  # type: ignore[misc]
                killed_s = time.monotonic()
                node.kill()
                gone = f"mcp://{node.addresses[0]}"
                lost_s = wait_until(lambda gone=gone: gone not in admin.endpoints(), "the node to leave")  # type: ignore[misc]
                figures["lost_s"].append(round(lost_s - killed_s, 3))
            wait_until(lambda before=load.answered: load.answered > before + 100, "answers")  # type: ignore[misc]
        figures |= {"answered": load.answered, "failed": len(load.failed), "failures": load.failed[:3]}
    return figures


def main() -> int:
    """Measure and write what came of it; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(Path(folder), options.nodes))
        print(json.dumps(rounds[-1]), flush=True)
    result = {
        "command": f"python benchmarks/discovery.py --nodes {options.nodes} --rounds {options.rounds}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": rounds,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(each["failed"] for each in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
