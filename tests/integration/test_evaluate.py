"""`autoglm evaluate` against a server that answers by a script, as its users run it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.integration.test_cli import PROGRAM, cli, environment

TASKS = [{"prompt": f"{number} + 1", "answer": number + 1, "checker": "number"} for number in range(10)]


@dataclass
class Station:
    """What the server knows: asked questions, and how it shall answer."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    held: Event = field(default_factory=Event)
    hold_from: int = 1000
    reached: Event = field(default_factory=Event)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any] | bytes]:
        model, prompt = body["model"], body["messages"][-1]["content"]
        if model == "silent" and "logprobs" in body:
            return 400, {"error": {"message": "no logprobs", "code": "unsupported_parameter", "param": "logprobs"}}
        self.asked.append((model, prompt))
        if body.get("stream"):
            return self.streamed(body)
        if len(self.asked) >= self.hold_from:
            self.reached.set()
            self.held.wait(30)
        first = int(prompt.split()[0])
        said = first + 1 if model == "clever" or first % 2 else first
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": str(said)}}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return self.status, {"choices": [choice], "usage": usage, "error": {"message": "the key is wrong"}}

    def streamed(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """A team's answer: two members were asked."""
        assert (body["mcp_events"], body["stream_options"]) == (True, {"include_usage": True})
        said = str(int(body["messages"][-1]["content"].split()[0]) + 1)
        events = [
            ("mcp.asked", {"number": 0, "member": "clever", "at_ms": 0.0}),
            ("mcp.asked", {"number": 1, "member": "silent", "at_ms": 0.0}),
            ("mcp.candidate", {"ask": 1, "member": "silent", "at_ms": 0.002}),
            ("mcp.candidate", {"ask": 0, "member": "clever", "at_ms": 0.004}),
            ("mcp.decided", {"posterior": 0.9, "at_ms": 0.004}),
            ("", {"choices": [{"index": 0, "delta": {"content": said}}]}),
            ("", {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4, "cost": 0.25}}),
        ]
        lines = [f"event: {kind}\ndata: {json.dumps(data)}\n\n" if kind else f"data: {json.dumps(data)}\n\n"
                 for kind, data in events]  # fmt: skip
        return 200, "".join([*lines, "data: [DONE]\n\n"]).encode()


@pytest.fixture
def station() -> Iterator[Station]:
    known = Station()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": name} for name in ("clever", "silent", "team")]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(*known.answer(body))

        def _send(self, status: int, value: dict[str, Any] | bytes) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield known
    known.held.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, TASKS)))
    return path


def test_figures_of_every_model_and_of_all_together(station: Station, tasks: Path) -> None:
    plot, prices = tasks.parent / "p.svg", ("--price", "clever=1/2", "--price", "silent=0.5")
    teams = ("--teams", "team")
    done = cli("evaluate", str(tasks), "--server", station.url, "--json", "--plot", str(plot), *prices, *teams)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    clever, silent, team = report["rows"]
    assert (team["right"], team["cost"], team["calls"], team["team"]) == (10, pytest.approx(2.5), 2.0, True)
    assert (team["members"], team["calibration_error"]) == ({"clever": 0.5, "silent": 0.5}, pytest.approx(0.1))
    busy = team["utilisation"]
    assert 0 < busy["clever"] < 1
    assert busy["silent"] == pytest.approx(busy["clever"] / 2)
    assert clever["utilisation"] == {}
    assert (clever["model"], clever["right"], clever["cost"]) == ("clever", 10, pytest.approx(90e-6))
    assert clever["calibration_error"] == pytest.approx(1 - 2.718281828**-0.1, abs=1e-6)
    assert (silent["right"], silent["calibration_error"], silent["failed"]) == (5, None, 0)
    assert report["together"]["best_single"] == "clever"
    assert report["together"]["ceiling"] == 1.0
    assert report["together"]["oracle_cost"] == pytest.approx((5 * 3.5 + 5 * 9) * 1e-6)
    assert plot.read_text().startswith("<svg")
    assert len(station.asked) == len(set(station.asked)) == 30


def test_what_is_in_the_log_is_not_asked_again(station: Station, tasks: Path) -> None:
    log = tasks.parent / "log.jsonl"
    words = ("evaluate", str(tasks), "--server", station.url, "--log", str(log), "--models", "clever")
    first = cli(*words, "--limit", "4")
    assert "clever" in first.stdout
    again = cli(*words, "--json")
    assert json.loads(again.stdout)["asked"] == 10
    assert "4 answers are in" in again.stderr
    assert len(station.asked) == 10


def test_ctrl_c_prints_what_there_is(station: Station, tasks: Path) -> None:
    station.hold_from = 4
    words = ["evaluate", str(tasks), "--server", station.url, "--models", "clever", "--concurrency", "1"]
    process = subprocess.Popen(
        [*PROGRAM, *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert station.reached.wait(30)
    process.send_signal(signal.SIGINT)
    station.held.set()
    shown, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "these are the figures so far" in told
    assert "of 10 questions were asked" in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--models", "nobody"), "the server lists no 'nobody'; it has: clever, silent, team"),
        (("--teams", "nobody"), "the server lists no 'nobody'"),
        (("--price", "clever"), "is no price"),
        (("--price", "clever=-1"), "is no price"),
        (("--concurrency", "1000"), "--concurrency is 1 to 64"),
        (("--plot", "picture.png"), "pictures are SVG"),
    ],
)
def test_wrong_usage(station: Station, tasks: Path, words: tuple[str, ...], why: str) -> None:
    done = cli("evaluate", str(tasks), "--server", station.url, *words)
    assert done.returncode == 2
    assert why in done.stderr


def test_a_server_that_never_answers_well_is_given_up(station: Station, tasks: Path) -> None:
    station.status = 401
    done = cli("evaluate", str(tasks), "--server", station.url)
    assert done.returncode == 1
    assert "20 questions in a row were not answered, the last: 401 the key is wrong" in done.stderr


def test_a_server_of_its_own(tasks: Path) -> None:
    done = cli("evaluate", str(tasks), "--demo", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["model"]: row for row in json.loads(done.stdout)["rows"]}
    assert {row["tasks"] for row in rows.values()} == {10}
    assert all(0 <= row["calibration_error"] <= 1 for row in rows.values())
    assert {name for name, row in rows.items() if row["team"]} == {"majority", "vote-by-confidence", "cascade"}
    assert rows["vote-by-confidence"]["calls"] == 4.0
    assert set(rows["majority"]["members"]) == {"glm-calc-c", "glm-calc-d", "glm-calc-m"}
