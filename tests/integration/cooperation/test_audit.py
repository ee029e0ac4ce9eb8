"""What a virtual model did, as it is recorded: checked, shown, decided again, labelled, and after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.cooperation.members import Cast, broken, say
from tests.integration.running import ADMIN_KEY, KEY, ROOT, RunningServer, model
from tests.integration.upstreams import Upstream, wait_until

from open_autoglm.telemetry.audit_reader import verify

EQUAL = {"weighting": "equal", "early_exit": "none"}


def told(server: RunningServer, *words: str, code: int = 0) -> str:
    """Run a command beside a server; return what it printed."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "MCP_ADMIN_KEY": ADMIN_KEY,
        "MCP_ADMIN_URL": server.admin,
    }
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", *words],
        env=environ,
        cwd=server.folder,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


class Stage:
    """A server with the team `a` to `d`, of which `d` fails.

    Attributes:
        audit: the newest file of its records.
    """

    def __init__(self, server: RunningServer, upstream: Upstream, **team: Any) -> None:
        self.server = server
        self.audit = server.folder / "data" / "audit" / "audit.jsonl"
        self.cast = Cast(server, upstream, say("41"), say("42"), say("42"), broken())
        self.cast.apply(team={**EQUAL, **team})

    def ask(self) -> str:
        """Ask the team; return the run's id."""
        answer = self.server.chat("team")
        assert answer.json()["choices"][0]["message"]["content"] == "42"
        return answer.headers["x-request-id"]

    def told(self, *words: str, code: int = 0) -> str:
        """Run a command beside the server; return what it printed."""
        return told(self.server, *words, code=code)

    def offline(self, *words: str, code: int = 0) -> str:
        """Run a command that reads the records."""
        return self.told(*words, "--file", str(self.audit), code=code)

    def records(self) -> list[dict[str, Any]]:
        """All that is written; without a record of which only a part is there yet."""
        whole = self.audit.read_bytes().rpartition(b"\n")[0] if self.audit.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    def wait_ended(self, run: str) -> None:
        wait_until(lambda: any(each["run"] == run and each["kind"] == "end" for each in self.records()), "end")


@pytest.fixture
def stage(tmp_path: Path, upstream: Upstream) -> Iterator[Stage]:
    """A server of its own: what others ask is recorded too."""
    with RunningServer(tmp_path) as server:
        yield Stage(server, upstream)


def test_a_run_is_recorded_checked_shown_and_decided_again(stage: Stage, tmp_path: Path) -> None:
    run = stage.ask()
    stage.wait_ended(run)
    mine = [each for each in stage.records() if each["run"] == run]
    assert mine[0]["kind"] == "begin"
    assert sorted(each["kind"] for each in mine[1:]) == [*("asked",) * 4, *("candidate",) * 4, "decided", "end"]
    begin = mine[0]["data"]
    assert (begin["model"], begin["strategy"]) == ("team", "dynamic_voting")
    assert [member["name"] for member in begin["members"]] == ["a", "b", "c", "d"]
    written = stage.audit.read_text()
    assert "hello" not in written
    assert '"answer":"42"' not in written
    assert "whole: records 1 to" in stage.offline("audit", "verify")
    assert run in stage.offline("audit", "show")
    shown = stage.offline("audit", "show", run)
    assert "team  dynamic_voting of 4 members" in shown
    assert "stopped because all answers were in" in shown
    assert "the same decision, byte for byte" in stage.offline("replay", run)
    assert "1 the same, 0 different" in stage.offline("replay")
    drawn = tmp_path / "run.svg"
    stage.told("trace", run, "--svg", str(drawn))
    assert drawn.read_text().startswith("<svg")
    traced = stage.told("trace", run, "--ascii")
    assert traced.isascii()
    assert "< decided" in traced
    assert "failed, upstream_error" in traced
    explained = stage.server.admin_get(f"/admin/v1/requests/{run}/explain")["cooperation"]
    assert explained["state"] == "decided"
    assert explained["winner"] in ("b", "c")
    other = stage.server.chat("a").headers["x-request-id"]
    assert stage.server.admin_get(f"/admin/v1/requests/{other}/explain")["cooperation"] is None


