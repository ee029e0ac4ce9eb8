"""Asking for health while the event loop is stuck: a thread answers that, and leaves everything else alone."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from open_autoglm.server.lag_witness import LATE_S, LagWitness
from open_autoglm.telemetry.loop_lag import LoopLag

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
OTHER = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"
END_S = 20.0


class Stage:
    """A listening socket, a witness in front of it, and a loop that runs, or not, as the test says."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.late_s = 0.0
        self.handed_in: list[socket.socket] = []
        self.came = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.witness = LagWitness(lambda _: self.late_s, [self.listening], self._take, self.loop)
        self.witness.start()

    def _take(self, sock: socket.socket) -> None:
        self.handed_in.append(sock)
        self.came.set()

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A client that has sent something."""
        client = socket.create_connection(self.listening.getsockname(), END_S)
        client.sendall(sent)
        return client

    def close(self) -> None:
        """Stop everything."""
        self.witness.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(END_S)
        self.loop.close()
        self.listening.close()
        for sock in self.handed_in:
            sock.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage of the test's own."""
    stage = Stage()
    yield stage
    stage.close()


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(4096):
        received += data
    return received


def test_health_is_answered_while_the_loop_is_stuck(stage: Stage) -> None:
    stage.late_s = 2 * LATE_S
    for _ in range(3):
        with stage.connect(HEALTH) as client:
            head, _, body = read_all(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body == b'{"status":"lagging","lag_s":0.500}'
    with stage.connect(HEALTH.replace(b"GET", b"HEAD")) as client:
        assert read_all(client).endswith(b"\r\n\r\n")
    assert not stage.handed_in


def test_health_may_come_in_pieces(stage: Stage) -> None:
    stage.late_s = 2 * LATE_S
    with stage.connect(HEALTH[:7]) as client:
        time.sleep(0.05)
        client.sendall(HEALTH[7:])
        assert b"lagging" in read_all(client)


@pytest.mark.parametrize("sent", [OTHER, b"", b"GET /hea", b"\x16\x03\x01"])
def test_everything_else_waits_for_the_loop_unread(stage: Stage, sent: bytes) -> None:
    stage.late_s = 2 * LATE_S
    with stage.connect(sent):
        assert stage.came.wait(END_S)
        (sock,) = stage.handed_in
        sock.settimeout(END_S)
        if sent:
            assert sock.recv(4096) == sent


def test_what_waits_is_handed_in_when_the_loop_runs_again(stage: Stage) -> None:
    stage.late_s = 2 * LATE_S
    with stage.connect():
        time.sleep(0.3)
        stage.late_s = 0.0
        assert stage.came.wait(END_S)


def test_a_loop_in_time_accepts_by_itself(stage: Stage) -> None:
    stage.late_s = LATE_S / 2
    with stage.connect(HEALTH):
        time.sleep(0.3)
        accepted, _ = stage.listening.accept()
        with accepted:
            assert accepted.recv(4096) == HEALTH


async def test_a_stall_shows_while_it_lasts() -> None:
    lag = LoopLag(interval_s=0.01)
    assert lag.late_s(1e9) == 0.0
    lag.start(asyncio.get_running_loop())
    await asyncio.sleep(0.02)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall that is meant
    assert lag.late_s(time.monotonic()) >= 0.25
    lag.close()
    assert lag.late_s(1e9) == 0.0
