"""Several worker processes that serve as one server: what clients, operators and signals see of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.lifecycle.test_hot_restart import heard, replaceable, told
from tests.integration.over_grpc.caller import Caller, port_of
from tests.integration.running import KEY, RunningServer, chat_body, model
from tests.integration.upstreams import Upstream, wait_until

from open_autoglm.protocol.frames import HEADER, HEADER_BYTES, PREFACE, encode_frame
from open_autoglm.protocol.handshake import Credentials, Hello, write_hello
from open_autoglm.protocol.opcodes import HELLO, WELCOME

END_S = 30.0
WORKERS = 3


def by_workers(upstream: Upstream, count: int = WORKERS, **more: Any) -> dict[str, Any]:
    config = {"models": [model("chat", upstream.station().url)], **more}
    return {**config, "server": {"workers": count, **config.get("server", {})}}


def rows(server: RunningServer) -> list[dict[str, Any]]:
    """What each worker says of itself."""
    found: list[dict[str, Any]] = server.admin_get("/admin/v1/status")["workers"]
    return found


def pids_of(server: RunningServer) -> list[int]:
    """The workers that answer; none while the leader is gone, and its connections with it."""
    try:
        return [row["pid"] for row in rows(server)]
    except httpx2.TransportError:
        return []


def replaced(server: RunningServer, pid: int, count: int = WORKERS) -> bool:
    """Whether all workers serve, and another one in the place of one that is gone."""
    now = pids_of(server)
    return len(now) == count and pid not in now


def metric(server: RunningServer, name: str) -> dict[int, float]:
    """The samples of a metric by worker, those with other labels added up."""
    values: dict[int, float] = {}
    for worker, value in re.findall(
        rf'^{name}{{worker="(\d+)"[^}}]*}} (\S+)$', server.admin_get("/metrics"), re.MULTILINE
    ):
        values[int(worker)] = values.get(int(worker), 0.0) + float(value)
    return values


def ask_anew(server: RunningServer) -> int:
    """Ask on a connection of its own."""
    headers = {**server.http.headers, "connection": "close"}
    return httpx2.post(
        f"{server.url}/v1/chat/completions", json=chat_body(), headers=headers, timeout=END_S
    ).status_code


@contextlib.contextmanager
def asking(server: RunningServer, threads: int = 4) -> Iterator[list[object]]:
    """Clients that ask without a pause; yields what they got, errors too."""
    stop = threading.Event()
    got: list[object] = []

    def ask(keep_alive: bool) -> None:
        with httpx2.Client(base_url=server.url, headers=server.http.headers, timeout=END_S) as client:
            while not stop.is_set():
                try:
                    headers = {} if keep_alive else {"connection": "close"}
                    got.append(client.post("/v1/chat/completions", json=chat_body(), headers=headers).status_code)
                except httpx2.TransportError as error:
                    got.append(repr(error))

    running = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield got
    finally:
        stop.set()
        for thread in running:
            thread.join(END_S)


def test_all_serve_at_one_port_and_the_admin_listener_tells_of_all(upstream: Upstream, tmp_path: Path) -> None:
    with RunningServer(tmp_path, by_workers(upstream)) as server:
        asked = 0
        while len(metric(server, "mcp_requests_total")) < WORKERS:
            assert asked < 200, "some worker gets nothing"
            asked += 1
            assert ask_anew(server) == 200
        assert sum(metric(server, "mcp_requests_total").values()) == asked
        status = server.admin_get("/admin/v1/status")
        assert status["pid"] == server.process.pid
        assert [row["worker"] for row in status["workers"]] == list(range(WORKERS))
        assert len({row["pid"] for row in status["workers"]} - {server.process.pid}) == WORKERS
        assert httpx2.get(f"{server.admin}/readyz").json() == {"ready": True, "reason": ""}
        # What one worker remembers is found, whichever it is.
        found = server.admin_get("/admin/v1/requests?limit=1000")["requests"]
        assert len(found) == asked
        assert [row["received_at"] for row in found] == sorted((row["received_at"] for row in found), reverse=True)
        for row in found:
            assert (
                server.admin_get(f"/admin/v1/requests/{row['request_id']}/explain")["request_id"] == row["request_id"]
            )
        text = server.admin_get("/metrics")
        assert text.count("# TYPE mcp_requests_total ") == 1


def test_one_that_is_killed_is_missed_by_nobody_else_and_comes_back(upstream: Upstream, tmp_path: Path) -> None:
    with RunningServer(tmp_path, by_workers(upstream)) as server:
        before = [row["pid"] for row in rows(server)]
        for victim in (before[1], before[0]):  # the second is the leader
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: replaced(server, victim), "another one takes its place", END_S)
        assert {ask_anew(server) for _ in range(30)} == {200}
        assert rows(server)[2]["pid"] == before[2]
        assert len(told(server, "by signal 9; another one is started at once")) == 2
        assert server.process.poll() is None


def test_new_connections_wait_for_one_that_is_started_anew(upstream: Upstream, tmp_path: Path) -> None:
    with RunningServer(tmp_path, by_workers(upstream, 2)) as server:
        victim = rows(server)[1]["pid"]
        os.kill(victim, signal.SIGTERM)  # told to leave, it loses nothing at all
        with asking(server) as got:
            wait_until(lambda: replaced(server, victim, 2), "another one takes its place", END_S)
        assert set(got) == {200}


def test_sigterm_lets_streams_of_all_workers_end(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    config = {"models": [model("chat", station.url)], "server": {"workers": WORKERS}}
    with RunningServer(tmp_path, config) as server, contextlib.ExitStack() as stack:
        station.always(station.held(station.usual))
        clients = [stack.enter_context(RawClient(server)) for _ in range(16)]
        for client in clients:
            client.send(chat_body(stream=True))
        station.wait_seen(len(clients))
        assert sum(bool(row["in_flight"]) for row in rows(server)) > 1
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: len(told(server, "draining, streams")) == WORKERS, "only streams are left", END_S)
        assert server.process.poll() is None
        station.let_go()
        for client in clients:
            assert client.read_all().endswith(b"0\r\n\r\n")
            assert b"data: [DONE]" in client.received
        assert server.process.wait(END_S) == 0


def test_a_second_signal_ends_all_at_once(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    config = {"models": [model("chat", station.url)], "server": {"workers": 2}}
    with RunningServer(tmp_path, config) as server, RawClient(server) as client:
        pids = [row["pid"] for row in rows(server)]
        station.always(station.held(station.usual))
        client.send(chat_body(stream=True))
        station.wait_seen()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: told(server, "draining, accepting"), "it drains", END_S)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END_S) == 130
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers are gone", END_S)


def test_a_terminals_interrupt_to_all_processes_is_one_stop(upstream: Upstream, tmp_path: Path) -> None:
    station = upstream.station()
    config = {"models": [model("chat", station.url)], "server": {"workers": 2}}
    with RunningServer(tmp_path, config) as server, RawClient(server) as client:
        station.always(station.held(station.usual))
        client.send(chat_body(stream=True))
        station.wait_seen()
        for pid in [*(row["pid"] for row in rows(server)), server.process.pid]:
            os.kill(pid, signal.SIGINT)
        wait_until(lambda: told(server, "draining, streams"), "it waits for the stream", END_S)
        station.let_go()
        assert client.read_all().endswith(b"0\r\n\r\n")
        assert server.process.wait(END_S) == 0


def test_workers_without_a_supervisor_end_by_themselves(upstream: Upstream, tmp_path: Path) -> None:
    with RunningServer(tmp_path, by_workers(upstream)) as server:
        pids = [row["pid"] for row in rows(server)]
        server.process.kill()
        wait_until(lambda: not any(running(pid) for pid in pids), "the workers leave", END_S)
        wait_until(lambda: told(server, "the supervisor is gone"), "the log tells")


def running(pid: int) -> bool:
    """Whether a process lives; one that nobody has asked for its end does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


