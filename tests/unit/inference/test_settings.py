"""What a node refuses to start with, and what a source means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from open_autoglm.errors import ServerError
from open_autoglm.inference.settings import EngineSettings, NodeSettings, is_loopback
from open_autoglm.inference.sources import open_engine
from open_autoglm.secret import Secret
from open_autoglm.transport.settings import TlsFiles

ECHO = (("m", "echo:"),)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"models": ()}, "0 models; give 1 to 64"),
        ({"models": ECHO * 2}, "two models are called 'm'"),
        ({"models": ECHO, "secret": Secret("short")}, "shorter than 16"),
        ({"models": ECHO, "join": ("a:1",)}, "takes its secret"),
        ({"models": ECHO, "host": "0.0.0.0", "join": ("a:1",), "secret": Secret("x" * 16)}, "by --advertise"),
        ({"models": ECHO, "name": "a b", "join": ("a:1",), "secret": Secret("x" * 16)}, "the name 'a b' is none"),
        ({"models": ECHO, "name": "n1"}, "give --join as well"),
        ({"models": ECHO, "join": ("127.0.0.1",), "secret": Secret("x" * 16)}, "--join 127.0.0.1 is no address"),
        ({"models": ECHO, "host": "::1", "join": ("127.0.0.1:1",), "secret": Secret("x" * 16)}, "of one family"),
        ({"models": ECHO, "join": ("h:1", "[::1]:1"), "secret": Secret("x" * 16)}, r"--join \[::1\]:1 cannot"),
        ({"models": ECHO, "tls": TlsFiles("c")}, "belong together"),
        ({"models": ECHO, "tls": TlsFiles(client_ca="a")}, "--tls-client-ca to both"),
        (
            {"models": ECHO, "tls": TlsFiles("c", "k"), "join": ("a:1",), "secret": Secret("x" * 16)},
            "the name in its certificate",
        ),
        (
            {"models": ECHO, "tls": TlsFiles("c", "k"), "join": ("a:1",), "secret": Secret("x" * 16), "name": "a:1"},
            "the name in its certificate",
        ),
        ({"models": ECHO, "host": "10.0.0.1", "tls": TlsFiles("c", "k", "a")}, "can be reached from other machines"),
        ({"models": ECHO, "host": "10.0.0.1"}, "can be reached from other machines"),
        ({"models": ECHO, "host": "node.example"}, "can be reached from other machines"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ServerError, match=said) as caught:
        NodeSettings(**fields).check()
    assert "short" not in caught.value.message or "shorter" in caught.value.message


def test_a_secret_opens_the_door_to_other_machines() -> None:
    secret, join = Secret("x" * 16), ("a:1",)
    NodeSettings(models=ECHO, host="10.0.0.1", secret=secret, join=join).check()
    NodeSettings(models=ECHO, host="0.0.0.0", advertise="10.0.0.1", secret=secret, join=join).check()


def test_a_node_with_certificates_has_a_name_and_a_secret() -> None:
    tls, secret = TlsFiles("c", "k", "a"), Secret("x" * 16)
    NodeSettings(models=ECHO, tls=tls, secret=secret, join=("a:1",), name="node-1.example").check()
    NodeSettings(models=ECHO, tls=tls, secret=secret, host="10.0.0.1").check()


@pytest.mark.parametrize(
    ("host", "loopback"), [("localhost", True), ("127.3.2.1", True), ("::1", True), ("0.0.0.0", False), ("", False)]
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_embedded_model_gets_the_settings() -> None:
    engine = open_engine("chat", "embedded:glm-nano", EngineSettings(slots=3, memory_max=10_000_000))
    assert (engine.name, engine.load().slots, engine.load().memory_max) == ("glm-nano", 3, 10_000_000)


def test_an_echo_has_the_version_that_was_typed() -> None:
    assert open_engine("m", "echo:7", EngineSettings()).version == "7"


def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    for source, said in (
        ("embedded:glm-nan", "did you mean 'glm-nano'?"),
        ("embedded:", "no embedded model ''"),
        (f"{tmp_path}/none", "no such folder or file"),
        (str(tmp_path), "has no manifest.json"),
    ):
        with pytest.raises(ServerError) as caught:
            open_engine("m", source, EngineSettings())
        assert said in caught.value.message
        assert caught.value.message.startswith(f"--model m={source}: ")
