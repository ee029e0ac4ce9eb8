"""The examples, each run as a reader would run it, against a real server with an embedded model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
KEY = "key-of-the-examples"
RUN_S = 60


def environment(**more: str) -> dict[str, str]:
    """An environment without anybody's keys and servers in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "OPENAI", "OLLAMA"))}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("examples")
    config = {
        "server": {"port": 0, "admin_port": 0, "data_dir": str(folder / "data")},
        "models": [{"name": "glm-nano", "endpoint": "embedded:glm-nano"}],
        "auth": {"api_key": KEY},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    server = subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "serve", "--config", str(path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        found = re.search(r"listening on (http://\S+)", server.stdout.readline())
        assert found is not None
        yield found[1]
        server.terminate()
        assert server.wait(RUN_S) == 0
    finally:
        server.kill()
        server.communicate()


def run(url: str, *words: str) -> str:
    """Run an example and return what it printed; it must end well and complain of nothing."""
    done = subprocess.run(
        words,
        env=environment(MCP_SERVER_URL=url, MCP_API_KEY=KEY),
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def sections(printed: str) -> list[str]:
    """What stands below each line that begins with `# `."""
    return re.split(r"^# .*\n", printed, flags=re.MULTILINE)[1:]


def events(printed: str) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in printed.splitlines() if line.startswith("data: ")]


def test_curl(url: str) -> None:
    models, answer, stream, error = sections(run(url, str(EXAMPLES / "ask.sh")))
    assert [model["id"] for model in json.loads(models)["data"]] == ["glm-nano"]
    assert json.loads(answer)["choices"][0]["message"]["content"] == "932"
    told = events(stream)
    assert told[-1] == "[DONE]"
    chunks: list[dict[str, Any]] = [json.loads(data) for data in told[:-1]]
    text = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(text) == "932"
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert json.loads(error)["error"]["code"] == "model_not_found"


def test_openai_package(url: str) -> None:
    lines = run(url, sys.executable, str(EXAMPLES / "ask_openai.py")).splitlines()
    assert lines[:2] == ["models: glm-nano", "answer: 932"]
    assert re.fullmatch(r"stream: -?\d+ \(\d+ tokens\)", lines[2])
    questions = ["What is 12 + 30?", "What is 9 - 4?", "What is 6 * 7?"]
    assert [line.rpartition(" ")[0] for line in lines[3:6]] == questions
    assert all(re.fullmatch(r"-?\d+", line.rpartition(" ")[2]) for line in lines[3:6])
    assert re.fullmatch(r"error: model_not_found \| request: req-[0-9a-f]{24}", lines[6])


def test_our_own_protocol(url: str) -> None:
    lines = run(url, sys.executable, str(EXAMPLES / "ask_mcp.py")).splitlines()
    assert re.fullmatch(r"answer: 932 \(\d+ tokens\)", lines[0])
    assert lines[1] == "stream: 932 (stop)"
    assert [line.rpartition(" ")[0] for line in lines[2:5]] == ["What is 12 + 30?", "What is 9 - 4?", "What is 6 * 7?"]
    assert all(re.fullmatch(r"-?\d+", line.rpartition(" ")[2]) for line in lines[2:5])
    assert lines[5:] == ["error: model_not_found 404 | again: False"]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_program_on_the_first_page(url: str, page: str) -> None:
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    program = found[1].replace("mcp://127.0.0.1:8080", url).replace('"chat"', '"glm-nano"')
    assert re.fullmatch(r"-?\d+\n-?\d+", run(url, sys.executable, "-c", program))


def test_mcp_messages(url: str) -> None:
    typed, opcode, meta, streamed, error = sections(run(url, str(EXAMPLES / "mcp" / "send.sh")))
    assert json.loads(typed)["type"] == "INFER_RESPONSE"
    assert json.loads(typed)["trace_id"] == "order-4711"
    assert json.loads(opcode)["opcode"] == 11
    assert json.loads(opcode)["session_id"] == "session-1"
    assert "mcp_version" not in json.loads(meta)
    for answer in (typed, opcode, meta):
        assert json.loads(answer)["payload"]["text"] == "932"
    messages = [json.loads(data) for data in events(streamed)]
    *chunks, response = messages
    assert [chunk["payload"]["seq"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["type"] for chunk in chunks} == {"INFER_CHUNK"}
    assert response["type"] == "INFER_RESPONSE"
    assert "".join(chunk["payload"]["text"] for chunk in chunks) == response["payload"]["text"] == "932"
    assert json.loads(error)["opcode"] == 14
    assert json.loads(error)["payload"]["code"] == "model_not_found"


def test_configuration() -> None:
    variables = ("MCP_ADMIN_KEY", "OPENAI_API_KEY", "MCP_API_KEY", "MCP_BATCH_KEY")
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", "config", "check", str(EXAMPLES / "mcp_config.yaml")],
        env=environment(**{name: f"value-of-{name}" for name in variables}),
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("ok, 5 endpoints\n")
