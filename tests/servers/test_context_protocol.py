"""The context protocol against other people's programs: its conformance suite, and public servers."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_autoglm import clock
from open_autoglm.tools.settings import ContextServerEntry, ToolSettings
from open_autoglm.tools.tool import ToolCall, ToolError
from open_autoglm.tools.toolbox import Toolbox
from tests.integration.running import ADMIN_KEY, RunningServer, model
from tests.servers.context.example_tools import configuration
from tests.servers.key_relay import key_relay

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
MODULES = Path(__file__).parent / "context" / "node_modules"
NODE = str(MODULES / f"node-linux-{'arm64' if platform.machine() == 'aarch64' else 'x64'}" / "bin" / "node")
SUITE = str(MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js")
EXPECTED = Path(__file__).parent / "context" / "expected_failures.yml"
SUITE_S = 110
SCENARIOS = 30
"""Of the suite, for servers."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server like any other, whose configuration names the suite's examples."""
    folder = tmp_path_factory.mktemp("context")
    config = {"models": [model("nano", "embedded:glm-nano")], **configuration(folder)}
    with RunningServer(folder, config, environ={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}) as running:
        yield running


async def test_the_conformance_suite_finds_what_is_expected(server: RunningServer, tmp_path: Path) -> None:
    host, _, port = server.admin.removeprefix("http://").partition(":")
    async with key_relay(host, int(port), ADMIN_KEY) as open_port:
        words = ("server", "--url", f"http://127.0.0.1:{open_port}/context", "--expected-failures", str(EXPECTED))
        await run_suite(tmp_path, *words, "--output-dir", str(tmp_path / "results"))
    expected = {f"server-{scenario}" for scenario in yaml.safe_load(EXPECTED.read_text())["server"]}
    passed = {
        found.parent.name.partition("-20")[0]
        for found in (tmp_path / "results").glob("server-*/checks.json")
        if all(check["status"] in ("SUCCESS", "INFO") for check in json.loads(found.read_text()))
    }
    assert len(passed) == SCENARIOS - len(expected), sorted(passed)
    assert not passed & expected


@pytest.mark.parametrize("scenario", ["initialize", "tools_call", "sse-retry"])
async def test_the_conformance_suite_is_content_with_our_client(scenario: str, tmp_path: Path) -> None:
    client = f"{sys.executable} {Path(__file__).parent / 'context' / 'client.py'}"
    told = await run_suite(tmp_path, "client", "--command", client, "--scenario", scenario)
    assert "OVERALL: PASSED" in told


async def run_suite(folder: Path, *words: str) -> str:
    suite = await asyncio.create_subprocess_exec(
        *(NODE, SUITE, *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        async with asyncio.timeout(SUITE_S):
            told, _ = await suite.communicate()
    finally:
        if suite.returncode is None:
            suite.kill()
            await suite.wait()
    assert suite.returncode == 0, told.decode()
    return told.decode()


def public(name: str, package: str, *words: str, **more: Any) -> ContextServerEntry:
    script = MODULES / "@modelcontextprotocol" / package / "dist" / "index.js"
    return ContextServerEntry(name, [NODE, str(script), *words], **more)


@asynccontextmanager
async def opened(*servers: ContextServerEntry) -> AsyncIterator[Toolbox]:
    toolbox = Toolbox(ToolSettings(context=list(servers)), None)
    toolbox.start()
    try:
        await toolbox.settle(60)
        assert [row["problem"] for row in toolbox.server_rows()] == [""] * len(servers)
        yield toolbox
    finally:
        await toolbox.close()


async def call(toolbox: Toolbox, tool: str, **arguments: Any) -> Any:
    return await toolbox.desk.call(ToolCall(tool, arguments, clock.monotonic() + 30))


async def test_the_reference_server_is_called() -> None:
    async with opened(public("everything", "server-everything")) as toolbox:
        assert await call(toolbox, "everything.echo", message="hello") == "Echo: hello"
        assert "5" in await call(toolbox, "everything.get-sum", a=2, b=3)
        assert (await call(toolbox, "everything.get-structured-content", location="New York"))["temperature"]
        picture = await call(toolbox, "everything.get-tiny-image")
        assert [part["mimeType"] for part in picture if part["type"] == "image"] == ["image/png"]
        with pytest.raises(ToolError, match="expected number"):
            await call(toolbox, "everything.get-sum", a="two", b=3)


async def test_what_takes_too_long_is_given_up_and_the_connection_stays() -> None:
    async with opened(public("everything", "server-everything", timeout_s=3.0)) as toolbox:
        with pytest.raises(ToolError) as caught:
            await call(toolbox, "everything.trigger-long-running-operation", duration=60, steps=60)
        assert caught.value.code == "tool_timeout"
        assert await call(toolbox, "everything.echo", message="still here") == "Echo: still here"


async def test_a_file_server_keeps_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a note")
    entry = public("files", "server-filesystem", str(tmp_path), tools=["read_text_file", "list_directory"])
    async with opened(entry) as toolbox:
        assert {tool.name for tool in toolbox.desk.tools()} == {
            "calculator",
            "files.read_text_file",
            "files.list_directory",
        }
        told = await call(toolbox, "files.read_text_file", path=str(tmp_path / "note.txt"))
        assert "a note" in str(told)
        with pytest.raises(ToolError, match="outside allowed directories"):
            await call(toolbox, "files.read_text_file", path="/etc/passwd")
        with pytest.raises(ToolError, match="no tool"):
            await call(toolbox, "files.write_file", path=str(tmp_path / "x"), content="x")


async def test_a_memory_server_remembers() -> None:
    async with opened(public("memory", "server-memory")) as toolbox:
        entity = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
        await call(toolbox, "memory.create_entities", entities=[entity])
        found = await call(toolbox, "memory.search_nodes", query="Ada")
        assert "first program" in str(found)
        await call(toolbox, "memory.delete_entities", entityNames=["Ada"])


async def test_a_server_in_python_tells_the_time() -> None:
    program = str(ROOT / ".venvs" / "context-servers" / "bin" / "mcp-server-time")
    async with opened(ContextServerEntry("time", [program])) as toolbox:
        told = await call(
            toolbox, "time.convert_time", source_timezone="UTC", time="10:00", target_timezone="Asia/Tokyo"
        )
        assert "19:00" in str(told)
        with pytest.raises(ToolError, match="Invalid timezone"):
            await call(toolbox, "time.get_current_time", timezone="Mars")
