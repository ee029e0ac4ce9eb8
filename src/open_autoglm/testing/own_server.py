"""A server of ours in a process of its own, for a drill: default configuration, free ports, a temporary folder.

Invariant: process and folder are gone when the context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from open_autoglm.errors import ServerError
from open_autoglm.testing.cases import Case
from open_autoglm.testing.gateway_config import Wanted, open_autoglm
from open_autoglm.testing.hearing import Door

_START_S: Final = 15.0
_STOP_S: Final = 10.0
_POLL_S: Final = 0.05


@contextlib.asynccontextmanager
async def own_server(cases: Sequence[Case], urls: Mapping[str, str], going_on: bool = False) -> AsyncIterator[Door]:
    """Start a server for the cases; yield where it takes requests.

    Args:
        cases, urls, going_on: see `gateway_config.Wanted`.

    Raises:
        ServerError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="autoglm-drill-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        port = free_port()
        config = folder / "config.yaml"
        config.write_text(open_autoglm(Wanted(cases, urls, port, going_on)), encoding="utf-8")
        config.chmod(0o600)
        environ = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MCP__SERVER__DATA_DIR": name,
            "MCP__LOGGING__FILE": str(folder / "requests.log"),
            "MCP__DRAIN__ACCEPT": "1ms",  # nobody has to be told that it stops
        }
        argv = [sys.executable, "-m", "mcp_server", "serve", "--config", str(config), "--admin-port", str(free_port())]
        async with program(argv, environ, folder / "output", port):
            yield Door("127.0.0.1", port)


@contextlib.asynccontextmanager
async def program(
    argv: Sequence[str], environ: Mapping[str, str], log: Path, port: int, start_s: float = _START_S
) -> AsyncIterator[None]:
    """Run a program until the context ends; entered once its port is open.

    Args:
        argv: the command.
        environ: added to our own environment.
        log: file for its output, in a folder that it may use as its own.
        port: of loopback.
        start_s: within which it must listen.

    Raises:
        ServerError: it does not.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environ}
        )
    try:
        if not await _opens(process, port, start_s):
            raise ServerError("internal_error", f"{argv[0]} does not listen within {start_s:g} s: {_last_line(log)}")
        yield
    finally:
        await _stop(process)


async def _opens(process: asyncio.subprocess.Process, port: int, start_s: float) -> bool:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + start_s
    while loop.time() < end_s and process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_POLL_S)
            continue
        writer.close()
        return True
    return False


def _last_line(log: Path) -> str:
    return " ".join(log.read_bytes().decode("utf-8", "replace").strip().splitlines()[-1:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
