from __future__ import annotations

import pytest

from open_autoglm.client.address import Address, read_address
from open_autoglm.errors import RequestError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mcp://models.example:9000", Address("models.example", 9000)),
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("models.example", Address("models.example", 8080)),
        ("mcps://models.example", Address("models.example", 8080, tls=True)),
        ("https://[::1]:443/", Address("::1", 443, tls=True)),
        ("ws://models.example", Address("models.example", 8080, web_path="/mcp/v1/stream")),
        ("wss://models.example:1/deep/", Address("models.example", 1, tls=True, web_path="/deep")),
        ("unix:/run/autoglm.sock", Address(unix_path="/run/autoglm.sock")),
        ("unix:///run/autoglm.sock", Address(unix_path="/run/autoglm.sock")),
    ],
)
def test_what_people_write(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(str(address)) == address


@pytest.mark.parametrize("text", ["", "unix:", "ftp://host:1", "mcp://host:99999", "mcp://:8080", "mcp://key@host:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RequestError, match="write mcp://host:port") as caught:
        read_address(text)
    assert "key@" not in caught.value.message
