"""The command line as its users run it: real processes, real sockets, a real server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.integration.scripted_upstream import ScriptedUpstream, sse

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "mcp_server"]
START_S = 30.0
API_KEY = "integration-key"


def environment(**more: str) -> dict[str, str]:
    """An environment without anybody's keys and servers in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "OPENAI", "OLLAMA"))}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def cli(*words: str, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*PROGRAM, *words], input=typed, env=environment(**environ), capture_output=True, encoding="utf-8", timeout=60
    )


@dataclass
class Running:
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    printed: str
    folder: Path

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command against its admin listener, found by its configuration and its kept key."""
        return cli(*words, "--server", self.admin, "--config", str(self.folder / "config.json"))

    def json(self, *words: str) -> dict[str, Any]:
        """Run a query command with `--json`."""
        done = self.ask(*words, "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert isinstance(told, dict)
        return told

    def chat(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run `chat` against it."""
        return cli("chat", "--server", self.url, *words, typed=typed, MCP_API_KEY=API_KEY)


@contextlib.contextmanager
def serving(folder: Path, config: dict[str, object], *words: str) -> Iterator[Running]:
    """Run a server with a configuration; it must end with 0 when it is told to."""
    path = folder / "config.json"
    server = {"port": 0, "admin_port": 0, "data_dir": str(folder / "data")}
    path.write_text(json.dumps({"server": server, "logging": {"file": str(folder / "log")}, **config}))
    path.chmod(0o600)
    process = subprocess.Popen(
        [*PROGRAM, "--config", str(path), *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = read_until(process, "state")
        url, admin = re.findall(r"on (https?://[\d.]+:\d+)", "".join(lines))
        yield Running(process, url, admin, "".join(lines), folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Read lines of a process up to the first that ends with a word, and one more."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].strip().endswith(word):
        line = process.stdout.readline()
        assert line, "".join(lines) + (process.stderr.read() if process.stderr else "")
        lines.append(line)
    return [*lines, process.stdout.readline()]


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def running(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config: dict[str, object] = {
        "models": [{"name": "chat", "endpoint": upstream.url}],
        "auth": {"api_keys": [{"name": "tester", "key": API_KEY}]},
        "limits": {"requests_per_second": 0},
        "retries": {"max": 0},
    }
    with serving(tmp_path_factory.mktemp("server"), config) as server:
        yield server


class TestServe:
    def test_it_prints_its_addresses_and_the_table_of_models(
        self, running: Running, upstream: ScriptedUpstream
    ) -> None:
        lines = running.printed.splitlines()
        assert lines[0] == f"listening on {running.url}"
        assert lines[1] == f"admin listener on {running.admin}"
        assert re.split(r"\s{2,}", lines[3]) == ["model", "dialect", "endpoint", "state"]
        assert re.split(r"\s{2,}", lines[4]) == ["chat", "openai", upstream.url, "ready"]
        assert "\x1b" not in running.printed

    def test_a_taken_port_says_by_whom(self, running: Running, tmp_path: Path) -> None:
        port = running.url.rpartition(":")[2]
        done = cli("serve", "--port", port, "--admin-port", "0", MCP__SERVER__DATA_DIR=str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert str(running.process.pid) in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_wrong_configuration_is_78(self, tmp_path: Path) -> None:
        path = tmp_path / "wrong.yaml"
        path.write_text("server: {prot: 1}\nmodels: [{name: a, endpoint: nowhere}]\n")
        done = cli("--config", str(path))
        assert done.returncode == 78
        assert "line 1: server.prot" in done.stderr
        assert "line 2: models[0].endpoint" in done.stderr
        assert done.stdout == ""


class TestChat:
    def test_one_question_a_line(self, running: Running, upstream: ScriptedUpstream) -> None:
        upstream.asked.clear()
        done = running.chat(typed="第一个问题\nsecond\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "你好，世界\n你好，世界\n", "")
        roles = [[message["role"] for message in body["messages"]] for body in upstream.asked]
        assert roles == [["user"], ["user", "assistant", "user"]]
        assert upstream.asked[1]["messages"][0]["content"] == "第一个问题"
        assert upstream.asked[1]["messages"][1]["content"] == "你好，世界"

    def test_without_history_and_with_settings(self, running: Running, upstream: ScriptedUpstream) -> None:
        upstream.asked.clear()
        words = ("--no-history", "--system", "be brief", "--temperature", "0", "--max-tokens", "7", "--model", "chat")
        assert running.chat(*words, typed="a\nb\n").returncode == 0
        assert [[m["content"] for m in body["messages"]] for body in upstream.asked] == [
            ["be brief", "a"],
            ["be brief", "b"],
        ]
        assert [(body["temperature"], body["max_tokens"]) for body in upstream.asked] == [(0, 7)] * 2

    def test_an_error_inside_the_stream_is_an_error(self, running: Running, upstream: ScriptedUpstream) -> None:
        whole = upstream.stream
        upstream.stream = sse("half", done=False, error="out of memory")
        try:
            done = running.chat("question")
        finally:
            upstream.stream = whole
        assert done.returncode == 1
        assert done.stdout == "half\n"
        assert done.stderr.startswith("error: ")

    def test_an_error_of_any_other_server_too(self, upstream: ScriptedUpstream) -> None:
        whole = upstream.stream
        try:
            upstream.stream = sse("half", done=False, error="out of memory")
            told = cli("chat", "--server", upstream.url, "q")
            upstream.stream = sse("half", done=False)
            cut = cli("chat", "--server", upstream.url, "q")
        finally:
            upstream.stream = whole
        assert (told.returncode, told.stderr) == (1, "error: out of memory\n")
        assert (cut.returncode, cut.stdout) == (1, "half\n")
        assert "broke off" in cut.stderr

    def test_a_wrong_key_and_a_wrong_model(self, running: Running) -> None:
        done = cli("chat", "--server", running.url, "--model", "chat", "hi", MCP_API_KEY="wrong")
        assert done.returncode == 1
        assert "MCP_API_KEY" in done.stderr
        done = running.chat("--model", "caht", "hi")
        assert done.returncode == 1
        assert "chat" in done.stderr

    def test_in_a_terminal(self, running: Running) -> None:
        shown, code = in_terminal(
            [*PROGRAM, "chat", "--server", running.url],
            environment(MCP_API_KEY=API_KEY, TERM="xterm"),
            [("> ", "你好吗\n"), ("世界", ""), ("> ", "/reset\n"), ("anew", ""), ("> ", "/quit\n")],
        )
        assert code == 0
        assert "chat" in shown.splitlines()[0]

    def test_ctrl_c_stops_an_answer_only(self, running: Running, upstream: ScriptedUpstream) -> None:
        whole = upstream.stream
        upstream.stream, upstream.pause_s = sse(*["more "] * 1000, done=True), 0.01
        try:
            shown, code = in_terminal(
                [*PROGRAM, "chat", "--server", running.url],
                environment(MCP_API_KEY=API_KEY, TERM="xterm"),
                [("> ", "go on\n"), ("more more", "\x03"), ("(stopped)", ""), ("> ", "/quit\n")],
            )
        finally:
            upstream.stream, upstream.pause_s = whole, 0.0
        assert code == 0
        assert shown.count("more") < 1000

    def test_ctrl_c_at_the_prompt(self, running: Running) -> None:
        shown, code = in_terminal(
            [*PROGRAM, "chat", "--server", running.url],
            environment(MCP_API_KEY=API_KEY, TERM="xterm"),
            [("> ", "\x03")],
        )
        assert code == 130
        assert "Traceback" not in shown


@pytest.fixture(scope="module")
def used(running: Running) -> Running:
    """The server, after it has answered at least one request."""
    assert running.chat("hi").returncode == 0
    return running


class TestQueries:
    def test_status(self, used: Running) -> None:
        assert used.json("status")["ready"] is True
        assert "ready: yes" in used.ask("status").stdout

    def test_models(self, used: Running, upstream: ScriptedUpstream) -> None:
        assert [row["endpoint"] for row in used.json("models")["models"]] == [upstream.url]
        assert used.ask("models").stdout.splitlines()[1].split()[:4] == ["chat", "openai", upstream.url, "ready"]

    def test_keys_without_the_keys(self, used: Running) -> None:
        assert [row["name"] for row in used.json("keys")["keys"]] == ["tester"]
        done = used.ask("keys", "list")
        assert "tester" in done.stdout
        assert API_KEY not in done.stdout

    def test_requests_and_trace(self, used: Running) -> None:
        [request] = used.json("requests", "--limit", "1")["requests"]
        request_id = request["request_id"]
        assert request_id in used.ask("requests").stdout
        assert used.json("trace", request_id)["request_id"] == request_id
        picture = used.ask("trace", request_id).stdout
        assert request_id in picture
        assert "upstream" in picture
        assert max(map(len, picture.splitlines())) <= 100

    def test_filters(self, used: Running) -> None:
        assert used.json("requests", "--model", "other")["requests"] == []
        assert used.json("requests", "--status", "200", "--key", "tester")["requests"] != []
        assert used.json("requests", "--failed", "--code", "no_quorum")["requests"] == []
        assert "no such request" in used.ask("requests", "--model", "other").stderr

    def test_an_unknown_request(self, used: Running) -> None:
        done = used.ask("trace", "no/such?one")
        assert done.returncode == 1
        assert "no/such?one" in done.stderr

    def test_a_wrong_admin_key_says_where_the_right_one_is(self, used: Running) -> None:
        done = cli("status", "--server", used.admin, MCP_ADMIN_KEY="wrong")
        assert done.returncode == 1
        assert "admin.key" in done.stderr
        assert "wrong" not in done.stderr

    def test_the_data_listener_is_not_the_admin_listener(self, used: Running) -> None:
        done = cli("status", "--server", used.url, MCP_ADMIN_KEY="k")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1

    def test_bench(self, used: Running) -> None:
        words = ("bench", "--server", used.url, "--seconds", "0.4", "--max-concurrency", "2")
        done = cli(*words, "--json", MCP_API_KEY=API_KEY)
        told = json.loads(done.stdout)
        assert done.returncode == 0
        assert [step["concurrency"] for step in told["steps"]] == [1, 2]
        assert all(step["good"] > 0 and not step["failures"] for step in told["steps"])
        assert told["knee"] in (1, 2)
        done = cli(*words, "--stream", MCP_API_KEY=API_KEY)
        assert done.returncode == 0
        assert "The knee:" in done.stdout
        assert "<- knee" in done.stdout


class TestTls:
    def test_a_private_authority_is_named_with_ca(self, upstream: ScriptedUpstream, tmp_path: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        config: dict[str, object] = {
            "models": [{"name": "chat", "endpoint": upstream.url}],
            "tls": {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")},
        }
        with serving(tmp_path, config) as server:
            assert server.url.startswith("https://")
            done = cli("chat", "--server", server.url, "--ca", str(tmp_path / "ca.pem"), "hi")
            assert (done.returncode, done.stdout) == (0, "你好，世界\n")
            done = cli("chat", "--server", server.url, "hi")
            assert done.returncode == 1
            assert "--ca" in done.stderr
            words = ("--seconds", "0.3", "--max-concurrency", "1", "--ca", str(tmp_path / "ca.pem"))
            done = cli("bench", "--server", server.url, *words, "--json")
            assert json.loads(done.stdout)["steps"][0]["good"] > 0


class TestConfig:
    @pytest.fixture
    def server(self, upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[Running]:
        config: dict[str, object] = {"models": [{"name": "chat", "endpoint": upstream.url}]}
        with serving(tmp_path, config) as server:
            yield server

    def test_apply_history_diff_and_rollback(self, server: Running, upstream: ScriptedUpstream, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text(
            f"models: [{{name: chat, endpoint: '{upstream.url}'}}, {{name: two, endpoint: '{upstream.url}'}}]\n"
        )
        assert "models[two]" in server.ask("config", "diff", str(other)).stdout
        done = server.ask("config", "apply", str(other))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("revision 2 is active")
        assert [m["name"] for m in server.json("models")["models"]] == ["chat", "two"]
        assert server.json("config", "show")["revision"] == 2
        assert server.json("config", "rollback")["revision"] == 3
        assert [m["name"] for m in server.json("models")["models"]] == ["chat"]
        assert len(server.ask("config", "history").stdout.splitlines()) == 4

    def test_what_is_wrong_is_told_and_changes_nothing(self, server: Running, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text("models:\n  - {name: a, endpoint: nowhere}\n  - {nome: b}\n")
        done = server.ask("config", "apply", str(wrong))
        assert done.returncode == 78
        assert "line 2: models[0].endpoint" in done.stderr
        assert "line 3: models[1].nome" in done.stderr
        assert server.json("config", "show")["revision"] == 1


class TestDoctor:
    def test_endpoints(self, tmp_path: Path) -> None:
        with ScriptedUpstream() as good, ScriptedUpstream(token="t") as closed, silent() as slow_url:
            path = tmp_path / "a.json"
            models = [
                {"name": "chat", "endpoint": good.url},
                {"name": "other", "endpoint": good.url},
                {"name": "locked", "endpoint": closed.url},
                {"name": "open", "endpoint": closed.url, "token": "t", "upstream_model": "chat"},
                {"name": "plain", "endpoint": good.url.replace("/v1", "/generate")},
                {"name": "slow", "endpoint": slow_url},
            ]
            server = {"port": 0, "admin_port": 0, "data_dir": str(tmp_path / "data")}
            path.write_text(json.dumps({"server": server, "models": models}))
            path.chmod(0o600)
            began_s = time.monotonic()
            done = cli("doctor", "--config", str(path), "--json")
            took_s = time.monotonic() - began_s
        assert done.returncode == 1
        findings = {
            f["topic"].split()[1]: f for f in json.loads(done.stdout)["findings"] if f["topic"].startswith("model")
        }
        states = {name: finding["state"] for name, finding in findings.items()}
        assert states == {"chat": "ok", "other": "warn", "locked": "fail", "open": "ok", "plain": "ok", "slow": "fail"}
        assert "no answer within 2 s" in findings["slow"]["message"]
        assert good.asked == []
        assert took_s < START_S


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


class TestDemo:
    def test_once(self, tmp_path: Path) -> None:
        done = cli("demo", "--once", TMPDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "932" in done.stdout.splitlines()
        assert "\x1b" not in done.stdout
        assert list(tmp_path.iterdir()) == []

    def test_the_curl_line_works_and_ctrl_c_removes_everything(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [*PROGRAM, "demo"],
            env=environment(TMPDIR=str(tmp_path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            words = shlex.split(until_curl(process))
            url, body = next(word for word in words if word.startswith("http://")), words[-1]
            headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
            host, _, path = url.removeprefix("http://").partition("/")
            connection = http.client.HTTPConnection(host, timeout=30)
            connection.request("POST", f"/{path}", body.encode(), headers)
            answer = json.loads(connection.getresponse().read())
            connection.close()
            assert answer["choices"][0]["message"]["content"] == "833"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=START_S)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0
        assert "The demo has ended." in out
        assert err == ""
        assert list(tmp_path.iterdir()) == []


def until_curl(process: subprocess.Popen[str]) -> str:
    """Read lines of the demo up to its `curl` line, and return that."""
    assert process.stdout is not None
    line = ""
    while not line.startswith("curl "):
        line = process.stdout.readline()
        assert line, "the demo ended"
    return line


class TestPipes:
    def test_a_reader_that_leaves(self) -> None:
        line = f"{shlex.join([*PROGRAM, 'config', 'schema'])} | head -c 1"
        done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("{", "")

    def test_an_ascii_terminal_still_gets_an_answer(self, running: Running) -> None:
        done = subprocess.run(
            [*PROGRAM, "chat", "--server", running.url, "hi"],
            env=environment(MCP_API_KEY=API_KEY, PYTHONIOENCODING="ascii"),
            capture_output=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, b"?????\n")

    def test_the_key_is_in_no_argument(self, running: Running) -> None:
        assert API_KEY.encode() not in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()


def in_terminal(command: list[str], environ: dict[str, str], script: list[tuple[str, str]]) -> tuple[str, int]:
    """Run a command in a terminal: wait for a text, then type; return what was shown, and the exit code."""
    child, master = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it
        os.execve(command[0], command, environ)
    shown, position, deadline_s = "", 0, time.monotonic() + START_S
    try:
        for awaited, typed in script:
            while awaited not in shown[position:]:
                assert time.monotonic() < deadline_s, shown
                if select.select([master], [], [], 1.0)[0]:
                    shown += os.read(master, 4096).decode("utf-8", "replace")
            position = shown.index(awaited, position) + len(awaited)
            os.write(master, typed.encode())
        last = script[-1][1].encode()
        with contextlib.suppress(OSError):  # a terminal whose program has ended cannot be read
            while True:
                if select.select([master], [], [], 2.0)[0]:
                    data = os.read(master, 4096)
                    if not data:
                        break
                    shown += data.decode("utf-8", "replace")
                elif last == b"\x03":
                    # Between showing its prompt and waiting for a key, readline does not notice a signal: as a person
                    # would, press it again.
                    assert time.monotonic() < deadline_s, shown
                    os.write(master, last)
        return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(master)
