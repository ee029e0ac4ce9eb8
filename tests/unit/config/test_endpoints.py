"""Addresses of models."""

import pytest

from open_autoglm.config.endpoints import Address, read_address
from open_autoglm.config.schema import Dialect
from open_autoglm.config.substitution import Refused


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("http://h:8001/v1", Address("http://h:8001/v1", "openai", "h")),
        ("https://h/a/v1/", Address("https://h/a/v1", "openai", "h")),
        ("HTTP://h", Address("http://h/v1", "openai", "h")),
        ("http://h:11434/", Address("http://h:11434/v1", "openai", "h")),
        ("http://[::1]:8001", Address("http://[::1]:8001/v1", "openai", "[::1]")),
        ("https://h/v1/messages", Address("https://h/v1/messages", "anthropic", "h")),
        ("http://h/generate", Address("http://h/generate", "generate", "h")),
        ("http://h/v1/chat/completions", Address("http://h/v1/chat/completions", "generate", "h")),
        ("unix:/run/m.sock:/v1", Address("unix:/run/m.sock:/v1", "openai", "/run/m.sock")),
        ("unix:/run/m.sock:/generate", Address("unix:/run/m.sock:/generate", "generate", "/run/m.sock")),
        ("unix:/run/m.sock", Address("unix:/run/m.sock", "mcp", "/run/m.sock")),
        ("mcp://h:9000", Address("mcp://h:9000", "mcp", "h")),
        ("embedded:glm-nano", Address("embedded:glm-nano", "embedded", "glm-nano")),
    ],
)
def test_what_an_address_means(written: str, address: Address) -> None:
    assert read_address(written, None) == address


@pytest.mark.parametrize(
    ("written", "dialect", "url"),
    [
        ("http://h", "generate", "http://h/"),
        ("http://h", "anthropic", "http://h/v1/messages"),
        ("http://h/serve", "openai", "http://h/serve"),
        ("http://h/v1", "generate", "http://h/v1"),
        ("unix:/run/m.sock", "openai", "unix:/run/m.sock:/v1"),
        ("mcp://h:1", "mcp", "mcp://h:1"),
    ],
)
def test_a_dialect_that_is_written_decides(written: str, dialect: Dialect, url: str) -> None:
    assert read_address(written, dialect) == Address(url, dialect, read_address(written, None).host)


@pytest.mark.parametrize(
    ("written", "dialect", "message"),
    [
        ("", None, "is empty"),
        ("localhost:8001/v1", None, "no address"),
        ("ftp://h", None, "no address"),
        ("file:///etc/passwd", None, "no address"),
        ("http:/h", None, "no address"),
        ("http://", None, "no valid host"),
        ("http://:80", None, "no valid host"),
        ("http://h:0/v1", None, "port outside"),
        ("http://h:65536/v1", None, "port outside"),
        ("http://user:pw@h/v1", None, "into `token`"),
        ("http://h/v1?key=x", None, "a query"),
        ("http://h/v1#x", None, "a fragment"),
        ("http://127.0.0.1\\@good/v1", None, "backslash"),
        ("http://h/a b", None, "space"),
        ("http://h/é", None, "beyond ASCII"),
        ("http://h/a/../b", None, "no valid path"),
        ("http://h/%0d<x>", None, "no valid path"),
        ("http://h/v1/chat/completions", "openai", "up to /v1"),
        ("http://h/v1", "mcp", "cannot speak mcp"),
        ("http://h/v1", "embedded", "cannot speak embedded"),
        ("embedded:glm", "openai", "speaks embedded"),
        ("embedded:../x", None, "names no embedded model"),
        ("mcp://h", None, "lacks a port"),
        ("mcp://h:1", "openai", "speaks mcp"),
        ("unix:m.sock", None, "from the root"),
        ("unix:/" + "x" * 200, None, "107"),
    ],
)
def test_what_is_no_address(written: str, dialect: Dialect | None, message: str) -> None:
    with pytest.raises(Refused, match=message) as caught:
        read_address(written, dialect)
    assert "pw" not in str(caught.value)
    assert "key=x" not in str(caught.value)