def test_whether_texts_are_kept_is_changed_without_a_restart(stage: Stage) -> None:
    first = stage.ask()
    stage.cast.apply(team=EQUAL, logging={"prompts": True})
    second = stage.ask()
    stage.cast.apply(team=EQUAL)
    third = stage.ask()
    for run in (first, second, third):
        stage.wait_ended(run)
    questions = {each["run"]: each["data"]["question"] for each in stage.records() if each["kind"] == "begin"}
    assert questions[second] == "hello"
    assert [questions[run]["chars"] for run in (first, third)] == [5, 5]
    assert "3 the same, 0 different" in stage.offline("replay")


def test_a_changed_record_is_found(stage: Stage) -> None:
    run = stage.ask()
    stage.wait_ended(run)
    content = stage.audit.read_bytes()
    stage.audit.write_bytes(content.replace(b'"reason":"all_in"', b'"reason":"decided"', 1))
    assert "broken: audit.jsonl line" in stage.offline("audit", "verify", code=1)
    changed = content.replace(b'"posterior":', b'"posterior":0.5,"was":')
    stage.audit.write_bytes(changed)
    assert "different after 4 candidates: posterior was 0.5" in stage.offline("replay", run, code=1)
    stage.audit.write_bytes(content)
    assert "no run 'req-no'" in stage.offline("replay", "req-no", code=1)


def test_a_label_teaches_once(stage: Stage) -> None:
    right, wrong, said = (stage.ask() for _ in range(3))
    assert f"{right}: right, by human; its virtual model learned" in stage.told("feedback", right, "--right")
    assert "has its label already, by human" in stage.told("feedback", right, "--wrong", code=1)
    assert "wrong, by human" in stage.told("feedback", wrong, "--wrong")
    told = stage.told("feedback", said, "--answer", "The answer is 41.", "--by", "verifier", "--json")
    assert json.loads(told) == {"run": said, "by": "verifier", "right": False, "learned": True}
    assert "no run 'req-no' is known here" in stage.told("feedback", "req-no", "--right", code=1)
    wait_until(lambda: sum(each["kind"] == "label" for each in stage.records()) == 3, "labels")
    later = stage.ask()
    stage.wait_ended(later)
    [begin] = [each for each in stage.records() if each["run"] == later and each["kind"] == "begin"]
    skills = {skill["member"]: skill for skill in begin["data"]["knowledge"]["skills"]}
    # Of `a`, which said 41, one hit and one miss were learned; of `b`, which said 42, one hit and two misses.
    assert skills["a"]["right"] == pytest.approx(skills["b"]["right"], abs=0.1)
    assert skills["b"]["wrong"] == pytest.approx(skills["a"]["wrong"] + 1.0, abs=0.1)
    assert "human said: right" in stage.told("trace", right)


def test_what_is_said_must_make_sense(stage: Stage) -> None:
    run = stage.ask()
    post = stage.server.admin_post
    path = f"/admin/v1/requests/{run}/feedback"
    assert post(path).status_code == 400
    assert post(f"{path}?right=true&answer=41").json()["error"]["param"] == "answer"
    assert post(f"{path}?right=true&by=nobody").json()["error"]["param"] == "by"
    assert post("/admin/v1/requests/req-no/feedback?right=true").status_code == 404
    assert post(f"{path}?right=true&answer=42").status_code == 200
    assert post(f"{path}?right=true").status_code == 409


