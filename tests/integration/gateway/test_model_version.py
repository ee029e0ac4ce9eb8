"""Every answer says which version of a model computed it, where somebody knows: in its head, its body, its record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.node.node_process import Process
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, events
from tests.integration.upstreams import wait_until

from open_autoglm.engines.embedded.catalog import read_manifest

BUILT_IN = "glm-nano"
MODELS = (BUILT_IN, "nano-of-a-node")
VERSION = read_manifest(BUILT_IN).version


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    node = Process(models=(f"{MODELS[1]}=embedded:{BUILT_IN}", "echo=echo:"))
    models = [
        {"name": MODELS[0], "endpoint": f"embedded:{BUILT_IN}"},
        {"name": MODELS[1], "endpoint": f"mcp://127.0.0.1:{node.port}"},
    ]
    try:
        with RunningServer(tmp_path_factory.mktemp("server"), {"models": models}) as server:
            rows = "/admin/v1/models"
            wait_until(lambda: {row["state"] for row in server.admin_get(rows)["models"]} == {"ready"}, "both")
            yield server
    finally:
        node.end()


@pytest.mark.parametrize("model", MODELS)
def test_a_whole_answer_says_it_in_head_and_body(server: RunningServer, model: str) -> None:
    answer = server.chat(model)
    assert answer.headers["x-mcp-model-version"] == VERSION
    assert answer.json()["system_fingerprint"] == VERSION
    answer = server.ask({"model": model, "prompt": "1 + 1 ="}, "/v1/completions")
    assert (answer.headers["x-mcp-model-version"], answer.json()["system_fingerprint"]) == (VERSION, VERSION)
    message = {"mcp_version": "1.0", "type": "INFER_REQUEST", "payload": {"model": model, "prompt": "1 + 1 ="}}
    answer = server.ask(message, "/mcp/v1/messages")
    assert (answer.headers["x-mcp-model-version"], answer.json()["payload"]["model_version"]) == (VERSION, VERSION)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_it_at_its_end_at_the_latest(server: RunningServer, model: str) -> None:
    answer = server.chat(model, stream=True)
    finished = [event for event in events(answer)[:-1] if event["choices"] and event["choices"][0]["finish_reason"]]
    assert [event["system_fingerprint"] for event in finished] == [VERSION]
    if model == BUILT_IN:
        assert answer.headers["x-mcp-model-version"] == VERSION, "it is known before the first word"


@pytest.mark.parametrize("model", MODELS)
def test_the_record_and_the_picture_of_a_request_say_it(server: RunningServer, model: str) -> None:
    number = server.chat(model).headers["x-request-id"]
    assert server.admin_get(f"/admin/v1/requests/{number}/explain")["version"] == VERSION
    words = [sys.executable, "-m", "mcp_server", "trace", number, "--server", server.admin]
    environ = {"PYTHONPATH": str(ROOT / "src"), "MCP_ADMIN_KEY": ADMIN_KEY}
    shown = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"computed by version {VERSION}" in shown


def test_an_error_names_no_version(server: RunningServer) -> None:
    answer = server.ask({"model": BUILT_IN, "messages": []})
    assert answer.status_code == 400
    assert "x-mcp-model-version" not in answer.headers
    assert "system_fingerprint" not in json.dumps(answer.json())


def test_what_passes_as_it_is_stays_as_it_is(server: RunningServer, tmp_path: Path) -> None:
    """A server behind a server: nothing is added to bytes that pass, and no version is made up for them."""
    models = [{"name": "far", "endpoint": f"{server.url}/v1", "upstream_model": BUILT_IN}]
    models[0]["token"] = server.http.headers["authorization"].removeprefix("Bearer ")
    with RunningServer(tmp_path, {"models": models}) as front:
        answer = front.chat("far")
        assert answer.status_code == 200, answer.text
        assert "x-mcp-model-version" not in answer.headers
        assert answer.json()["system_fingerprint"] == VERSION
