"""A server in front of a node: written into its configuration, and found by itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.node.node_process import Process
from tests.integration.running import RunningServer

SECRET = "a secret of the tests"
PATIENCE_S = 20.0
SUMS = [(a, b) for a in (137, 265, 818) for b in (346, 571)]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def answer(server: RunningServer, question: str) -> tuple[int, str]:
    body = {"model": "glm-nano", "messages": [{"role": "user", "content": question}]}
    said = server.http.post("/v1/chat/completions", json=body)
    return said.status_code, said.json()["choices"][0]["message"]["content"] if said.status_code == 200 else said.text


def until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_node_that_is_written_into_the_configuration_answers(tmp_path: Path, secret_file: Path) -> None:
    node = Process("--secret-file", str(secret_file), models=("glm-nano=embedded:glm-nano", "echo=echo:"))
    entry = {"name": "glm-nano", "endpoint": f"mcp://127.0.0.1:{node.port}", "token": SECRET}
    try:
        with RunningServer(tmp_path, {"models": [entry]}) as server:
            until(lambda: answer(server, "What is 1 + 2?")[0] == 200)
            for a, b in SUMS:
                assert answer(server, f"What is {a} + {b}?") == (200, str(a + b))
    finally:
        node.end()


def test_a_node_says_how_likely_its_tokens_were_as_the_server_itself_does(tmp_path: Path, secret_file: Path) -> None:
    node = Process("--secret-file", str(secret_file))
    entries = [
        {"name": "remote", "endpoint": f"mcp://127.0.0.1:{node.port}", "token": SECRET, "upstream_model": "glm-nano"},
        {"name": "glm-nano", "endpoint": "embedded:glm-nano"},
    ]
    body = {"messages": [{"role": "user", "content": "What is 274 + 658?"}], "logprobs": True, "top_logprobs": 2}
    try:
        with RunningServer(tmp_path, {"models": entries}) as server:
            ask = {"model": "remote", "messages": body["messages"]}
            until(lambda: server.http.post("/v1/chat/completions", json=ask).status_code == 200)

            def told(model: str) -> list[tuple[str, float, list[str]]]:
                choice = server.http.post("/v1/chat/completions", json={**body, "model": model}).json()["choices"][0]
                return [
                    (entry["token"], entry["logprob"], [other["token"] for other in entry["top_logprobs"]])
                    for entry in choice["logprobs"]["content"]
                ]

            here, there = told("glm-nano"), told("remote")
            assert [(token, others) for token, _, others in there] == [(token, others) for token, _, others in here]
            assert [logprob for _, logprob, _ in there] == pytest.approx([logprob for _, logprob, _ in here], abs=1e-4)
            assert "".join(token for token, _, _ in there).endswith("</think>932")
            refused = server.http.post("/v1/chat/completions", json={**body, "model": "remote", "top_logprobs": 9})
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "top_logprobs"
    finally:
        node.end()


def test_a_node_that_joins_is_found_used_and_missed(tmp_path: Path, secret_file: Path) -> None:
    port = free_port()
    cluster = {"secret": SECRET, "bind": f"127.0.0.1:{port}"}
    with RunningServer(tmp_path, {"cluster": cluster}) as server:
        words = ("--secret-file", str(secret_file), "--join", f"127.0.0.1:{port}")
        node = Process(*words, models=("glm-nano=embedded:glm-nano", "echo=echo:"))
        try:
            until(lambda: answer(server, "What is 1 + 2?")[0] == 200)
            for a, b in SUMS:
                assert answer(server, f"What is {a} + {b}?") == (200, str(a + b))
        finally:
            code, _ = node.end()
        assert code == 0
        until(lambda: answer(server, "What is 1 + 2?")[0] != 200)
