"""Notations of keys, and guesses at what was meant."""

import pytest

from open_autoglm.config.keys import alike, canonical, is_name, nearest, shown_key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("max_connections", "max_connections"),
        ("max-connections", "max_connections"),
        ("maxConnections", "max_connections"),
        ("MAX_CONNECTIONS", "max_connections"),
        ("worker-threads", "workers"),
        ("workerThreads", "workers"),
        ("port", "port"),
    ],
)
def test_notations(written: str, key: str) -> None:
    assert canonical(written) == key


def test_nearest() -> None:
    assert nearest("prot", ["host", "port", "workers"]) == "port"
    assert nearest("zzz", ["host"]) == "host"
    assert nearest("x", []) == ""


def test_nearest_of_very_many_compares_those_with_the_same_first_letter() -> None:
    many = [f"a{number}" for number in range(2000)] + ["chat-large"]
    assert nearest("chat-lrage", many) == "chat-large"


def test_alike() -> None:
    assert alike("endpint", "endpoint")
    assert not alike("port", "cooperation")


def test_names() -> None:
    assert is_name("meta-llama/Llama-3 8B")
    assert is_name("模型")
    assert not any(map(is_name, ["", " a", "a\n", "x" * 257, "\x1b[31m"]))
    assert shown_key("a\nb") == "'a\\nb'"
