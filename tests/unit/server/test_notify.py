"""What the service manager hears, on a socket of the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_autoglm.server.notify import Notifier

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager's socket, and the environment that leads to it."""
    written = str(tmp_path / "notify") if request.param == "path" else f"@autoglm-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(written.replace("@", "\0", 1))
        sock.setblocking(False)
        yield sock, {"NOTIFY_SOCKET": written}


def test_each_change_is_one_message(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environ = manager
    notifier = Notifier(environ, PID)
    assert notifier.ready("serving\nwell")
    assert sock.recv(999) == b"READY=1\nSTATUS=serving well"
    assert notifier.reloading("reading")
    begin, usec, status = sock.recv(999).split(b"\n")
    assert (begin, status) == (b"RELOADING=1", b"STATUS=reading")
    assert int(usec.removeprefix(b"MONOTONIC_USEC=")) > 0
    assert notifier.stopping("finishing")
    assert sock.recv(999) == b"STOPPING=1\nSTATUS=finishing"
    assert notifier.alive()
    assert sock.recv(999) == b"WATCHDOG=1"


def test_who_is_replaced_is_silent_afterwards(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environ = manager
    notifier = Notifier(environ, PID)
    assert notifier.replaced_by(12, "handed over")
    assert sock.recv(999) == b"MAINPID=12\nREADY=1\nSTATUS=handed over"
    assert not notifier.stopping("finishing")
    with pytest.raises(BlockingIOError):
        sock.recv(999)


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1", "/nowhere/at/all"])
def test_what_cannot_be_told_does_no_harm(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "x"}, PID).ready("serving")


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(PID)}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
    ],
)
def test_the_watchdog_is_fed_when_it_is_meant_for_us(environ: dict[str, str], watchdog_s: float) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}, PID).watchdog_s == watchdog_s
    assert Notifier(environ, PID).watchdog_s == 0.0
