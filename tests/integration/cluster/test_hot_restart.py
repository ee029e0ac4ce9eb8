"""A server of a cluster is replaced by a new process: nodes' models are served without a gap."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from benchmarks.discovery import Process
from tests.integration.lifecycle.test_hot_restart import END_S, pid_of, replaceable, successor
from tests.integration.running import RunningServer
from tests.integration.upstreams import wait_until

SECRET = "a-secret-of-the-tests"


def free_port() -> int:
    """A port that is free for both protocols, most likely."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_models_of_nodes_are_served_on_by_the_new_process(tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    config = {"cluster": {"secret": SECRET, "bind": bind, "name": "front"}, "retries": {"max": 2}}
    words = ["node", "--model", "echo=echo:", "--join", bind, "--secret-file", str(secret), "--port", "0"]
    with replaceable(RunningServer(tmp_path, config)) as server, Process(words, tmp_path, 1) as node:
        node.wait()
        wait_until(lambda: server.chat("echo").status_code == 200, "the node is served", END_S)
        old = server.process.pid
        os.kill(old, signal.SIGUSR2)
        while pid_of(server) in (0, old):
            assert server.chat("echo").status_code == 200
        assert successor(server) != old
        assert server.chat("echo").status_code == 200
        rows = "/admin/v1/nodes"
        wait_until(lambda: [row["state"] for row in server.admin_get(rows)["nodes"]] == ["alive"] * 2, "both", END_S)
        wait_until(lambda: server.admin_get(rows)["nodes"][1]["delay_ms"] is not None, "the port is its own", END_S)
        assert server.chat("echo").status_code == 200