class TestConfiguration:
    def test_a_reload_reaches_all_and_those_that_come_later(self, upstream: Upstream, tmp_path: Path) -> None:
        config = by_workers(upstream)
        with RunningServer(tmp_path, config) as server:
            both = [*config["models"], model("more", upstream.station().url)]
            server.replace_file(server.encoded({**config, "models": both}))
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: set(metric(server, "mcp_config_revision").values()) == {2.0}, "all have it", END_S)
            answers = [server.http.get("/v1/models", headers={"connection": "close"}).json() for _ in range(12)]
            assert all(len(answer["data"]) == 2 for answer in answers)
            victim = rows(server)[0]["pid"]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: replaced(server, victim), "another leads", END_S)
            assert {row["revision"] for row in rows(server)} == {2}
            assert server.admin_post("/admin/v1/config/rollback").json()["revision"] == 3
            wait_until(lambda: set(metric(server, "mcp_config_revision").values()) == {3.0}, "all go back", END_S)

    def test_a_reload_that_meets_the_end_of_the_leader_is_not_lost(self, upstream: Upstream, tmp_path: Path) -> None:
        config = by_workers(upstream)
        with RunningServer(tmp_path, config) as server:
            victim = rows(server)[0]["pid"]
            os.kill(victim, signal.SIGSTOP)  # so that it cannot have read the file
            server.replace_file(server.encoded({**config, "models": []}))
            server.process.send_signal(signal.SIGHUP)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: replaced(server, victim), "another leads", END_S)
            wait_until(lambda: {row["revision"] for row in rows(server)} == {2}, "all have it", END_S)

    def test_what_the_admin_api_changes_is_changed_in_all(self, upstream: Upstream, tmp_path: Path) -> None:
        config = by_workers(upstream)
        with RunningServer(tmp_path, config) as server:
            station = upstream.station()
            server.apply(model("other", station.url), server=config["server"])
            wait_until(lambda: {row["revision"] for row in rows(server)} == {2}, "all have it", END_S)
            endpoint = server.admin_get("/admin/v1/models")["models"][0]["endpoint"]
            answer = server.admin_post(f"/admin/v1/models/other/endpoints/{endpoint.replace('/', '%2F')}/open")
            assert answer.status_code == 200, answer.text
            assert metric(server, "mcp_breaker_state") == dict.fromkeys(range(WORKERS), 2.0)

    def test_a_mistake_in_the_file_changes_nothing(self, upstream: Upstream, tmp_path: Path) -> None:
        with RunningServer(tmp_path, by_workers(upstream)) as server:
            server.replace_file(b"models: 7\n")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: told(server, "config_reload_failed by SIGHUP"), "it is told", END_S)
            assert {row["revision"] for row in rows(server)} == {1}
            assert ask_anew(server) == 200

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"cluster": {"secret": "sixteen-characters-or-more"}}, "server.workers"),
            ({"server": {"grpc_port": 0}}, "server.grpc_port"),
        ],
    )
    def test_what_workers_cannot_do_is_refused(self, config: dict[str, Any], words: str, tmp_path: Path) -> None:
        whole = {**config, "server": {"workers": 2, **config.get("server", {})}}
        server = RunningServer(tmp_path, whole)
        with pytest.raises(AssertionError, match=words):
            server.__enter__()
        assert server.process.wait(END_S) == 78
        assert server.process.stdout is not None
        server.process.stdout.close()

    def test_a_port_that_is_taken_is_told(self, upstream: Upstream, tmp_path: Path) -> None:
        with RunningServer(tmp_path, by_workers(upstream)) as first:
            port = int(first.url.rpartition(":")[2])
            (tmp_path / "second").mkdir()
            second = RunningServer(tmp_path / "second", by_workers(upstream, server={"port": port, "workers": 2}))
            with pytest.raises(AssertionError, match="is taken"):
                second.__enter__()
            assert second.process.wait(END_S) == 1
            assert second.process.stdout is not None
            second.process.stdout.close()


