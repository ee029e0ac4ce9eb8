"""Frames over TLS, and what a hot restart means for them."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import trustme
from tests.integration.framed.asker import Asker
from tests.integration.framed.scripted_node import CHUNK, ScriptedNode
from tests.integration.framed.test_framed import PATIENCE_S, linked, node, port_of, serving, until
from tests.integration.lifecycle.test_hot_restart import pid_of
from tests.integration.running import KEY, RunningServer, model

__all__ = ["node"]


async def test_frames_over_tls(tmp_path: Path, node: ScriptedNode) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=number > 0)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    config = {
        "models": [model("m", f"mcp://127.0.0.1:{node.port}")],
        "tls": {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")},
    }
    server = RunningServer(tmp_path, config, verify=context)
    await asyncio.to_thread(server.__enter__)
    try:
        await linked(node)
        async with Asker(port_of(server), KEY, host="localhost", tls=context) as asker:
            answers = [asker.ask(f"number {number}") for number in range(50)]
            for number, answer in enumerate(answers):
                assert (await answer.wait()).body == {"text": f"number {number}"}
            assert (await asker.ask("stream 300", stream=True).wait()).text == CHUNK * 300
    finally:
        await asyncio.to_thread(server.__exit__)


async def test_a_hot_restart_loses_no_request(tmp_path: Path, node: ScriptedNode) -> None:
    config = {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "drain": {"accept": 5}}
    async with serving(tmp_path, config) as server:
        await linked(node)
        over = asyncio.Event()
        asked = [0, 0]

        async def keep_asking() -> None:
            """As any client does: whoever is told to go elsewhere opens another connection."""
            while not over.is_set():
                async with Asker(port_of(server), KEY) as asker:
                    assert asker.let_in
                    asked[1] += 1
                    while not over.is_set() and not asker.over.is_set():
                        answer = asker.ask(f"number {asked[0]}")
                        asked[0] += 1
                        await answer.wait()
                        assert answer.status == 0 or answer.error["code"] == "server_draining"

        clients = [asyncio.create_task(keep_asking()) for _ in range(4)]
        async with Asker(port_of(server), KEY) as slow:
            stream = slow.ask("stream 2000", stream=True)
            stream.consumes = False
            await asyncio.wait_for(stream.first.wait(), PATIENCE_S)
            old = server.process.pid
            os.kill(old, signal.SIGUSR2)
            await asyncio.wait_for(slow.over.wait(), PATIENCE_S)
            stream.consumes = True
            slow.session.consume(stream.stream, len(stream.text))
            await stream.wait()
            assert stream.text == CHUNK * 2000
        await until(lambda: server.process.poll() is not None)
        before = asked[0]
        await until(lambda: asked[0] > before + 20)
        over.set()
        await asyncio.gather(*clients)
        assert asked[1] >= 8
        new = await asyncio.to_thread(pid_of, server)
        assert new not in (0, old)
        os.kill(new, signal.SIGINT)
