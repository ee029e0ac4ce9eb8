"""Server, node and a client that asks the node itself: every link within TLS, everybody with a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.direct.stage import answered, until, until_direct
from tests.integration.node.node_process import Process
from tests.integration.running import RunningServer
from tests.integration.secure.authority import Authority

from open_autoglm.client import AsyncClient
from open_autoglm.errors import AutoGLMError

SECRET = "a secret of the tests that is long"
KEY = "mcp_key-of-client-1"


@contextlib.asynccontextmanager
async def running(folder: Path, authority: Authority, node_name: str, **sections: Any) -> AsyncIterator[RunningServer]:
    """A server that asks for certificates, and a node of its cluster that does too and has one for `node_name`."""
    own = authority.issue("127.0.0.1", "server-1")
    config: dict[str, Any] = {
        "tls": {"cert": own.cert, "key": own.key, "client_ca": authority.ca},
        "cluster": {
            "secret": SECRET,
            "bind": "127.0.0.1:0",
            "name": "server-1",
            "tls": {"ca": authority.ca, "cert": own.cert, "key": own.key},
        },
        "auth": {"api_keys": [{"name": "client-1", "key": KEY, "certificates": ["dns:client-1"]}]},
    }
    server = RunningServer(folder, config | sections, verify=authority.context(own))
    await asyncio.to_thread(server.__enter__)
    files = authority.issue(node_name)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    gossip = next(row["gossip"] for row in server.admin_get("/admin/v1/nodes")["nodes"] if row["self"])
    words = ("--name", "node-1", "--secret-file", str(folder / "secret"), "--join", gossip)
    secured = ("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", authority.ca)
    node = await asyncio.to_thread(Process, *words, *secured, models=("echo=echo:",))
    try:
        yield server
    finally:
        await asyncio.to_thread(node.end)
        await asyncio.to_thread(server.__exit__)


def address(server: RunningServer) -> str:
    return server.url.replace("https://", "mcps://")


async def test_all_links_are_secured_and_certificates_say_who_is_who(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(tmp_path, authority, "node-1") as server:
        await until(lambda: "echo" in str(server.admin_get("/admin/v1/models")))
        context = authority.context(authority.issue("client-1"))
        async with AsyncClient(address(server), tls=context, direct=True) as client:
            await until_direct(client)
            for number in range(20):
                assert (await client.infer("echo", f"number {number}")).text == f"number {number}"
        await until(lambda: answered(server, "direct") > 0)

        other = authority.context(authority.issue("client-2"))
        async with AsyncClient(address(server), tls=other) as unknown:
            with pytest.raises(AutoGLMError, match="dns:client-2") as caught:
                await unknown.infer("echo", "hello")
            assert caught.value.code == "invalid_api_key"
        async with AsyncClient(address(server), KEY, tls=other, sign=True) as known:
            assert (await known.infer("echo", "hello")).text == "hello"
        await refused(address(server), authority.context(), "where it asks for certificates")
        stranger = Authority(tmp_path, "other")
        await refused(address(server), stranger.context(stranger.issue("client-1")), "certificate is refused")
        theirs = authority.context()
        files = stranger.issue("client-1")
        theirs.load_cert_chain(files.cert, files.key)
        await refused(address(server), theirs, "where it asks for certificates")


async def refused(place: str, context: ssl.SSLContext, words: str) -> None:
    """Nobody is let in so, and it is said why."""
    async with AsyncClient(place, KEY, tls=context) as client:
        with pytest.raises(AutoGLMError, match=words):
            await client.infer("echo", "hello")


async def test_a_node_with_another_member_s_certificate_is_not_asked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(tmp_path, authority, "node-2") as server:
        await until(lambda: "echo" in str(server.admin_get("/admin/v1/models")))
        context = authority.context(authority.issue("client-1"))
        async with AsyncClient(address(server), tls=context) as client:
            with pytest.raises(AutoGLMError) as caught:
                await client.infer("echo", "hello", timeout_s=5.0)
        assert caught.value.code in ("no_healthy_endpoint", "upstream_error")
        await until(lambda: "node-1" in server.log() and "certificate" in server.log())
