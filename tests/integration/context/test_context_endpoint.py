"""Our server as a server of the context protocol: over the admin listener, with the protocol's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client
from tests.integration.running import ADMIN_KEY, RunningServer, model

BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("context")
    config = {
        "models": [model("nano", "embedded:glm-nano")],
        "cooperation": {"team": {"strategy": "self_consistency", "members": ["nano"], "fallback": "nano"}},
    }
    with RunningServer(folder, config) as running:
        yield running


@asynccontextmanager
async def client(server: RunningServer, mode: str = "auto") -> AsyncIterator[mcp.Client]:
    async with (
        httpx2.AsyncClient(headers=BEARER, timeout=60) as http,
        mcp.Client(streamable_http_client(f"{server.admin}/context", http_client=http), mode=mode) as made,
    ):
        yield made


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_its_tools_tell_and_ask(server: RunningServer, mode: str) -> None:
    async with client(server, mode) as context:
        assert context.server_info is not None
        assert context.server_info.name == "open-autoglm"
        tools = {tool.name: tool for tool in (await context.list_tools()).tools}
        assert tools.keys() == {"list_models", "ask_model", "server_status", "list_runs", "show_run"}
        assert tools["list_models"].annotations.read_only_hint
        assert not tools["ask_model"].annotations.read_only_hint
        listed = (await context.call_tool("list_models", {})).structured_content
        assert [each["name"] for each in listed["models"]] == ["nano", "team"]
        assert (await context.call_tool("server_status", {})).structured_content["ready"] is True
        answer = await context.call_tool("ask_model", {"model": "nano", "prompt": "What is 2 + 3?", "max_tokens": 200})
        assert not answer.is_error
        assert "5" in answer.structured_content["text"]
        assert answer.structured_content["usage"]["completion_tokens"] > 0
        assert json.loads(answer.content[0].text) == answer.structured_content


async def test_a_virtual_model_is_asked_and_its_run_is_shown(server: RunningServer) -> None:
    async with client(server) as context:
        answer = await context.call_tool("ask_model", {"model": "team", "prompt": "What is 2 + 3?"})
        assert not answer.is_error, answer.content
        assert "5" in answer.structured_content["text"]
        runs = (await context.call_tool("list_runs", {"limit": 1})).structured_content["answers"]
        assert [run["model"] for run in runs] == ["team"]
        shown = (await context.call_tool("show_run", {"id": runs[0]["request_id"]})).structured_content
        assert shown["model"] == "team"
        page = await context.read_resource(f"autoglm://runs/{runs[0]['request_id']}")
        assert json.loads(page.contents[0].text)["request_id"] == runs[0]["request_id"]
        answer = await context.call_tool("show_run", {"id": "none"})
        assert answer.is_error
        assert "not_found" in answer.content[0].text


async def test_a_run_of_a_task_graph_is_shown(server: RunningServer) -> None:
    graph = {"tasks": [{"id": "sum", "tool": "calculator", "args": {"expression": "2 + 3"}}]}
    made = httpx2.post(f"{server.admin}/admin/v1/runs", json=graph, headers=BEARER, timeout=30).json()
    async with client(server) as context:
        listed = (await context.call_tool("list_runs", {})).structured_content["runs"]
        assert made["id"] in [row["id"] for row in listed]
        for _ in range(1000):
            shown = (await context.call_tool("show_run", {"id": made["id"]})).structured_content
            if shown["state"] == "done":
                break
            await asyncio.sleep(0.02)
        assert (shown["state"], shown["tasks"][0]["result"]) == ("done", {"result": "5"})
        page = await context.read_resource(f"autoglm://runs/{made['id']}")
        assert json.loads(page.contents[0].text)["id"] == made["id"]


async def test_what_cannot_be_done_is_told(server: RunningServer) -> None:
    async with client(server, "legacy") as context:
        for arguments, words in (
            ({"model": "none", "prompt": "x"}, "model_not_found"),
            ({"model": "nano"}, "'prompt' is missing"),
            ({"model": "nano", "prompt": "x", "api_key": "y"}, "'api_key' is not known"),
        ):
            answer = await context.call_tool("ask_model", arguments)
            assert answer.is_error
            assert words in answer.content[0].text
        with pytest.raises(mcp.MCPError, match="no tool"):
            await context.call_tool("drop_tables", {})
        for uri in ("autoglm://nothing", "autoglm://models/none", "file:///etc/passwd", "autoglm://runs/none"):
            with pytest.raises(mcp.MCPError, match="no such resource"):
                await context.read_resource(uri)


async def test_its_pages_can_be_read(server: RunningServer) -> None:
    async with client(server, "legacy") as context:
        pages = [page.uri for page in (await context.list_resources()).resources]
        assert {"autoglm://models", "autoglm://status", "autoglm://requests"} <= set(pages)
        for uri in pages:
            assert json.loads((await context.read_resource(uri)).contents[0].text)
        families = [each.uri_template for each in (await context.list_resource_templates()).resource_templates]
        assert "autoglm://models/{name}" in families
        one = json.loads((await context.read_resource("autoglm://models/nano")).contents[0].text)
        assert one["endpoints"][0]["dialect"] == "embedded"


def post(server: RunningServer, **headers: str) -> httpx2.Response:
    accept = {"accept": "application/json, text/event-stream"}
    return httpx2.post(f"{server.admin}/context", json=INITIALIZE, headers=accept | headers, timeout=30)


def test_only_the_key_opens_it_and_no_foreign_page(server: RunningServer) -> None:
    assert post(server, **BEARER).json()["result"]["serverInfo"]["name"] == "open-autoglm"
    assert post(server).status_code == 401
    assert post(server, authorization="Bearer wrong").status_code == 401
    assert post(server, **BEARER, host="evil.example").status_code == 403
    assert post(server, **BEARER, origin="http://evil.example").status_code == 403
    assert post(server, **BEARER, origin=server.admin).status_code == 200
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx2.request(method, f"{server.admin}/context", headers=BEARER, timeout=30)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert httpx2.request(method, f"{server.admin}/context", timeout=30).status_code == 401


def test_a_body_has_an_end(server: RunningServer) -> None:
    answer = httpx2.post(f"{server.admin}/context", content=b" " * (3 * 2**20), headers=BEARER, timeout=30)
    assert answer.status_code == 413


def test_without_the_extra_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ImportError('not installed')\n")
    source = Path(__file__).parents[3] / "src"
    hidden = {"PYTHONPATH": f"{tmp_path}:{source}"}
    with RunningServer(tmp_path, {"models": [model("nano", "embedded:glm-nano")]}, environ=hidden) as running:
        answer = post(running, **BEARER)
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_implemented")
        assert "open-autoglm[context]" in answer.json()["error"]["message"]
        assert running.http.get("/v1/models").status_code == 200
