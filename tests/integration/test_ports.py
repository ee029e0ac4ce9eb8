"""Who holds a port: a real process, as the system tells of it."""

from __future__ import annotations

import subprocess
import sys

from open_autoglm.transport.ports import holder_of

_SCRIPT = """
import socket
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
input()
"""


def test_a_holder_is_told_on_one_line() -> None:
    with subprocess.Popen([sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = holder_of(int(process.stdout.readline()))
        process.communicate(b"\n")
    assert f"pid {process.pid}" in told
    assert told.isprintable()
