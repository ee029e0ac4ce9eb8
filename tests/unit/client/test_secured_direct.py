"""Who asks the server within TLS asks no node in the clear."""

from __future__ import annotations

from typing import Any, cast

import pytest

from open_autoglm.client.address import read_address
from open_autoglm.client.direct import DirectPaths, TicketTold
from open_autoglm.errors import RequestError
from open_autoglm.protocol.handshake import Hello


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("mcps://10.0.0.1:1", True),
        ("wss://10.0.0.1:1", True),
        ("unix:/run/x", True),
        ("mcp://127.0.0.1:1", True),
        ("mcp://[::1]:1", True),
        ("mcp://localhost:1", True),
        ("mcp://10.0.0.1:1", False),
        ("mcp://node.example:1", False),
        ("ws://10.0.0.1:1", False),
    ],
)
def test_whether_somebody_on_the_way_can_read_along(text: str, private: bool) -> None:
    assert read_address(text).private is private


async def test_a_ticket_is_not_shown_in_the_clear() -> None:
    hello = Hello(versions=["1.0"], codecs=["json"])
    paths = DirectPaths(cast(Any, None), hello, connections=1, connect_timeout_s=1.0, tls=None, secured=True)
    told = TicketTold(ticket="t", node="n", address="mcp://192.0.2.1:8090", requests=10, expires_ms=1000)
    with pytest.raises(RequestError, match="speaks no TLS") as caught:
        await paths._open(told, hello)
    assert caught.value.code == "forbidden"
