"""A new process takes over from a running one, on the same sockets; or fails to, and nothing changes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import ADMIN_KEY, ROOT, RunningServer, chat_body, model
from tests.integration.upstreams import Upstream, wait_until

END_S = 20.0


def pid_of(server: RunningServer) -> int:
    """The process that takes new connections on the admin address; 0 when none does."""
    try:
        answer = httpx2.get(f"{server.admin}/admin/v1/status", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    except httpx2.TransportError:
        return 0
    return int(answer.json()["pid"])


@contextlib.contextmanager
def replaceable(server: RunningServer) -> Iterator[RunningServer]:
    """Whoever serves in the end is stopped."""
    with server:
        try:
            yield server
        finally:
            last = pid_of(server)
            if last:
                os.kill(last, signal.SIGINT)
            wait_until(lambda: not pid_of(server), "the last process ends", END_S)


def told(server: RunningServer, words: str) -> list[str]:
    lines = (f"{line['level']} {line.get('message', '')}" for line in server.log_lines())
    return [line for line in lines if words in line]


def successor(server: RunningServer, number: int = 1) -> int:
    """Wait until so many processes have handed over; return the process that the last of them handed over to.

    Before that both take new connections.
    """
    words = "this one finishes what it has begun"
    wait_until(lambda: len(told(server, words)) >= number, "another process serves", END_S)
    return int(told(server, words)[number - 1].partition("process ")[2].split()[0])


def test_a_new_process_takes_over_and_the_old_one_finishes(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    config = {"models": [model("chat", station.url)], "drain": {"accept": 30}}
    with replaceable(RunningServer(tmp_path, config)) as server, RawClient(server) as busy, RawClient(server) as kept:
        kept.send(chat_body())
        kept.read_until(b'"total_tokens"')
        station.then(station.held(station.usual))
        busy.send(chat_body(stream=True))
        station.wait_seen(2)
        old = server.process.pid
        os.kill(old, signal.SIGUSR2)
        assert successor(server) != old
        assert server.chat().status_code == 200

        def asks_to_leave() -> bool:
            kept.received = b""
            kept.send(b"", "/readyz", connection="keep-alive")
            answer = kept.read_until(b"\r\n\r\n")
            assert b"server_draining" not in answer
            return b"connection: close" in answer

        wait_until(asks_to_leave, "the old process answers on connections that it has, and asks them to leave", END_S)
        assert b"server_draining" not in kept.read_all()
        assert server.process.poll() is None
        station.let_go()
        assert busy.read_all().endswith(b"0\r\n\r\n")
        server.http.close()
        assert server.process.wait(END_S) == 0
        assert httpx2.get(f"{server.url}/readyz").status_code == 200


def test_nobody_notices_while_requests_come(upstream: Upstream, tmp_path: Path) -> None:
    config = {"models": [model("chat", upstream.station().url)], "drain": {"accept": 1}}
    with replaceable(RunningServer(tmp_path, config)) as server:
        stop = threading.Event()
        statuses: list[int] = []

        def ask(keep_alive: bool) -> None:
            with httpx2.Client(base_url=server.url, headers=server.http.headers, timeout=END_S) as client:
                while not stop.is_set():
                    headers = {} if keep_alive else {"connection": "close"}
                    answer = client.post("/v1/chat/completions", json=chat_body(), headers=headers)
                    statuses.append(answer.status_code)

        threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(4)]
        for thread in threads:
            thread.start()
        seen = [server.process.pid]
        for number in range(3):
            os.kill(seen[-1], signal.SIGUSR2)
            seen.append(successor(server, number + 1))
        assert len(set(seen)) == 4
        stop.set()
        for thread in threads:
            thread.join(END_S)
        assert set(statuses) == {200}
        assert len(statuses) > 10
        assert server.process.wait(END_S) == 0


def test_a_new_process_that_fails_changes_nothing(upstream: Upstream, tmp_path: Path) -> None:
    with RunningServer(tmp_path, {"models": [model("chat", upstream.station().url)]}) as server:
        server.replace_file(b"models: 7\n")
        os.kill(server.process.pid, signal.SIGUSR2)
        wait_until(lambda: told(server, "hot restart failed"), "it tells that the restart failed", END_S)
        (line,) = told(server, "hot restart failed")
        assert line.startswith("ERROR ")
        assert "code 78" in line
        assert server.chat().status_code == 200
        assert pid_of(server) == server.process.pid


def test_being_told_to_stop_meanwhile_stops_both(upstream: Upstream, tmp_path: Path) -> None:
    # The new process takes its time, so that it cannot be ready before the signal to stop comes.
    late = tmp_path / "late"
    (tmp_path / "sitecustomize.py").write_text(f"import os, time\nos.path.exists({str(late)!r}) and time.sleep(5)\n")
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    with RunningServer(tmp_path, {"models": [model("chat", upstream.station().url)]}, environ=environ) as server:
        late.touch()
        os.kill(server.process.pid, signal.SIGUSR2)
        wait_until(lambda: told(server, "is starting"), "a new process starts", END_S)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END_S) == 0
        wait_until(lambda: not pid_of(server), "the new process ends too", END_S)


class TestServiceManager:
    def test_sockets_that_it_opened_are_used(self, upstream: Upstream, tmp_path: Path) -> None:
        config = {"models": [model("chat", upstream.station().url)], "server": {"port": 1}}
        with socket.create_server(("127.0.0.1", 0)) as data, socket.create_server(("127.0.0.1", 0)) as admin:
            ports = [sock.getsockname()[1] for sock in (data, admin)]
            with activated(tmp_path, config, [data.fileno(), admin.fileno()]) as server:
                assert [server.url.rpartition(":")[2], server.admin.rpartition(":")[2]] == [str(port) for port in ports]
                assert server.chat().status_code == 200
                wait_until(lambda: told(server, "goes over server.port"), "it tells that the port is another")

    def test_what_is_no_socket_is_told(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file:
            server = activated(tmp_path, {}, [file.fileno()])
            with pytest.raises(AssertionError, match="descriptor 3 of LISTEN_FDS"):
                server.__enter__()
        assert server.process.wait(END_S) == 1
        assert server.process.stdout is not None
        server.process.stdout.close()

    def test_it_hears_how_the_service_is(self, upstream: Upstream, tmp_path: Path) -> None:
        config = {"models": [model("chat", upstream.station().url)], "drain": {"accept": 0.1}}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(END_S)
            environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
            with replaceable(RunningServer(tmp_path, config, environ=environ)) as server:
                assert heard(manager)[0] == "READY=1"
                assert heard(manager) == ["WATCHDOG=1"]
                server.process.send_signal(signal.SIGHUP)
                reloading = heard(manager)
                assert reloading[0] == "RELOADING=1"
                assert reloading[1].startswith("MONOTONIC_USEC=")
                assert heard(manager)[0] == "READY=1"
                os.kill(server.process.pid, signal.SIGUSR2)
                assert heard(manager)[0] == "RELOADING=1"
                messages = [heard(manager), heard(manager)]
                main = next(message for message in messages if message[0].startswith("MAINPID="))
                new = int(main[0].partition("=")[2])
                assert main[1] == "READY=1"
                assert ["WATCHDOG=1"] in messages  # of the new process
                assert server.process.wait(END_S) == 0
                os.kill(new, signal.SIGTERM)
                assert heard(manager)[0] == "STOPPING=1"


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def activated(folder: Path, config: dict[str, object], descriptors: list[int]) -> RunningServer:
    """A server that is started as systemd starts one with sockets: from descriptor 3 on, for its process id."""
    starter = folder / "starter"
    starter.write_text(
        f"#!{sys.executable}\n"
        "import fcntl, os, sys\n"
        f"copies = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in {descriptors}]\n"
        "for at, copy in enumerate(copies):\n"
        "    os.dup2(copy, 3 + at)\n"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(descriptors)}', LISTEN_FDNAMES='web:admin')\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
    )
    starter.chmod(0o700)
    return RunningServer(folder, config, program=str(starter), pass_fds=tuple(descriptors))