def test_a_label_counts_after_a_restart_but_not_for_ever(tmp_path: Path, upstream: Upstream) -> None:
    stations = [upstream.station(name).always(say(text)) for name, text in (("a", "41"), ("b", "42"), ("c", "42"))]
    config: dict[str, Any] = {
        "models": [model(name, station.url) for name, station in zip("abc", stations, strict=True)],
        "cooperation": {"team": {"strategy": "dynamic_voting", "members": ["a", "b", "c"], **EQUAL}},
        "audit": {"key": "sixteen characters"},
    }
    with RunningServer(tmp_path, config) as server:
        run = server.chat("team").headers["x-request-id"]
    with RunningServer(tmp_path, config) as server:
        view = server.admin_get(f"/admin/v1/requests/{run}/run")
        assert (view["state"], view["model"], len(view["asks"])) == ("decided", "team", 3)
        assert "in the server's memory no more" in told(server, "trace", run)
        assert "answer B by" in told(server, "trace", run)
        assert "explain.keep" in told(server, "trace", "req-none", code=1)
        post = server.admin_post
        assert post(f"/admin/v1/requests/{run}/feedback?answer=41").json() == {
            "run": run,
            "by": "human",
            "right": False,
            "learned": True,
        }
        assert post(f"/admin/v1/requests/{run}/feedback?answer=41").status_code == 409
    with RunningServer(tmp_path, config) as server:
        assert server.admin_post(f"/admin/v1/requests/{run}/feedback?right=true").status_code == 409
        other = server.chat("team").headers["x-request-id"]
    with RunningServer(tmp_path, {**config, "audit": {"key": "sixteen characters", "label_age": "1ms"}}) as server:
        answer = server.admin_post(f"/admin/v1/requests/{other}/feedback?right=true")
        assert "a label counts for 0.001 s" in answer.json()["error"]["message"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "mcp_server", "audit", "verify", "--config", str(tmp_path / "config.json")]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, encoding="utf-8")
    assert "with the key" in done.stdout, done.stderr


def test_a_killed_server_leaves_records_that_the_next_one_goes_on_with(tmp_path: Path, upstream: Upstream) -> None:
    stations = [upstream.station(name).always(say("42")) for name in "ab"]
    config = {
        "models": [model(name, station.url) for name, station in zip("ab", stations, strict=True)],
        "cooperation": {"team": {"strategy": "dynamic_voting", "members": ["a", "b"], **EQUAL}},
    }
    audit = tmp_path / "data" / "audit" / "audit.jsonl"
    for _ in range(2):
        before = audit.stat().st_size if audit.exists() else 0
        with RunningServer(tmp_path, config) as server:
            for _ in range(20):
                server.chat("team")
            wait_longer(audit, before + 1000)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
        with audit.open("ab") as file:
            file.write(b'{"sequence":')  # as if it had been killed within a write
    with RunningServer(tmp_path, config) as server:
        run = server.chat("team").headers["x-request-id"]
        wait_until(lambda: run.encode() in audit.read_bytes(), "the run")
    verdict = verify(audit)
    assert verdict.ok, verdict
    assert sum("cut off" in note for note in verdict.notes or []) == 2


def test_where_records_are_required_a_run_without_them_is_no_answer(tmp_path: Path, upstream: Upstream) -> None:
    stations = [upstream.station(name).always(say("42")) for name in "ab"]
    config = {
        "models": [model(name, station.url) for name, station in zip("ab", stations, strict=True)],
        "cooperation": {"team": {"strategy": "dynamic_voting", "members": ["a", "b"], **EQUAL}},
        "audit": {"file": "/dev/full/audit.jsonl", "required": True},
    }
    with RunningServer(tmp_path, config) as server:
        answers = [server.chat("team") for _ in range(2)]
        assert [answer.json()["error"]["code"] for answer in answers] == ["storage_full"] * 2
        assert server.chat("a").status_code == 200
        wait_until(lambda: "nothing can be written" in server.log(), "the log tells")
        assert server.admin_get("/admin/v1/status")["audit"]["trouble"]


