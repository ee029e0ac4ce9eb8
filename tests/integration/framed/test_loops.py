"""Servers behind servers: a few are usual, a circle is refused in words that say so, and asks nobody for long."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.integration.framed.asker import Asker
from tests.integration.framed.scripted_node import ScriptedNode
from tests.integration.framed.test_framed import linked, port_of, serving
from tests.integration.running import KEY, RunningServer, model
from tests.integration.upstreams import wait_until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def states(server: RunningServer) -> list[str]:
    return [row["state"] for row in server.admin_get("/admin/v1/models")["models"]]


def itself(port: int) -> dict[str, object]:
    models = [{"name": "m", "endpoint": f"mcp://127.0.0.1:{port}", "token": KEY}]
    return {"server": {"port": port}, "models": models}


def test_a_server_that_is_its_own_endpoint_says_so(tmp_path: Path) -> None:
    with RunningServer(tmp_path, itself(free_port())) as server:
        wait_until(lambda: states(server) == ["ready"], "its link to itself")
        answer = server.chat("m")
        assert (answer.status_code, answer.json()["error"]["code"]) == (508, "loop_detected")
        assert "lead back" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        figures = server.admin_get("/metrics")
        asked = sum(float(line.split()[-1]) for line in figures.splitlines() if line.startswith("mcp_requests_total{"))
        assert asked <= 10
        assert states(server) == ["misconfigured"]


async def test_a_circle_is_found_by_who_asks_in_frames(tmp_path: Path) -> None:
    async with serving(tmp_path, itself(free_port())) as server:
        await asyncio.to_thread(wait_until, lambda: states(server) == ["ready"], "its link to itself")
        async with Asker(port_of(server), KEY) as asker:
            answer = await asker.ask("hi").wait()
            assert (answer.status, answer.error["code"]) == (508, "loop_detected")


async def test_a_server_behind_a_server_counts_and_serves(tmp_path: Path) -> None:
    async with ScriptedNode(asyncio.get_running_loop()) as node:
        (tmp_path / "back").mkdir()
        async with serving(tmp_path / "back", {"models": [model("m", f"mcp://127.0.0.1:{node.port}")]}) as back:
            await linked(node)
            models = [model("m", f"mcp://127.0.0.1:{port_of(back)}") | {"token": KEY}]
            async with serving(tmp_path, {"models": models}) as front:
                await asyncio.to_thread(wait_until, lambda: states(front) == ["ready"], "the link")
                async with Asker(port_of(front), KEY) as asker:
                    assert (await asker.ask("in frames").wait()).body == {"text": "in frames"}
                over_http = await asyncio.to_thread(front.chat, "m")
                assert over_http.status_code == 200
            assert [preamble.hops for preamble, _, _ in node.asked] == [1, 1]
