"""Ports, open files and the clock."""

import socket

import pytest

from open_autoglm.cli.doctor.machine import CLOCK_FLOOR_S, DESCRIPTORS_SPARE, check_clock, check_open_files, check_port

NOW_S = CLOCK_FLOOR_S + 1e7


@pytest.fixture
def taken_port() -> object:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("holder", "state", "words"),
    [
        ("nginx (pid 812)", "fail", "taken by nginx (pid 812)"),
        ("python -m mcp_server --config x (pid 9)", "warn", "a server of ours"),
        ("", "fail", "cannot be had"),
    ],
)
def test_a_taken_port_says_by_whom(taken_port: int, holder: str, state: str, words: str) -> None:
    finding = check_port("server.port", "127.0.0.1", taken_port, lambda port: holder)
    assert finding.state == state
    assert words in finding.message
    assert finding.advice


def test_a_free_port_and_one_that_the_system_chooses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert check_port("server.port", "127.0.0.1", port, lambda port: "").state == "ok"
    assert check_port("server.port", "127.0.0.1", 0, lambda port: "").state == "ok"


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine(host: str) -> None:
    finding = check_port("server.port", host, 8080, lambda port: "")
    assert finding.state == "fail"
    assert "host" in finding.advice


@pytest.mark.parametrize(
    ("soft", "hard", "state", "advice"),
    [
        (2 * 1000 + DESCRIPTORS_SPARE, 4096, "ok", ""),
        (-1, -1, "ok", ""),
        (1024, 65536, "warn", "ulimit -n 2256"),
        (1024, 1024, "warn", "raise the hard limit"),
    ],
)
def test_open_files(soft: int, hard: int, state: str, advice: str) -> None:
    finding = check_open_files(soft, hard, 1000)
    assert finding.state == state
    assert advice in finding.advice
    assert state == "ok" or f"max_connections to {(1024 - DESCRIPTORS_SPARE) // 2}" in finding.advice


def test_the_clock() -> None:
    assert check_clock(NOW_S, {}).state == "ok"
    assert check_clock(CLOCK_FLOOR_S - 1, {}).state == "fail"
    assert "as at 2 endpoints" in check_clock(NOW_S, {"a": 1.0, "b": -30.0}).message
    behind = check_clock(NOW_S, {"a": 0.0, "http://b": 300.0})
    assert behind.state == "warn"
    assert "300 s behind that of http://b" in behind.message
    assert "ahead of" in check_clock(NOW_S, {"a": -61.0}).message
