"""Links without TLS: who they are is proved, and no key goes over them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.direct.stage import nodes, until
from tests.integration.relay import Relay
from tests.integration.running import KEY, RunningServer, model

from open_autoglm.client import AsyncClient
from open_autoglm.cluster.settings import node_key
from open_autoglm.errors import AutoGLMError
from open_autoglm.secret import Secret

SECRET = "a secret of the tests"


class ListeningRelay(Relay):
    """Keeps what it has passed on."""

    def __init__(self, above: int) -> None:
        super().__init__(above)
        self.seen = bytearray()

    def heard(self, data: bytes) -> None:
        self.seen += data


async def test_no_key_goes_over_a_link_that_is_signed(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1) as (node,), ListeningRelay(node.port) as below:
        running = RunningServer(tmp_path, {"models": [model("echo", f"mcp://127.0.0.1:{below.port}", token=SECRET)]})
        server = await asyncio.to_thread(running.__enter__)
        try:
            async with ListeningRelay(int(server.url.rpartition(":")[2])) as above:
                place = f"mcp://127.0.0.1:{above.port}"
                async with AsyncClient(place, KEY, sign=True) as client:
                    assert (await client.infer("echo", "are you there")).text == "are you there"
                    with pytest.raises(AutoGLMError) as unknown:
                        async with AsyncClient(place, "mcp_no-key-of-anybody", sign=True) as other:
                            await other.infer("echo", "hello")
                    assert unknown.value.code == "invalid_api_key"
                    server.apply(model("echo", f"mcp://127.0.0.1:{below.port}"), auth={"api_key": "another-key"})
                    with pytest.raises(AutoGLMError) as withdrawn:
                        await client.infer("echo", "and now")
                    assert withdrawn.value.code in ("invalid_api_key", "stream_interrupted")
                assert KEY.encode() not in above.seen
                assert b"no-key-of-anybody" not in above.seen
            for secret in (SECRET, node_key(Secret(SECRET)).reveal()):
                assert secret.encode() not in below.seen
            assert b'"signature"' in above.seen
            assert b'"signature"' in below.seen
            assert b"are you there" in below.seen, "signed is not encrypted"
        finally:
            await asyncio.to_thread(running.__exit__)


async def test_a_node_with_another_secret_is_not_asked(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1) as (node,):
        wrong = model("echo", f"mcp://127.0.0.1:{node.port}", token="another secret of the tests")
        running = RunningServer(tmp_path, {"models": [wrong]})
        server = await asyncio.to_thread(running.__enter__)
        try:
            await until(lambda: "the key that is to be proved is not the cluster's" in server.log())
            assert "another secret" not in server.log()
        finally:
            await asyncio.to_thread(running.__exit__)


async def test_a_server_that_asks_for_no_keys_cannot_prove_one(tmp_path: Path) -> None:
    running = RunningServer(tmp_path, {"auth": {"enabled": False}})
    server = await asyncio.to_thread(running.__enter__)
    try:
        async with AsyncClient(server.url, KEY, sign=True) as client:
            with pytest.raises(AutoGLMError, match="no keys are asked for here") as caught:
                await client.infer("echo", "hello")
            assert caught.value.code == "invalid_signature"
    finally:
        await asyncio.to_thread(running.__exit__)