@pytest.mark.parametrize("texts", [False, True])
def test_a_run_that_plans_is_recorded_with_its_tasks_and_repeated(tmp_path: Path, texts: bool) -> None:
    planned = {"strategy": "plan_execute", "planner": "nano", "members": [], "tools": ["calculator"]}
    config = {
        "models": [model("nano", "embedded:glm-nano")],
        "tools": {"calculator": True},
        "cooperation": {"planned": planned},
        "audit": {"texts": texts},
    }
    question = {"role": "user", "content": "Work out 53 + 487 and then subtract 8506 from it"}
    with RunningServer(tmp_path, config) as server:
        answer = server.ask({"model": "planned", "messages": [question], "temperature": 0})
        assert answer.json()["choices"][0]["message"]["content"] == "-7966"
        run = answer.headers["x-request-id"]
        view = server.admin_get(f"/admin/v1/requests/{run}/explain")["cooperation"]
    assert [(task["tool"], task["outcome"]) for task in view["tasks"]] == [("calculator", "done")] * 2
    assert view["tasks"][1]["needs"] == [view["tasks"][0]["id"]]
    assert [call["tool"] for call in view["tools"]] == ["calculator"] * 2
    assert view["state"] == "decided"
    audit = tmp_path / "data" / "audit" / "audit.jsonl"
    assert verify(audit).ok
    written = audit.read_text()
    assert ("8506" in written, "-7966" in written) == (texts, texts)
    assert f"{run}: the same decision, byte for byte" in told(server, "replay", run, "--file", str(audit))
    other = written.replace('"step":"admitted","task":"1"', '"step":"admitted","task":"2"')
    audit.write_text(other)
    assert 'steps: admitted was "2", and is "1" now' in told(server, "replay", run, "--file", str(audit), code=1)
    old = [line for line in written.splitlines(keepends=True) if '"kind":"course"' not in line]
    audit.write_text("".join(old))
    assert "1 that cannot be decided again" in told(server, "replay", "--file", str(audit))
    assert "did not write down enough" in told(server, "replay", run, "--file", str(audit), code=1)


def test_several_workers_write_one_chain_and_all_learn(tmp_path: Path, upstream: Upstream) -> None:
    stations = [upstream.station(name).always(say(text)) for name, text in (("a", "41"), ("b", "42"), ("c", "42"))]
    config: dict[str, Any] = {
        "server": {"workers": 2},
        "models": [model(name, station.url) for name, station in zip("abc", stations, strict=True)],
        "cooperation": {"team": {"strategy": "dynamic_voting", "members": ["a", "b", "c"], **EQUAL}},
    }
    audit = tmp_path / "data" / "audit" / "audit.jsonl"
    with RunningServer(tmp_path, config) as server:
        runs = [ask_apart(server) for _ in range(12)]
        for _ in range(200):  # until the system has given connections to both
            if len(writers(audit)) == 2:
                break
            ask_apart(server)
        for run in runs:
            answer = server.admin_post(f"/admin/v1/requests/{run}/feedback?answer=41")
            assert answer.json() == {"run": run, "by": "human", "right": False, "learned": True}
            assert server.admin_post(f"/admin/v1/requests/{run}/feedback?answer=41").status_code == 409
        later = [ask_apart(server) for _ in range(8)]
    assert len(writers(audit)) == 2
    records = [json.loads(line) for line in audit.read_bytes().splitlines()]
    verdict = verify(audit)
    assert verdict.ok, verdict
    for each in records:
        if each["kind"] == "begin" and each["run"] in later:
            skills = {skill["member"]: skill for skill in each["data"]["knowledge"]["skills"]}
            assert skills["a"]["right"] > 8.0, "both workers have learned from every label"


def ask_apart(server: RunningServer) -> str:
    """Ask the team over a connection of its own, so that either worker may get it; return the run's id."""
    body = {"model": "team", "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})
    return str(answer.headers["x-request-id"])


def wait_longer(audit: Path, size: int) -> None:
    """Wait until so many bytes are written."""
    wait_until(lambda: audit.exists() and audit.stat().st_size > size, "records")


def writers(audit: Path) -> set[int]:
    """The processes that have written."""
    lines = audit.read_bytes().splitlines(keepends=True) if audit.exists() else []
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return {each["data"]["pid"] for each in records if each["kind"] == "started"}
