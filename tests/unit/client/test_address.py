from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.client.address import Address, detours, read_address
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


@pytest.mark.parametrize(
    ("own", "named", "found"),
    [
        ("mcp://10.0.0.1:1", ["10.0.0.2:2", "10.0.0.2:2", "10.0.0.1:1"], [("10.0.0.2", 2)]),
        ("mcps://a.example", ["b.example:8080", "[::1]:9"], [("b.example", 8080), ("::1", 9)]),
        ("mcp://127.0.0.1:1", ["10.0.0.2:2", "127.0.0.1:3", "localhost:4"], [("127.0.0.1", 3), ("localhost", 4)]),
        ("mcp://10.0.0.1:1", ["", "b:99999", "key@b:1", "http://b:1"], []),
        ("unix:/run/autoglm.sock", ["127.0.0.1:3"], []),
        ("ws://10.0.0.1:1", ["10.0.0.2:2"], []),
    ],
)
def test_where_one_may_go_instead(own: str, named: list[str], found: list[tuple[str, int]]) -> None:
    assert detours(read_address(own), named) == found


@given(st.lists(st.text(max_size=40), max_size=8))
def test_whatever_a_server_names_is_an_address_or_left_out(named: list[str]) -> None:
    for own in ("mcp://127.0.0.1:1", "mcp://10.0.0.1:1", "mcps://a.example:1"):
        address = read_address(own)
        found = detours(address, named)
        assert len(found) <= len(named)
        for host, port in found:
            assert host
            assert 0 <= port < 65536
            assert (host, port) != (address.host, address.port)
            assert Address(host, port, tls=address.tls).private or not address.private
