"""Our server as its users run it, for a measurement: a process of its own on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rig.process import free_ports

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-measurement"
ADMIN_KEY = "admin-key-of-the-measurement"
START_S = 20.0
STOP_S = 60.0


@dataclass
class Gateway:
    """A running server; `port` serves clients, `admin_port` shows figures."""

    process: subprocess.Popen[str]
    port: int
    admin_port: int
    folder: Path

    def metrics(self) -> dict[str, float]:
        """Every figure of `/metrics`, by its name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Open descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def config_text(config: dict[str, Any], port: int, admin_port: int) -> str:
    """A configuration with one key and without limits, changed by `config`, as JSON."""
    merged: dict[str, Any] = {
        "server": {"port": port, "admin_port": admin_port, "admin_key": ADMIN_KEY, "data_dir": "data"},
        "auth": {"enabled": True, "api_key": KEY},
        "limits": {"requests_per_second": 0, "burst": 0},
        "logging": {"level": "WARNING"},
    }
    for name, value in config.items():
        merged[name] = {**merged[name], **value} if isinstance(merged.get(name), dict) else value
    if "api_keys" in merged["auth"]:
        del merged["auth"]["api_key"]
    return json.dumps(merged, indent=1)


@contextlib.contextmanager
def running_gateway(
    folder: Path, config: dict[str, Any], *, prefix: tuple[str, ...] = (), stop: bool = True
) -> Iterator[Gateway]:
    """Start a server with `config`, and stop it at the end.

    Args:
        folder: for its configuration, data and log.
        config: sections that differ from `config_text`'s.
        prefix: words before the command, as `taskset -c 0`.
        stop: whether it must end with exit code 0 when told to.

    Raises:
        RuntimeError: it does not start, or does not end well.
    """
    port, admin_port = free_ports(2)
    path = folder / "config.json"
    path.write_text(config_text(config, port, admin_port))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "OPENAI", "OLLAMA"))}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "mcp_server", "--config", str(path)],
            env={**kept, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            text=True,
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "admin listener on " in line:
                break
        else:
            raise RuntimeError(f"the server did not start: {(folder / 'server.log').read_text()[-500:]}")
        yield Gateway(process, port, admin_port, folder)
        if stop:
            process.send_signal(signal.SIGINT)
            code = process.wait(STOP_S)
            if code:
                raise RuntimeError(f"the server ended with {code}")
    finally:
        process.kill()
        process.wait()
