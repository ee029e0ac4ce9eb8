"""A server that offers tools, pages and prompts of its configuration, seen by the protocol's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx2
import mcp
import mcp_types as types
import pytest
from mcp.client.streamable_http import streamable_http_client
from tests.integration.context.test_context_servers import strange
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, model
from tests.integration.upstreams import wait_until

FUNCTIONS = '''
def stock(item: str) -> dict[str, int]:
    """How many there are."""
    return {"left": len(item)}

def label(item: str) -> str:
    """What stands on it."""
    return f"{item}, Bearer abcdef123456"

def drawing() -> list[dict[str, str]]:
    """A picture."""
    return [{"type": "image", "data": "AAAA", "mimeType": "image/png"}, {"type": "text", "text": "so"}]

def numbers() -> list[dict[str, int]]:
    """No parts of the protocol, though they look like it."""
    return [{"type": 1}]

def lost() -> str:
    """Fail."""
    raise ValueError("sk-abcdef1234567890")
'''
NAMES = ("stock", "label", "drawing", "numbers", "lost")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("offer")
    (folder / "warehouse.py").write_text(FUNCTIONS)
    (folder / "rules.md").write_text("# Rules")
    python = [{"name": name, "function": f"warehouse:{name}", "class": "read"} for name in NAMES]
    child = {"name": "far", "command": strange(folder).command, "tools": ["look"]}
    config = {
        "models": [model("nano", "embedded:glm-nano")],
        "tools": {"python": python, "context": [child]},
        "context": {
            "writes": True,
            "tools": [*NAMES, "far.look"],
            "resources": [
                {"uri": "docs://rules", "file": str(folder / "rules.md"), "name": "rules"},
                {"uri": "stock://{item}", "tool": "stock"},
            ],
            "prompts": [
                {
                    "name": "order",
                    "arguments": {"item": {"values": ["nut", "nail"]}},
                    "messages": [{"text": "Order {item}s."}, {"resource": "stock://{item}"}],
                }
            ],
        },
    }
    with RunningServer(folder, config, environ={"PYTHONPATH": f"{ROOT / 'src'}:{folder}"}) as running:
        yield running


@asynccontextmanager
async def client(server: RunningServer) -> AsyncIterator[mcp.Client]:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        mcp.Client(streamable_http_client(f"{server.admin}/context", http_client=http)) as made,
    ):
        yield made


async def test_its_tools_are_offered_with_their_classes_and_no_others(server: RunningServer) -> None:
    async with client(server) as context:
        tools = {tool.name: tool for tool in (await context.list_tools()).tools}
        assert {*NAMES, "far.look", "list_models"} <= tools.keys()
        assert "calculator" not in tools
        assert tools["stock"].annotations.read_only_hint
        assert not tools["far.look"].annotations.read_only_hint
        assert tools["stock"].input_schema["required"] == ["item"]
        with pytest.raises(mcp.MCPError, match="no tool"):
            await context.call_tool("calculator", {"expression": "1 + 1"})


async def test_each_kind_of_answer_gets_through(server: RunningServer) -> None:
    async with client(server) as context:
        assert (await context.call_tool("stock", {"item": "nut"})).structured_content == {"left": 3}
        [said] = (await context.call_tool("label", {"item": "nut"})).content
        assert said.text.startswith("nut, ")
        assert "abcdef" not in said.text
        assert [part.type for part in (await context.call_tool("drawing", {})).content] == ["image", "text"]
        assert json.loads((await context.call_tool("numbers", {})).content[0].text) == [{"type": 1}]
        assert (await context.call_tool("far.look", {"what": "a child"})).structured_content == {"result": "a child"}
        for name, arguments, words in (("stock", {"item": 4}, "invalid_arguments"), ("lost", {}, "tool_broken")):
            answer = await context.call_tool(name, arguments)
            assert answer.is_error
            assert words in answer.content[0].text
            assert "abcdef" not in answer.content[0].text
    wait_until(lambda: "called stock: ok" in server.log(), "the log tells")


async def test_its_pages_can_be_read(server: RunningServer) -> None:
    async with client(server) as context:
        listed = {page.uri: page.name for page in (await context.list_resources()).resources}
        assert listed["docs://rules"] == "rules"
        assert (await context.read_resource("docs://rules")).contents[0].text == "# Rules"
        families = [family.uri_template for family in (await context.list_resource_templates()).resource_templates]
        assert "stock://{item}" in families
        page = (await context.read_resource("stock://nail")).contents[0]
        assert (page.mime_type, json.loads(page.text)) == ("application/json", {"left": 4})


async def test_its_prompts_are_filled_and_completed(server: RunningServer) -> None:
    async with client(server) as context:
        [prompt] = (await context.list_prompts()).prompts
        assert (prompt.name, [each.name for each in prompt.arguments]) == ("order", ["item"])
        first, second = (await context.get_prompt("order", {"item": "nail"})).messages
        assert first.content.text == "Order nails."
        assert second.content.resource.uri == "stock://nail"
        for name, arguments in (("order", {}), ("order", {"item": "x", "more": "y"}), ("none", {})):
            with pytest.raises(mcp.MCPError):
                await context.get_prompt(name, arguments)
        named = types.PromptReference(type="ref/prompt", name="order")
        proposed = await context.complete(named, {"name": "item", "value": "NA"})
        assert proposed.completion.values == ["nail"]
        family = types.ResourceTemplateReference(type="ref/resource", uri="autoglm://models/{name}")
        assert (await context.complete(family, {"name": "name", "value": "n"})).completion.values == ["nano"]
        with pytest.raises(mcp.MCPError, match="no such prompt"):
            await context.complete(named, {"name": "none", "value": ""})
