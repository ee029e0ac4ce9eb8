"""A server and nodes as processes: nodes are found, placed, shown and lost; no request that could be retried fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.discovery import Process, measure
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer
from tests.integration.upstreams import wait_until

SECRET = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("cluster")
    cluster = {"secret": SECRET, "bind": "127.0.0.1:0", "name": "front"}
    with RunningServer(folder, {"cluster": cluster}) as server:
        assert "no model yet" in server.chat("echo").json()["error"]["message"], "none was found, none is missing"
        yield server
        assert "Traceback" not in server.log()


@pytest.fixture(scope="module")
def node(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with start(server, tmp_path_factory.mktemp("node"), SECRET) as process:
        yield process.wait()


def start(server: RunningServer, folder: Path, secret: str) -> Process:
    """A node with the model `echo`."""
    file = folder / "secret"
    file.write_text(secret)
    file.chmod(0o600)
    seed = str(nodes(server)[0]["gossip"])
    words = ["--model", "echo=echo:", "--join", seed, "--secret-file", str(file), "--port", "0"]
    return Process(["node", *words], folder, 1)


def nodes(server: RunningServer) -> list[dict[str, Any]]:
    """Members as the server shows them, itself first."""
    rows: list[dict[str, Any]] = server.admin_get("/admin/v1/nodes")["nodes"]
    return rows


def test_a_node_s_model_is_served_without_a_word_of_configuration(server: RunningServer, node: Process) -> None:
    wait_until(lambda: any(row["state"] == "ready" for row in server.admin_get("/admin/v1/models")["models"]), "ready")
    answer = server.chat("echo")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert "echo" in {model["id"] for model in server.http.get("/v1/models").json()["data"]}
    assert server.admin_get("/admin/v1/config")["revision"] == 1


def test_who_is_there_is_shown(server: RunningServer, node: Process) -> None:
    wait_until(lambda: len(nodes(server)) > 1 and nodes(server)[1]["load"] is not None, "a load report")
    me, other = nodes(server)[:2]
    assert (me["id"], me["role"], me["self"]) == ("front", "server", True)
    assert (other["role"], other["class"], other["state"], other["self"]) == ("node", "cpu", "alive", False)
    assert other["models"][0]["name"] == "echo"
    assert other["address"] == node.addresses[0]
    assert other["load"]["slots"] >= 1
    metrics = server.admin_get("/metrics")
    assert 'mcp_nodes{state="alive"} 2' in metrics
    assert 'mcp_model_version_info{node="' in metrics


def test_status_has_a_line_for_each_member(server: RunningServer, node: Process) -> None:
    words = [sys.executable, "-m", "mcp_server", "status", "--server", server.admin]
    environ = {"PYTHONPATH": str(ROOT / "src"), "MCP_ADMIN_KEY": ADMIN_KEY}
    shown = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    front, other = (line.split() for line in shown.splitlines()[-2:])
    assert front[:4] == ["front", "server", "-", "alive"]
    assert other[1:5] == ["node", "cpu", "alive", "echo"]
    told = json.loads(
        subprocess.run([*words, "--json"], env=environ, capture_output=True, timeout=60, check=True).stdout
    )
    assert [member["role"] for member in told["nodes"]] == ["server", "node"]


def test_the_models_of_nodes_stay_over_a_reload(server: RunningServer, node: Process) -> None:
    cluster = {"secret": SECRET, "bind": "127.0.0.1:0", "name": "front"}
    assert server.apply(cluster=cluster, retries={"max": 1}) == 2
    assert server.chat("echo").status_code == 200
    assert "takes effect at the next start" not in server.log()


def test_who_does_not_know_the_secret_is_no_member(server: RunningServer, node: Process, tmp_path: Path) -> None:
    before = len(nodes(server))
    with start(server, tmp_path, "another-secret-of-nobody") as stranger:
        stranger.wait()
        wait_until(lambda: "does not know the cluster's secret" in stranger.log(), "a refusal")
        assert len(nodes(server)) == before


def test_a_node_that_stops_leaves_and_its_model_goes(server: RunningServer, node: Process, tmp_path: Path) -> None:
    with start(server, tmp_path, SECRET) as second:
        second.wait()
        wait_until(lambda: len(server.admin_get("/admin/v1/models")["models"]) == 2, "the second endpoint")
    wait_until(lambda: [row["state"] for row in nodes(server)].count("left") == 1, "its leave")
    wait_until(lambda: len(server.admin_get("/admin/v1/models")["models"]) == 1, "its endpoint to go")
    assert not any(row["state"] == "dead" for row in nodes(server))


def test_killed_nodes_leave_routing_and_no_request_fails(tmp_path: Path) -> None:
    figures = measure(tmp_path, 3, kills=2)
    assert figures["failures"] == []
    assert len(figures["lost_s"]) == 2
    assert figures["answered"] > 300
