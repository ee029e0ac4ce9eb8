"""The data listener at a Unix socket, for HTTP and frames, and nodes behind one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

from tests.integration.framed.asker import Asker
from tests.integration.framed.scripted_node import ScriptedNode
from tests.integration.framed.test_framed import linked, node, serving, until
from tests.integration.lifecycle.test_hot_restart import pid_of
from tests.integration.running import KEY, model

__all__ = ["node"]


async def test_frames_and_http_at_a_unix_socket(tmp_path: Path, node: ScriptedNode) -> None:
    path = tmp_path / "data.sock"
    leave_stale(path)
    config = {"server": {"unix": str(path)}, "models": [model("m", f"mcp://127.0.0.1:{node.port}")]}
    async with serving(tmp_path, config) as server:
        await linked(node)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with Asker(0, KEY, unix_path=str(path)) as asker:
            assert (await asker.ask("over a socket").wait()).body == {"text": "over a socket"}
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'{"status":"ok"}' in await reader.read()
        writer.close()
        old = server.process.pid
        os.kill(old, signal.SIGUSR2)
        await until(lambda: server.process.poll() is not None)
        async with Asker(0, KEY, unix_path=str(path)) as asker:
            assert (await asker.ask("after a restart").wait()).body == {"text": "after a restart"}
        os.kill(await asyncio.to_thread(pid_of, server), signal.SIGINT)


async def test_a_server_behind_a_server_at_a_unix_socket(tmp_path: Path, node: ScriptedNode) -> None:
    path = tmp_path / "inner.sock"
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer").mkdir()
    inner = {"server": {"unix": str(path)}, "models": [model("m", f"mcp://127.0.0.1:{node.port}")]}
    outer = {"models": [model("m", f"unix:{path}", token=KEY)]}
    async with serving(tmp_path / "inner", inner), serving(tmp_path / "outer", outer) as server:
        await linked(node)
        port = int(server.url.rpartition(":")[2])
        async with Asker(port, KEY) as asker:
            assert (await asker.ask("through both").wait()).body == {"text": "through both"}


def leave_stale(path: Path) -> None:
    """What a process leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
