"""Two servers and two nodes as processes: what one server is told, the other follows, also when the first is killed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from benchmarks.discovery import Process
from tests.integration.cluster.test_rollout import MODEL, SECRET, autoglm, versions
from tests.integration.running import RunningServer
from tests.integration.upstreams import wait_until

from open_autoglm.engines.embedded.catalog import MODELS_DIR

pytestmark = pytest.mark.timeout(300)  # eight processes, on a machine that may have other work

SESSIONS = [f"session-{number}" for number in range(10)]


class Cluster(NamedTuple):
    """Two servers, and the addresses of the nodes `n1` and `n2`."""

    first: RunningServer
    second: RunningServer
    nodes: list[str]


def gossip(server: RunningServer) -> str:
    """Where a server listens for members."""
    return str(server.admin_get("/admin/v1/nodes")["nodes"][0]["gossip"])


def started(running: ExitStack, folder: Path, name: str, *join: str) -> RunningServer:
    folder.mkdir(exist_ok=True)
    cluster = {"secret": SECRET, "bind": "127.0.0.1:0", "name": name, "join": list(join)}
    return running.enter_context(RunningServer(folder, {"cluster": cluster}))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path, secret: Path, running: ExitStack) -> Cluster:
    first = started(running, tmp_path / "first", "s1")
    second = started(running, tmp_path / "second", "s2", gossip(first))
    nodes = []
    for name in ("n1", "n2"):
        (tmp_path / name).mkdir()
        words = ["--model", f"{MODEL}=embedded:glm-calc-s", "--secret-file", str(secret), "--name", name, "--port", "0"]
        words += ["--join", gossip(first), "--join", gossip(second), "--data-dir", str(tmp_path / name / "data")]
        nodes.append(running.enter_context(Process(["node", *words], tmp_path / name, 1)))
    addresses = [node.wait().addresses[0] for node in nodes]
    for server in (first, second):
        wait_until(lambda server=server: len(endpoints(server)) == 2, "both nodes at each server")  # type: ignore[misc]
    return Cluster(first, second, addresses)


def endpoints(server: RunningServer) -> list[str]:
    """Addresses of the nodes that a server sends requests to."""
    return sorted(row["endpoint"] for row in server.admin_get("/admin/v1/models")["models"] if row["name"] == MODEL)


def rollout(server: RunningServer) -> dict[str, Any]:
    """The one rollout, as a server tells it; empty while there is none."""
    rows = server.admin_get("/admin/v1/rollouts")["rollouts"]
    return dict(rows[0]) if rows else {}


def asked(server: RunningServer, endpoint: str) -> set[str]:
    """Sessions whose question the server sent to a node."""
    ids = {}
    for session in SESSIONS:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "12 + 30"}]}
        answer = server.http.post("/v1/chat/completions", json=body, headers={"x-mcp-session": session})
        assert answer.json()["choices"][0]["message"]["content"] == "42"
        ids[answer.headers["x-request-id"]] = session
    rows = server.admin_get(f"/admin/v1/requests?limit=100&endpoint={endpoint}")["requests"]
    return {ids[row["request_id"]] for row in rows if row["request_id"] in ids}


def test_notes_and_marks_of_one_server_are_those_of_the_other(cluster: Cluster) -> None:
    first, second, nodes = cluster
    assert "new fan on Monday" in autoglm(first, "nodes", "note", "n1", "new fan on Monday")
    wait_until(lambda: "new fan on Monday" in autoglm(second, "nodes", "note", "n1"), "the note")
    assert "gets no new requests" in autoglm(second, "nodes", "drain", "n2")
    wait_until(lambda: endpoints(first) == endpoints(second) == [f"mcp://{nodes[0]}"], "one node at each server")
    shown = autoglm(first, "status")
    assert "alive, drained" in shown
    assert "new fan on Monday" in shown
    autoglm(first, "nodes", "undrain", "n2")
    wait_until(lambda: len(endpoints(first)) == len(endpoints(second)) == 2, "both again")
    figures = second.admin_get("/metrics")
    assert 'mcp_facts{kind="note"} 1' in figures
    assert 'mcp_facts_received_total{outcome="new"}' in figures


def test_a_rollout_outlives_the_server_that_began_it(
    cluster: Cluster, tmp_path: Path, secret: Path, running: ExitStack
) -> None:
    first, second, nodes = cluster
    old = versions(first)[0]
    folder = tmp_path / MODEL
    shutil.copytree(MODELS_DIR / "glm-calc-s" / "versions" / "1", folder)
    new = autoglm(first, "rollout", "pack", str(folder), "--tasks", "arithmetic", "--secret-file", str(secret)).strip()
    to = [word for node in nodes for word in ("--node", node)]
    autoglm(first, "rollout", "push", str(folder), *to, "--secret-file", str(secret))
    answer = first.admin_post(f"/admin/v1/rollouts/{MODEL}/start?version={new}&percent=50")
    assert answer.status_code == 200, answer.text
    for server in (first, second):
        wait_until(
            lambda server=server: (row := rollout(server)) and len(row["candidate"]["nodes"]) == 1,  # type: ignore[misc]
            "the candidate at each server",
        )
    assert (rollout(second)["by"], rollout(second)["share"]) == ("s1", 0.5)
    [tried] = rollout(second)["candidate"]["nodes"]
    sent = asked(second, tried)
    assert asked(first, tried) == sent
    assert 0 < len(sent) < len(SESSIONS)

    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert "running" in autoglm(second, "rollout", "status")
    autoglm(second, "rollout", "rollback", MODEL)
    wait_until(lambda: versions(second) == [old, old], "both nodes with the old version")

    again = started(running, tmp_path / "again", "s1", gossip(second))
    wait_until(lambda: rollout(again).get("state") == "rolled_back", "what it had begun, at its end")
    assert rollout(again)["by"] == "s2"
