"""A version's whole way, with a server and two nodes as processes: packed, pushed, tried, promoted, taken back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.discovery import Process
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer
from tests.integration.upstreams import wait_until

from open_autoglm.engines.embedded.catalog import MODELS_DIR

SECRET = "a-secret-of-the-tests"
MODEL = "sums"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "server").mkdir()
    with RunningServer(tmp_path / "server", {"cluster": {"secret": SECRET, "bind": "127.0.0.1:0"}}) as server:
        yield server


@pytest.fixture
def nodes(server: RunningServer, tmp_path: Path, secret: Path) -> Iterator[list[str]]:
    """Addresses of two nodes that serve one model."""
    seed = str(server.admin_get("/admin/v1/nodes")["nodes"][0]["gossip"])
    with ExitStack() as running:
        started = []
        for folder in (tmp_path / "node-1", tmp_path / "node-2"):
            folder.mkdir()
            words = ["--model", f"{MODEL}=embedded:glm-calc-s", "--join", seed, "--secret-file", str(secret)]
            words += ["--port", "0", "--data-dir", str(folder / "data")]
            started.append(running.enter_context(Process(["node", *words], folder, 1)))
        yield [process.wait().addresses[0] for process in started]


def autoglm(server: RunningServer, *words: str) -> str:
    command = [sys.executable, "-m", "mcp_server", *words]
    environ = {"PYTHONPATH": str(ROOT / "src"), "MCP_ADMIN_KEY": ADMIN_KEY, "MCP_ADMIN_URL": server.admin}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def versions(server: RunningServer) -> list[str]:
    rows = server.admin_get("/admin/v1/nodes")["nodes"]
    return sorted(model["version"] for row in rows for model in row["models"])


def test_a_version_is_rolled_out_and_taken_back(
    server: RunningServer, nodes: list[str], tmp_path: Path, secret: Path
) -> None:
    wait_until(lambda: len(versions(server)) == 2, "two nodes")
    old = versions(server)[0]
    folder = tmp_path / MODEL
    shutil.copytree(MODELS_DIR / "glm-calc-s" / "versions" / "1", folder)
    new = autoglm(server, "rollout", "pack", str(folder), "--tasks", "arithmetic", "--secret-file", str(secret)).strip()
    told = autoglm(
        server, "rollout", "push", str(folder), "--node", nodes[0], "--node", nodes[1], "--secret-file", str(secret)
    )
    assert told.count("staged") == 2
    assert versions(server) == [old, old]

    autoglm(server, "rollout", "start", MODEL, new, "--percent", "50")
    wait_until(lambda: sorted({old, new}) == versions(server), "one node with the new version")
    for number in range(12):
        answer = server.chat(MODEL, messages=[{"role": "user", "content": f"12 + {30 + number}"}])
        assert answer.json()["choices"][0]["message"]["content"] == str(42 + number)

    autoglm(server, "rollout", "promote", MODEL)
    wait_until(lambda: versions(server) == [new, new], "two nodes with the new version")
    assert "promoted" in autoglm(server, "rollout")
    autoglm(server, "rollout", "rollback", MODEL)
    wait_until(lambda: versions(server) == [old, old], "two nodes with the old version")
    assert server.chat(MODEL, messages=[{"role": "user", "content": "12 + 30"}]).status_code == 200
