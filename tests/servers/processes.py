"""Starting real servers and our own for a test, and stopping them."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_listening(port: int, timeout_s: float = 10.0) -> None:
    """Wait until something listens on a port."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def child(*command: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; it gets SIGTERM at the end and must go within 10 s."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with open(cwd / f"{Path(command[0]).name}.log", "wb") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def our_server(folder: Path, models: list[dict[str, object]], **sections: object) -> Iterator[int]:
    """Start our server in front of some models; yields its port."""
    port = free_port()
    server = {"port": port, "admin_port": free_port(), "data_dir": str(folder / "data")}
    limits = {"requests_per_second": 0}
    configuration = {"server": server, "models": models, "limits": limits, **sections}
    path = folder / "config.json"
    path.write_text(json.dumps(configuration))
    with child(sys.executable, "-m", "mcp_server", "--config", str(path), cwd=folder):
        wait_listening(port)
        yield port


@contextlib.contextmanager
def nginx(folder: Path, server_block: str, upstream_block: str = "") -> Iterator[int]:
    """Start nginx with one `server`; yields its port. `PORT` in the block is replaced."""
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = (
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;\n"
        f"events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; keepalive_requests 1000000; {temporary}\n{upstream_block}\n"
        f"server {{ listen 127.0.0.1:{port}; {server_block} }} }}\n"
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    with child(program("nginx"), "-c", str(path), "-e", str(folder / "early.log"), cwd=folder):
        wait_listening(port)
        yield port


def program(name: str) -> str:
    """Where a program is, `/usr/sbin` included."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    assert found, f"{name} is not installed; run tests/servers.sh"
    return found


def post(port: int, path: str, body: dict[str, object], timeout_s: float = 10.0) -> tuple[int, bytes]:
    """POST JSON and return status and body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return answer.status, answer.read()
