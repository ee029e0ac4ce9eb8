"""Nodes that do not answer: hung, gone, or with another key; what waits there, and what people are shown."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from benchmarks.discovery import Process
from tests.integration.node.node_process import Process as NodeProcess
from tests.integration.running import RunningServer
from tests.integration.upstreams import wait_until

from open_autoglm.cli.doctor.nodes import shake_hands
from open_autoglm.config import ModelEntry, parse_config

SECRET = "a-secret-of-the-tests"
PATIENT = {"first_token_hedge": "60s", "first_token": "60s", "total": "180s"}
"""Longer than the client waits: nothing but the node's death sends a request elsewhere."""


def states(server: RunningServer) -> list[str]:
    return [row["state"] for row in server.admin_get("/admin/v1/models")["models"]]


def entry(model: dict[str, str]) -> ModelEntry:
    return parse_config(json.dumps({"models": [model]}), source="a.json", environ={}, trusted=True).config.models[0]


def test_what_waits_for_a_hung_node_is_asked_elsewhere_when_it_is_dead(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    cluster = {"secret": SECRET, "bind": "127.0.0.1:0", "name": "front"}
    with RunningServer(tmp_path, {"cluster": cluster, "timeouts": PATIENT}) as server:
        seed = str(server.admin_get("/admin/v1/nodes")["nodes"][0]["gossip"])
        words = ["--model", "echo=echo:", "--join", seed, "--secret-file", str(tmp_path / "secret"), "--port", "0"]
        with Process(["node", *words], tmp_path, 1) as one, Process(["node", *words], tmp_path, 1) as two:
            one.wait()
            two.wait()
            wait_until(lambda: states(server) == ["ready", "ready"], "both nodes")
            answers: list[int] = []
            asking = [
                threading.Thread(target=lambda: answers.append(server.chat("echo").status_code)) for _ in range(12)
            ]
            os.kill(one.process.pid, signal.SIGSTOP)
            try:
                for thread in asking:
                    thread.start()
                for thread in asking:
                    thread.join(30.0)
            finally:
                os.kill(one.process.pid, signal.SIGCONT)
            assert answers == [200] * 12


def test_a_node_with_another_key_is_shown_as_misconfigured_and_one_that_is_gone_as_unreachable(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    node = NodeProcess("--secret-file", str(tmp_path / "secret"), models=("echo=echo:",))
    try:
        models = [{"name": "echo", "endpoint": f"mcp://127.0.0.1:{node.port}", "token": "another-secret"}]
        with RunningServer(tmp_path, {"models": models}) as server:
            wait_until(lambda: states(server) == ["misconfigured"], "the wrong key")
            [row] = server.admin_get("/admin/v1/models")["models"]
            assert "does not accept our key" in row["reason"]
            answer = server.chat("echo")
            assert answer.status_code >= 500
            assert "the node does not accept our key" in answer.json()["error"]["message"]
            assert shake_hands(entry(models[0]), "it", 10.0).state == "fail"
            models[0]["token"] = SECRET
            server.apply(*models)
            wait_until(lambda: states(server) == ["ready"], "the right key")
            assert server.chat("echo").status_code == 200
            assert shake_hands(entry(models[0]), "it", 10.0).message == "takes our token"
            _, logged = node.end()
            assert logged.count("was turned away") <= 2, "one line for each reason"
            wait_until(lambda: states(server) == ["unreachable"], "its end")
            [row] = server.admin_get("/admin/v1/models")["models"]
            assert row["reason"].startswith("no link to the node is open")
            wait_until(lambda: "no link to the node at" in server.log(), "the log tells")
    finally:
        node.end()
