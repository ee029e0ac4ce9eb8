"""Runs of task graphs on real servers: over the admin API and the command line, over kills and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, model

LIMIT_S = 60.0
TOOLS = '''
import os, time, pathlib

def _note(folder, line):
    with open(pathlib.Path(folder) / "effects", "a") as file:
        file.write(line + chr(10))

def slow(folder: str, name: str, seconds: float = 0.0) -> str:
    """Take a while."""
    _note(folder, f"begin {name}")
    time.sleep(seconds)
    _note(folder, f"end {name}")
    return name

def put(folder: str, name: str, seconds: float = 0.0) -> str:
    """Change something."""
    return slow(folder, name, seconds)

def drop(folder: str, name: str) -> str:
    """Destroy something."""
    return slow(folder, name)
'''
ENTRIES = [
    {"name": "slow", "function": "durable_tools:slow", "class": "read", "timeout": "30s"},
    {"name": "paid", "function": "durable_tools:slow", "class": "read", "timeout": "30s", "cost": 0.25},
    {"name": "put", "function": "durable_tools:put", "class": "write", "timeout": "30s"},
    {"name": "drop", "function": "durable_tools:drop", "class": "dangerous"},
]


def _server(folder: Path, **config: Any) -> RunningServer:
    (folder / "durable_tools.py").write_text(TOOLS)
    return RunningServer(
        folder,
        {"models": [model("nano", "embedded:glm-nano")], "tools": {"python": ENTRIES}, **config},
        environ={"PYTHONPATH": f"{ROOT / 'src'}:{folder}"},
    )


def _start(server: RunningServer, *tasks: dict[str, Any], **more: Any) -> str:
    answer = server.admin_post("/admin/v1/runs", json.dumps({"tasks": tasks, **more}).encode())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def _until(server: RunningServer, run_id: str, *states: str) -> dict[str, Any]:
    give_up_s = time.monotonic() + LIMIT_S
    while True:
        run: dict[str, Any] = server.admin_get(f"/admin/v1/runs/{run_id}")
        if run["state"] in states:
            return run
        assert time.monotonic() < give_up_s, run
        time.sleep(0.02)


def _effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


def _until_effect(folder: Path, line: str) -> None:
    give_up_s = time.monotonic() + LIMIT_S
    while line not in _effects(folder):
        assert time.monotonic() < give_up_s, _effects(folder)
        time.sleep(0.01)


def _autoglm(server: RunningServer, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", "runs", *words, "--server", server.admin],
        env={"PYTHONPATH": str(ROOT / "src"), "MCP_ADMIN_KEY": ADMIN_KEY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_tools_models_and_a_person_work_on_one_run_over_a_kill(tmp_path: Path) -> None:
    graph = {
        "name": "report",
        "tasks": [
            {"task_id": "net", "type": "calculator", "args": {"expression": "1200 * 3"}},
            {"id": "tax", "tool": "calculator", "args": {"expression": "${net.result} * 19 / 100"}},
            {"id": "text", "tool": "model:nano", "args": {"prompt": "Net ${net.result}", "max_tokens": 5}},
            {"id": "ok", "tool": "approval", "depends_on": ["text", "tax"]},
            {
                "id": "end",
                "tool": "slow",
                "args": {"folder": str(tmp_path), "name": "tax ${tax.result}"},
                "depends_on": ["ok"],
            },
        ],
    }
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    with _server(tmp_path) as server:
        run_id = json.loads(_autoglm(server, "start", str(tmp_path / "graph.json"), "--json"))["id"]
        run = _until(server, run_id, "waiting", "failed")
        assert run["asking"] == [{"task": "ok", "question": "approval", "arguments": {}}], run
        server.process.kill()
        server.process.wait(LIMIT_S)
    with _server(tmp_path) as server:
        assert "report" in _autoglm(server, "list", "--state", "waiting")
        assert f"autoglm runs approve {run_id} ok" in _autoglm(server, "show", run_id)
        assert _effects(tmp_path) == []
        _autoglm(server, "approve", run_id, "--note", "read it")
        run = _until(server, run_id, "done", "failed")
        results = {task["id"]: task.get("result") for task in run["tasks"]}
        assert (results["net"]["result"], results["ok"]["word"], results["ok"]["note"]) == (
            "3600",
            "approved",
            "read it",
        )
        assert _effects(tmp_path) == ["begin tax 684", "end tax 684"]
        assert "done" in _autoglm(server, "show", run_id)


def test_ctrl_c_lets_a_step_end_and_the_next_server_goes_on_behind_it(tmp_path: Path) -> None:
    tasks = [
        {"id": name, "tool": "slow", "args": {"folder": str(tmp_path), "name": name, "seconds": s}, "depends_on": needs}
        for name, s, needs in (("a", 1.0, []), ("b", 0.0, ["a"]))
    ]
    with _server(tmp_path) as server:
        run_id = _start(server, *tasks)
        _until_effect(tmp_path, "begin a")
        assert "mcp_graph_runs_in_flight 1" in server.admin_get("/metrics")
        assert server.admin_get("/admin/v1/status")["runs"] == {"in_flight": 1, "trouble": ""}
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT_S) == 0
        assert _effects(tmp_path) == ["begin a", "end a"]
    with _server(tmp_path) as server:
        _until(server, run_id, "done")
    assert _effects(tmp_path) == ["begin a", "end a", "begin b", "end b"]


def test_a_new_process_goes_on_with_what_the_old_one_leaves(tmp_path: Path) -> None:
    tasks = [
        {"id": name, "tool": "slow", "args": {"folder": str(tmp_path), "name": name, "seconds": s}, "depends_on": needs}
        for name, s, needs in (("a", 1.0, []), ("b", 0.0, ["a"]))
    ]
    with _server(tmp_path, runs={"sweep": "100ms"}) as server:
        run_id = _start(server, *tasks)
        _until_effect(tmp_path, "begin a")
        server.process.send_signal(signal.SIGUSR2)
        server.process.wait(LIMIT_S)
        _until(server, run_id, "done")
        os.kill(server.admin_get("/admin/v1/status")["pid"], signal.SIGINT)
    assert _effects(tmp_path) == ["begin a", "end a", "begin b", "end b"]


def test_of_several_workers_the_leader_drives_runs_and_the_next_one_after_a_kill(tmp_path: Path) -> None:
    task = {"id": "a", "tool": "slow", "args": {"folder": str(tmp_path), "name": "a", "seconds": 1.0}}
    with _server(tmp_path, server={"workers": 2}) as server:
        run_id = _start(server, task, {"id": "b", "tool": "calculator", "args": {"expression": "1 + 1"}})
        _until_effect(tmp_path, "begin a")
        (leader,) = (each["pid"] for each in server.admin_get("/admin/v1/status")["workers"] if each["worker"] == 0)
        os.kill(leader, signal.SIGKILL)
        with contextlib.suppress(httpx2.TransportError):  # of the connection that was kept open
            server.admin_get("/healthz")
        _until(server, run_id, "done")
    assert _effects(tmp_path).count("begin a") == 2


def test_a_killed_step_with_effects_is_left_to_a_person_and_others_are_repeated(tmp_path: Path) -> None:
    tasks = [
        {"id": tool, "tool": tool, "args": {"folder": str(tmp_path), "name": tool, "seconds": 3.0}}
        for tool in ("put", "slow")
    ]
    with _server(tmp_path) as server:
        run_id = _start(server, *tasks)
        for tool in ("put", "slow"):
            _until_effect(tmp_path, f"begin {tool}")
        server.process.kill()
        server.process.wait(LIMIT_S)
    with _server(tmp_path) as server:
        run = _until(server, run_id, "waiting")
        [asked] = run["asking"]
        assert (asked["task"], asked["question"]) == ("put", "unknown")
        assert _effects(tmp_path).count("begin put") == 1
        assert _effects(tmp_path).count("begin slow") == 2
        assert "--done" in _autoglm(server, "show", run_id)
        _autoglm(server, "approve", run_id, "put", "--done")
        _until(server, run_id, "done")
    assert _effects(tmp_path).count("begin put") == 1


def test_what_a_killed_step_had_set_aside_is_spent_and_the_run_ends_with_what_is_there(tmp_path: Path) -> None:
    tasks = [
        {"id": name, "tool": "paid", "args": {"folder": str(tmp_path), "name": name, "seconds": s}, "depends_on": needs}
        for name, s, needs in (("a", 0.0, []), ("b", 20.0, ["a"]), ("c", 0.0, ["b"]))
    ]
    with _server(tmp_path) as server:
        run_id = _start(server, *tasks, budget={"money": 0.6})
        _until_effect(tmp_path, "begin b")
        run = _until(server, run_id, "running")
        assert (run["budget"], run["spent"]["money"], run["reserved"]["money"]) == ({"money": 0.6}, 0.25, 0.25)
        server.process.kill()
        server.process.wait(LIMIT_S)
    with _server(tmp_path) as server:
        run = _until(server, run_id, "budget_exhausted", "done", "failed")
        assert (run["stop_reason"], run["spent"], run["reserved"]["money"]) == (
            "budget_exhausted",
            {"tokens": 0, "money": 0.5},
            0,
        )
        assert [(task["state"], task.get("result")) for task in run["tasks"]] == [
            ("done", "a"),
            ("cancelled", None),
            ("cancelled", None),
        ]
        assert "0.5 of 0.6 money" in _autoglm(server, "show", run_id)
        assert "budget_exhausted" in _autoglm(server, "list", "--state", "budget_exhausted")
    assert _effects(tmp_path) == ["begin a", "end a", "begin b"]


def test_models_and_teams_are_asked_within_the_budget(tmp_path: Path) -> None:
    team = {"strategy": "dynamic_voting", "members": ["nano", "nano-2"], "budget": {"tokens": 3000}}
    models = [model("nano", "embedded:glm-nano"), model("nano-2", "embedded:glm-nano")]
    ask = {"args": {"prompt": "6 * 7?", "max_tokens": 20}}
    with _server(tmp_path, models=models, cooperation={"team": team}) as server:
        run_id = _start(
            server,
            {"id": "one", "tool": "model:nano", **ask},
            {"id": "all", "tool": "model:team", "depends_on": ["one"], **ask},
            budget={"tokens": 300},
        )
        run = _until(server, run_id, "done", "failed", "budget_exhausted")
        assert (run["state"], run["tasks"][1]["state"]) == ("done", "done"), run
        assert 2 < run["spent"]["tokens"] <= 300
        run_id = _start(server, {"id": "one", "tool": "model:nano", **ask}, budget={"tokens": 20})
        run = _until(server, run_id, "done", "failed", "budget_exhausted")
        assert (run["state"], run["spent"]["tokens"]) == ("budget_exhausted", 0)
        run_id = _start(server, {"id": "a", "tool": "approval"}, budget={"time": "100ms"})
        assert _until(server, run_id, "budget_exhausted", "cancelled")["state"] == "budget_exhausted"


def test_a_dangerous_tool_is_called_after_a_persons_word_only(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        ids = [
            _start(server, {"id": "d", "tool": "drop", "args": {"folder": str(tmp_path), "name": f"d{number}"}})
            for number in range(2)
        ]
        for number, run_id in enumerate(ids):
            args = {"folder": str(tmp_path), "name": f"d{number}"}
            asked = {"task": "d", "question": "confirmation", "arguments": args}
            assert _until(server, run_id, "waiting")["asking"] == [asked]
            assert f'"name": "d{number}"' in _autoglm(server, "show", run_id)
        assert _effects(tmp_path) == []
        _autoglm(server, "approve", ids[0])
        _autoglm(server, "refuse", ids[1], "d", "--note", "no")
        assert _until(server, ids[0], "done", "failed")["state"] == "done"
        assert _until(server, ids[1], "failed")["tasks"][0]["error"]["code"] == "refused"
    assert _effects(tmp_path) == ["begin d0", "end d0"]


def test_a_failing_branch_stops_no_other(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        run_id = _start(
            server,
            {"id": "bad", "tool": "calculator", "args": {"expression": "1 / 0"}},
            {"id": "after", "tool": "calculator", "args": {"expression": "${bad.result} + 1"}},
            {"id": "good", "tool": "slow", "args": {"folder": str(tmp_path), "name": "good", "seconds": 0.3}},
            {"id": "end", "tool": "calculator", "args": {"expression": "1 + 1"}, "depends_on": ["good"]},
        )
        run = _until(server, run_id, "failed")
        states = {task["id"]: task["state"] for task in run["tasks"]}
        assert states == {"bad": "failed", "after": "stopped", "good": "done", "end": "done"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with _server(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "task graph"),
        (b"no", 400, "no task graph"),
        (b'{"tasks": []}', 400, "at least one"),
        (b'{"tasks": [{"id": "a", "tool": "none"}]}', 400, "there is no 'none'"),
        (b'{"tasks": [{"id": "a", "tool": "model:none"}]}', 400, "there are: nano"),
        (b'{"tasks": [{"id": "a", "tool": "approval"}], "budget": {"cents": 5}}', 400, "tokens, money, time"),
    ],
)
def test_wrong_graphs_are_refused(shared: RunningServer, body: bytes, status: int, words: str) -> None:
    answer = shared.admin_post("/admin/v1/runs", body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_what_is_not_there_is_told(shared: RunningServer) -> None:
    assert shared.admin_get("/admin/v1/runs") == {"runs": []}
    for path in ("run-none/approve", "run-none/refuse", "run-none/cancel", "run-none/resume"):
        assert shared.admin_post(f"/admin/v1/runs/{path}").status_code == 404
    run_id = _start(shared, {"id": "ok", "tool": "approval"}, {"id": "ok2", "tool": "approval"}, name="two")
    _until(shared, run_id, "waiting")
    answer = shared.admin_post(f"/admin/v1/runs/{run_id}/approve")
    assert (answer.status_code, "ok, ok2" in answer.text) == (409, True)
    assert shared.admin_post(f"/admin/v1/runs/{run_id}/approve?task=none").status_code == 404
    assert shared.admin_post(f"/admin/v1/runs/{run_id}/cancel").json()["state"] == "cancelled"
    assert shared.admin_post(f"/admin/v1/runs/{run_id}/cancel").status_code == 409
