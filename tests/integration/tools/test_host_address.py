"""A host of several addresses, of which one is served, as `localhost` is where it is `::1` too."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx2
import pytest
from tests.integration.tools.test_http_tool import called, reply, service

from open_autoglm.tools.context_transport import http_transport
from open_autoglm.tools.host_address import allowed_addresses
from open_autoglm.tools.settings import ContextServerEntry, HttpToolEntry
from open_autoglm.tools.tool import ToolError


class Loop(asyncio.SelectorEventLoop):
    """Finds nobody, then somebody, at `both.example`."""

    async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
        if host != "both.example":
            return await super().getaddrinfo(host, port, **more)
        places = ("127.0.0.2", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]


async def _by_tool() -> None:
    async with service(reply(b'{"is": "there"}')) as (port, heard):
        entry = HttpToolEntry("tool", f"http://both.example:{port}/x", method="POST", allow_private=True)
        assert (await called(entry))["body"] == {"is": "there"}
        assert f"host: both.example:{port}".encode() in heard[0]
    with pytest.raises(ToolError) as caught:
        await called(entry)
    assert (caught.value.code, caught.value.retryable) == ("tool_unavailable", True)


async def _by_protocol() -> None:
    async with service(reply(b'{"is": "there"}')) as (port, heard):
        entry = ContextServerEntry("far", url=f"http://both.example:{port}/x", allow_private=True)
        async with httpx2.AsyncClient(transport=http_transport(entry), trust_env=False) as client:
            size = {"content-length": "5"}
            answer = await client.post(f"http://both.example:{port}/x", content=b"asked", headers=size)
            assert answer.json() == {"is": "there"}
            assert heard[0].endswith(b"asked")
            assert f"host: both.example:{port}".encode() in heard[0].lower()
    async with httpx2.AsyncClient(transport=http_transport(entry), trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post(f"http://both.example:{port}/x", content=b"asked")


async def _none_is_inward() -> None:
    with pytest.raises(ToolError, match="allow_private"):
        await allowed_addresses("both.example", 80, allow_private=False)


@pytest.mark.parametrize("case", [_by_tool, _by_protocol, _none_is_inward])
def test_the_address_that_is_served_is_found(case: Any) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(case())
