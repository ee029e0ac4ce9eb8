"""Listeners with TLS and those that connect to them, over real sockets: whom each refuses, and what it says."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import cast

import pytest
from tests.integration.client.talking_node import KEY, TalkingNode
from tests.integration.secure.authority import Authority, Files

from open_autoglm.client import AsyncClient
from open_autoglm.errors import AutoGLMError, ConfigError
from open_autoglm.inference.update_sender import FramedLine, framed_line
from open_autoglm.protocol.handshake import Hello
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_shell import Flusher
from open_autoglm.transport.settings import TlsClientFiles, TlsFiles
from open_autoglm.transport.tls import listener_context, upstream_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listener(files: Files, client_ca: str | None = None) -> ssl.SSLContext:
    context = listener_context(TlsFiles(files.cert, files.key, client_ca))
    assert context is not None
    return context


async def ask(node: TalkingNode, tls: ssl.SSLContext | None, address: str = "") -> str:
    async with AsyncClient(address or node.address, KEY, tls=tls) as client:
        return (await client.infer("m", "hello", timeout_s=10)).text


async def refusal(node: TalkingNode, tls: ssl.SSLContext | None, address: str = "") -> str:
    with pytest.raises(AutoGLMError) as caught:
        await ask(node, tls, address)
    assert node.hellos == 0, "nothing is said to somebody who is not known"
    return caught.value.message


async def test_a_certificate_with_the_right_name_is_taken(authority: Authority) -> None:
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1", "localhost"))) as node:
        assert await ask(node, authority.context()) == "hello"
        assert await ask(node, authority.context(), f"mcps://localhost:{node.port}") == "hello"


async def test_a_certificate_of_somebody_else_is_refused_before_a_word_is_said(
    authority: Authority, tmp_path: Path
) -> None:
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1"))) as node:
        stranger = Authority(tmp_path, "stranger")
        assert "certificate is refused: unable to get local issuer" in await refusal(node, stranger.context())
        wrong = await refusal(node, authority.context(), f"mcps://localhost:{node.port}")
        assert "certificate is refused: Hostname mismatch" in wrong
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1", expired=True))) as node:
        assert "certificate is refused: certificate has expired" in await refusal(node, authority.context())


async def test_who_speaks_plainly_to_tls_or_the_other_way_round_is_told(authority: Authority) -> None:
    async with TalkingNode() as node:
        assert "TLS" in await refusal(node, authority.context(), f"mcps://127.0.0.1:{node.port}")
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1"))) as node:
        assert "the connection was lost" in await refusal(node, None, f"mcp://127.0.0.1:{node.port}")


async def test_a_listener_that_asks_for_certificates_takes_no_other(authority: Authority, tmp_path: Path) -> None:
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1"), authority.ca)) as node:
        assert "asks for certificates" in await refusal(node, authority.context())
        assert "asks for certificates" in await refusal(node, authority.context(authority.issue("c", expired=True)))
        other = authority.context()
        files = Authority(tmp_path, "stranger").issue("d")
        other.load_cert_chain(files.cert, files.key)
        assert "asks for certificates" in await refusal(node, other)
        assert await ask(node, authority.context(authority.issue("e"))) == "hello"


async def test_a_line_for_versions_of_models_is_signed_and_within_tls(authority: Authority) -> None:
    flusher = Flusher(asyncio.get_running_loop())
    hello = Hello(versions=["1.0"], codecs=["json"])
    async with TalkingNode(tls=listener(authority.issue("127.0.0.1"))) as node:
        async with framed_line(
            hello, "127.0.0.1", node.port, flusher, key=SigningKey(KEY), tls=authority.context()
        ) as line:
            assert cast(FramedLine, line).connection.opened
        with pytest.raises(ConnectionRefusedError):
            async with framed_line(
                hello, "127.0.0.1", node.port, flusher, key=SigningKey("another"), tls=authority.context()
            ):
                pass


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    files = authority.issue("127.0.0.1")
    for context in (listener(files), upstream_context(TlsClientFiles(authority.ca, files.cert, files.key))):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("127.0.0.1")
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    with pytest.raises(ConfigError, match=r"models\[\]\.ca"):
        upstream_context(TlsClientFiles(str(broken)))
    with pytest.raises(ConfigError, match=r"models\[\]\.client_cert"):
        upstream_context(TlsClientFiles(authority.ca, str(broken), files.key))
    with pytest.raises(ConfigError, match="cannot use cert"):
        listener_context(TlsFiles(files.cert, authority.issue("other").key))
