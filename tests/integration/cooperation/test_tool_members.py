"""A tool as a step of a cascade, through a whole server: what it is given, what the client gets, what is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, model
from tests.integration.speech import dumps
from tests.integration.upstreams import Behaviour, Upstream, Wire, wait_until

TOOLS = '''
import json, pathlib, time

def again(question: str, answer: str, reasoning: str) -> str | None:
    """Compute a product anew."""
    given = {"question": question, "answer": answer, "reasoning": reasoning}
    pathlib.Path("given.json").write_text(json.dumps(given))
    factors = reasoning.split(" times ")
    return str(int(factors[0]) * int(factors[1])) if len(factors) == 2 else None
'''
TEAM = {
    "strategy": "cascade",
    "members": ["a", "tool:again"],
    "cascade_steps": [["a"], ["tool:again"]],
    "cascade_samples": 1,
    "thresholds": [0.8, 0.0],
    "tools": ["again"],
    "tool_confidence": 0.99,
    "logprobs": True,
    "timeout": "10s",
}
ENTRY = {"name": "again", "function": "member_tools:again", "class": "read", "cost": 0.5}


def thinking(text: str, reasoning: str, logprob: float) -> Behaviour:
    """Answer with a text, what was thought before it, and how sure each token was."""
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    scores = {"content": [{"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}]}
    choice = {"index": 0, "message": message, "logprobs": scores, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = dumps({"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

    async def behave(wire: Wire) -> None:
        await wire.respond(body)

    return behave


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def station(upstream: Upstream) -> Any:
    return upstream.station("tool-member")


@pytest.fixture(scope="module")
def computing(folder: Path, station: Any) -> Iterator[RunningServer]:
    """A server whose virtual model `team` has a model that a test scripts, and a tool that computes anew."""
    (folder / "member_tools.py").write_text(TOOLS)
    models = [model("a", station.url), model("nano", "embedded:glm-nano")]
    python = [
        ENTRY,
        {"name": "recompute", "function": "benchmarks.cooperation.recompute:recompute", "class": "read"},
    ]
    nano = {**TEAM, "members": ["nano", "tool:recompute"], "cascade_steps": [["nano"], ["tool:recompute"]]}
    config = {
        "models": models,
        "tools": {"python": python},
        "cooperation": {"team": TEAM, "nanos": {**nano, "tools": ["recompute"], "thresholds": [0.9949, 0.0]}},
        "logging": {"prompts": True},
    }
    with RunningServer(folder, config, environ={"PYTHONPATH": f"{ROOT / 'src'}:{folder}:{ROOT}"}) as server:
        yield server


def content(answer: Any) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def told(server: RunningServer, *words: str) -> str:
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
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(server: RunningServer) -> list[tuple[str, str]]:
    """Run and kind of all records in the file."""
    path = server.folder / "data" / "audit" / "audit.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [(record["run"], record["kind"]) for record in map(json.loads, whole.splitlines())]


def test_what_a_model_is_unsure_of_is_computed_anew(computing: RunningServer, station: Any) -> None:
    station.always(thinking("41", "6 times 7", -1.0))
    answer = computing.chat("team", messages=[{"role": "user", "content": "6 * 7?"}])
    assert content(answer) == "42"
    usage = answer.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["cost"]) == (7, 3, 0.5)
    given = json.loads((computing.folder / "given.json").read_text())
    assert given == {"question": "6 * 7?", "answer": "41", "reasoning": "6 times 7"}


def test_the_record_says_that_it_was_a_tool_and_gives_the_same_again(computing: RunningServer, station: Any) -> None:
    station.always(thinking("41", "6 times 7", -1.0))
    run = computing.chat("team").headers["x-request-id"]
    shown = told(computing, "trace", run)
    assert "by tool:again: 98.0% sure" in shown, shown
    assert "compute, given to the client" in shown
    assert "tool again" in shown
    wait_until(lambda: (run, "end") in written(computing), "the record is in the file")
    assert "same" in told(computing, "replay", run)
    samples = computing.admin_get("/metrics")
    assert 'mcp_team_asks_total{model="team",member="tool:again",outcome="vote"}' in samples


@pytest.mark.parametrize(
    ("reasoning", "logprob", "outcome"),
    [("6 times 7", -0.01, "accepted"), ("who knows", -1.0, "all_in"), ("6 times x", -1.0, "all_in")],
)
def test_who_is_sure_and_what_cannot_be_computed_stay_as_they_are(
    computing: RunningServer, station: Any, reasoning: str, logprob: float, outcome: str
) -> None:
    station.always(thinking("41", reasoning, logprob))
    answer = computing.chat("team", stream=True, mcp_events=True).text
    lines = answer.splitlines()
    after = {line: lines[place + 1] for place, line in enumerate(lines) if line.startswith("event: ")}
    decided = json.loads(after["event: mcp.decided"].removeprefix("data: "))
    assert (decided["answer"], decided["reason"]) == ("41", outcome)
    assert ("event: mcp.tool_called" in after) == (outcome == "all_in")


def test_a_model_that_ships_is_recomputed(computing: RunningServer) -> None:
    question = [{"role": "user", "content": "What is 255 minus 821?"}]
    assert content(computing.chat("nano", messages=question)) != "-566"
    answer = computing.chat("nanos", stream=True, mcp_events=True, messages=question).text
    assert '"member":"tool:recompute","answer":"-566"' in answer
    assert '"content":"-566"' in answer


def test_a_tool_that_does_not_fit_is_refused_with_its_path(computing: RunningServer) -> None:
    before = computing.admin_get("/admin/v1/status")["revision"]
    team = {**TEAM, "tools": []}
    pushed = {"models": [model("a", "http://a/v1")], "tools": {"python": [ENTRY]}, "cooperation": {"team": team}}
    answer = computing.admin_post("/admin/v1/config", computing.encoded(pushed))
    assert answer.status_code == 422
    assert "cooperation.team.members[1]" in answer.text
    assert computing.admin_get("/admin/v1/status")["revision"] == before
