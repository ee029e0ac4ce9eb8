"""Child processes on fixed cores: started, watched, stopped with everything they started.

Invariant: whatever `Child` starts is gone when its `with` block ends; it stops only the process group that it made
itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

STOP_GRACE_S: Final = 3.0
LOG_TAIL_BYTES: Final = 4000


class Child:
    """A process pinned to one core, with its output in a log file. Use it in a `with` block.

    Args:
        argv: the command; found on the PATH when it is no path.
        core: the core number that it and its children run on.
        log: the file that takes standard error, and standard output unless `piped`.
        piped: standard input and output are pipes to us, for `ask` and `answer`.
        env: added to our own environment.
        folder: the working directory.
    """

    def __init__(
        self,
        argv: Sequence[str],
        core: int,
        log: Path,
        *,
        piped: bool = False,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.argv = list(argv)
        self.core = core
        self.log = log
        self.piped = piped
        self.env = {**os.environ, **(env or {})}
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Child:
        with self.log.open("ab") as sink:
            # taskset replaces itself by the command, so the process id is the command's own.
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *self.argv],
                stdin=subprocess.PIPE if self.piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.piped else sink,
                stderr=sink,
                env=self.env,
                cwd=self.folder,
                start_new_session=True,
                text=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id; also the id of its process group."""
        if self.process is None:
            raise RuntimeError(f"{self.argv[0]} was not started; use it in a with block")
        return self.process.pid

    def exit_code(self) -> int | None:
        """The exit code, or `None` while it runs."""
        return self.process.poll() if self.process is not None else None

    def ask(self, line: str) -> None:
        """Writes one line to the child's standard input (only when `piped`)."""
        if self.process is None or self.process.stdin is None:
            raise RuntimeError(f"{self.argv[0]} has no standard input")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Reads one line of the child's standard output; empty at its end (only when `piped`)."""
        if self.process is None or self.process.stdout is None:
            raise RuntimeError(f"{self.argv[0]} has no standard output")
        return self.process.stdout.readline().strip()

    def wait(self, wait_s: float) -> bool:
        """Waits up to `wait_s` seconds for the end of the process; whether it has ended."""
        return self.process is None or _ended(self.process, wait_s)

    def log_tail(self) -> str:
        """The last non-empty line of the log, at most 300 characters, for a report of why it did not start."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def stop(self) -> None:
        """Ends the process group: asked first, killed after `STOP_GRACE_S` seconds."""
        process = self.process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            if _ended(process, STOP_GRACE_S):
                break
        # A group may outlive its leader, so the rest of it is killed in any case.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_GRACE_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ended(process: subprocess.Popen[str], wait_s: float) -> bool:
    deadline_s = time.monotonic() + wait_s
    while process.poll() is None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1 that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