class TestLimits:
    def test_connections_are_counted_for_all_together(self, upstream: Upstream, tmp_path: Path) -> None:
        config = by_workers(upstream, 2, server={"max_connections": 4, "workers": 2})
        with RunningServer(tmp_path, config) as server, contextlib.ExitStack() as stack:
            port = int(server.url.rpartition(":")[2])
            refused = 0
            for _ in range(24):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=END_S))
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
                refused += b" 503 " in client.recv(4096)
            assert refused == 20


class TestHotRestart:
    def test_nobody_notices_while_requests_come(self, upstream: Upstream, tmp_path: Path) -> None:
        with replaceable(RunningServer(tmp_path, by_workers(upstream, drain={"accept": 1}))) as server:
            old = [server.process.pid, *(row["pid"] for row in rows(server))]
            with asking(server) as got:
                os.kill(server.process.pid, signal.SIGUSR2)
                assert server.process.wait(END_S) == 0
            assert set(got) == {200}
            assert len(got) > 10
            now = rows(server)
            assert len(now) == WORKERS
            assert not {row["pid"] for row in now} & set(old)

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_the_number_of_workers_may_change(self, upstream: Upstream, tmp_path: Path, count: int) -> None:
        config = by_workers(upstream, drain={"accept": 1})
        with replaceable(RunningServer(tmp_path, config)) as server:
            server.replace_file(server.encoded({**config, "server": {"workers": count}}))
            wait_until(lambda: told(server, "server.workers takes effect"), "the change is seen", END_S)
            with asking(server) as got:
                os.kill(server.process.pid, signal.SIGUSR2)
                assert server.process.wait(END_S) == 0
            assert set(got) == {200}
            assert {ask_anew(server) for _ in range(20)} == {200}
            assert len(server.admin_get("/admin/v1/status").get("workers", [0])) == count

    def test_the_service_manager_hears_one_server(self, upstream: Upstream, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(END_S)
            environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
            with RunningServer(tmp_path, by_workers(upstream, drain={"accept": 0.1}), environ=environ) as server:
                ready = heard(manager)
                assert ready[0] == "READY=1"
                assert f"by {WORKERS} workers" in ready[1]
                server.process.send_signal(signal.SIGHUP)
                assert heard(manager)[0] == "RELOADING=1"
                assert heard(manager)[0] == "READY=1"
                server.process.send_signal(signal.SIGTERM)
                assert heard(manager)[0] == "STOPPING=1"
                assert server.process.wait(END_S) == 0

    def test_one_that_stands_still_is_started_anew(self, upstream: Upstream, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
            with RunningServer(tmp_path, by_workers(upstream, 2), environ=environ) as server:
                victim = rows(server)[1]["pid"]
                os.kill(victim, signal.SIGSTOP)
                wait_until(lambda: told(server, "stands still and is killed"), "it is missed", END_S)
                wait_until(lambda: len(rows(server)) == 2, "another one comes", END_S)
                assert {ask_anew(server) for _ in range(10)} == {200}


async def test_grpc_is_served_by_all_at_one_port(upstream: Upstream, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = by_workers(upstream, server={"grpc_port": port, "workers": 2})
    with RunningServer(tmp_path, config) as server:
        assert port_of(server) == port
        counts: dict[int, float] = {}
        for _ in range(60):
            # A channel of its own, and not one that gRPC keeps for all channels to one target.
            async with Caller(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as caller:
                assert (await caller.ask(model="chat")).body
            counts = metric(server, "mcp_requests_total")
            if len(counts) == 2:
                break
        assert len(counts) == 2


def test_frames_are_served_and_nothing_is_promised_to_be_kept(upstream: Upstream, tmp_path: Path) -> None:
    hello = write_hello(Hello(versions=["1.0"], codecs=["json"], auth=Credentials(key=KEY)))
    with RunningServer(tmp_path, by_workers(upstream, 2)) as server:
        port = int(server.url.rpartition(":")[2])
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port), timeout=END_S) as client:
                client.sendall(PREFACE + encode_frame(HELLO, 0, hello))
                with client.makefile("rb") as told:
                    length, opcode, *_ = HEADER.unpack(told.read(HEADER_BYTES))
                    assert opcode == WELCOME
                    assert json.loads(told.read(length))["resume"] == ""


def test_a_unix_socket_is_served_by_workers_too(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "data.sock"
    config = by_workers(upstream, server={"unix": str(path), "workers": 2})
    with RunningServer(tmp_path, config) as server:
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), headers=server.http.headers) as client:
            for _ in range(8):
                answer = client.post("http://a/v1/chat/completions", json=chat_body(), headers={"connection": "close"})
                assert answer.status_code == 200
        assert KEY not in server.log()
