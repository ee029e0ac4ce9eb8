"""The gRPC listener itself: TLS, its port, its limits, and what a hot restart means for it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.integration.framed.test_framed import serving, until
from tests.integration.lifecycle.test_hot_restart import pid_of
from tests.integration.over_grpc.caller import AS_OURSELVES, Caller, port_of, request
from tests.integration.running import ROOT, RunningServer, model, speaking_upstream
from tests.integration.speech import DONE, delta, finish
from tests.integration.upstreams import Station, pieces


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    with speaking_upstream() as upstream:
        yield upstream.station()


def issue(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key of `name` as files."""
    issued = authority.issue_cert(name)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(cert, append=number > 0)
    return cert, key


async def test_mutual_tls(tmp_path: Path, station: Station) -> None:
    authority = trustme.CA()
    cert, key = issue(authority, tmp_path, "localhost")
    client_cert, client_key = issue(authority, tmp_path, "client.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    config: dict[str, Any] = {
        "models": [model("m", station.url)],
        "server": {"grpc_port": 0},
        "tls": {"cert": str(cert), "key": str(key), "client_ca": str(tmp_path / "ca.pem")},
    }
    root = authority.cert_pem.bytes()
    known = grpc.ssl_channel_credentials(root, client_key.read_bytes(), client_cert.read_bytes())
    async with serving(tmp_path, config) as server:
        target = f"localhost:{port_of(server)}"
        async with Caller(target, known) as caller:
            assert (await caller.ask()).finish == "stop"
        async with Caller(target, grpc.ssl_channel_credentials(root)) as stranger:
            assert (await stranger.refusal(stranger.ask(timeout_s=5.0))).status == grpc.StatusCode.UNAVAILABLE
        async with Caller(target) as plain:
            assert (await plain.refusal(plain.ask(timeout_s=5.0))).status == grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "config.json"
        path.write_bytes(RunningServer(tmp_path).encoded({"server": {"grpc_port": port}}))
        told = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mcp_server", "--config", str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            timeout=20.0,
            encoding="utf-8",
        )
    assert told.returncode == 1
    assert f"127.0.0.1:{port} is taken by " in told.stderr
    assert f"(pid {os.getpid()}); choose another one by `server.grpc_port`" in told.stderr


async def test_connections_beyond_the_limit_are_refused(tmp_path: Path, station: Station) -> None:
    config = {
        "models": [model("m", station.url)],
        "server": {"grpc_port": 0, "max_connections": 2},
    }
    async with serving(tmp_path, config) as server:
        target = f"127.0.0.1:{port_of(server)}"
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with Caller(target, options=own) as first, Caller(target, options=own) as second:
            await first.ask()
            await second.ask()
            async with Caller(target, options=own) as third:
                assert (await third.refusal(third.ask(timeout_s=3.0))).status == grpc.StatusCode.UNAVAILABLE
            assert (await first.ask()).finish == "stop"


async def test_a_hot_restart(tmp_path: Path, station: Station) -> None:
    """What is begun ends in the old process; a channel that is sent away connects to the new one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "models": [model("m", station.url)],
        "server": {"grpc_port": port},
        "drain": {"accept": 5},
    }
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port}") as caller:
        station.then(pieces(*[delta(str(number)) for number in range(10)], finish(), DONE, pause_s=0.3))
        stream = caller.stream()
        text = (await anext(aiter(stream))).chunk.text
        old = server.process.pid
        os.kill(old, signal.SIGUSR2)
        text += "".join([part.chunk.text async for part in stream])
        assert text == "0123456789"
        await until(lambda: server.process.poll() is not None)
        call = caller.infer(request("hi"), metadata=AS_OURSELVES, wait_for_ready=True, timeout=10.0)
        assert (await call).finish == "stop"
        new = await asyncio.to_thread(pid_of, server)
        assert new not in (0, old)
        os.kill(new, signal.SIGINT)
