"""A server of ours in a process of its own, for a drill: default configuration, free ports, a temporary folder.

Invariant: process and folder are gone when the context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from open_autoglm.errors import ServerError
from open_autoglm.testing.cases import Case
from open_autoglm.testing.gateway_config import open_autoglm
from open_autoglm.testing.hearing import Door

_START_S: Final = 15.0
_STOP_S: Final = 10.0
_POLL_S: Final = 0.05


@contextlib.asynccontextmanager
async def own_server(cases: Sequence[Case], urls: Mapping[str, str], going_on: bool = False) -> AsyncIterator[Door]:
    """Start a server for the cases; yield where it takes requests.

    Args:
        cases, urls, going_on: see `gateway_config.open_autoglm`.

    Raises:
        ServerError: it does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="autoglm-drill-"))
    port, admin_port = _free_port(), _free_port()
    config = folder / "config.yaml"
    config.write_text(open_autoglm(cases, urls, going_on), encoding="utf-8")
    config.chmod(0o600)
    log = folder / "log"
    environ = dict(os.environ) | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MCP__SERVER__DATA_DIR": str(folder),
        "MCP__LOGGING__FILE": str(folder / "requests.log"),
    }
    argv = ["serve", "--config", str(config), "--port", str(port), "--admin-port", str(admin_port)]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcp_server", *argv, stdout=output, stderr=output, env=environ
        )
    try:
        await _wait_open(process, port, log)
        yield Door("127.0.0.1", port)
    finally:
        await _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


async def _wait_open(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _START_S
    while loop.time() < end_s and process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_POLL_S)
            continue
        writer.close()
        return
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]  # noqa: ASYNC240 - a small file, at the end
    raise ServerError("internal_error", f"the drill's own server does not start: {' '.join(last)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
