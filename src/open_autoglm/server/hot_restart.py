"""Replaces the running process by a new one of the same command, which takes over the listening sockets.

| state | event | then |
|---|---|---|
| idle | `begin` | starting: a new process loads, our listeners serve on |
| starting | it says that it is ready | over: it serves; we close our copies of the sockets and drain |
| starting | it ends, or 30 s pass | idle: we serve on, one line says why |
| starting | `give_up` | idle: it is told to stop |

Both processes hold the same listening sockets, so their queues of connections outlive either of them: nobody is
refused. The sockets go to the new process as systemd hands them (`sd_listen_fds(3)`): from descriptor 3 on, counted in
LISTEN_FDS, named in LISTEN_FDNAMES. One more descriptor, numbered in AUTOGLM_READY_FD, is a pipe for its one word.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from open_autoglm.errors import ServerError

_log = logging.getLogger(__name__)
_FIRST_FD: Final = 3
_DEADLINE_S: Final = 30.0
"""A new process that is not ready by then is killed; the old one serves on."""
_ENDING_LOOKS: Final = 100
_ENDING_LOOK_S: Final = 0.05
_READY: Final = b"READY\n"
_READY_FD: Final = "AUTOGLM_READY_FD"
_FDS_MAX: Final = 4096
"""Each worker has sockets of its own."""


@dataclass(slots=True)
class Inherited:
    """What a process was born with.

    Attributes:
        data, admin: listening sockets; those that are not called `admin` are for data.
        ready_fd: where a new process says that it is ready; -1 when it replaces nobody.
    """

    data: list[socket.socket] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)
    ready_fd: int = -1

    def say_ready(self) -> None:
        """Tell the process that is being replaced to leave. Does nothing when there is none."""
        if self.ready_fd >= 0:
            with contextlib.suppress(OSError):  # it is gone: then nobody has to leave
                os.write(self.ready_fd, _READY)
            os.close(self.ready_fd)
            self.ready_fd = -1


def take_inherited(environ: MutableMapping[str, str], pid: int) -> Inherited:
    """Take the sockets that systemd or a process before us has opened; their variables go from `environ`.

    Args:
        environ: of this process.
        pid: its id; sockets that are meant for another process are left alone.

    Raises:
        ServerError: a descriptor is no listening socket.
    """
    count, meant = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    ready = environ.pop(_READY_FD, "")
    inherited = Inherited(ready_fd=int(ready) if ready.isdigit() else -1)
    if inherited.ready_fd >= 0:
        os.set_inheritable(inherited.ready_fd, False)
    elif meant != str(pid):
        return inherited
    if not count.isdigit() or not 0 < int(count) <= _FDS_MAX:
        return inherited
    for at in range(int(count)):
        sock = _listening(_FIRST_FD + at)
        (inherited.admin if names[at : at + 1] == ["admin"] else inherited.data).append(sock)
    return inherited


def _listening(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ServerError(
            "internal_error", f"descriptor {descriptor} of LISTEN_FDS cannot be used: {error.strerror}"
        ) from error
    if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise ServerError("internal_error", f"descriptor {descriptor} of LISTEN_FDS is no listening socket")
    return sock


class HotRestart:
    """See the module.

    Args:
        command: program and words of the new process; those of this one when left out.
        deadline_s: for the new process to become ready.

    Attributes:
        pid: of the new process while it starts; 0 otherwise.
    """

    def __init__(self, command: Sequence[str] | None = None, deadline_s: float = _DEADLINE_S) -> None:
        self._command = list(command) if command is not None else [sys.executable, *sys.orig_argv[1:]]
        self._deadline_s = deadline_s
        self._given_up = False
        self.pid = 0

    async def begin(self, sockets: Sequence[tuple[str, int]]) -> int:
        """Start a new process and wait until it is ready.

        Args:
            sockets: name and descriptor of each listening socket, `data` or `admin`.

        Returns:
            The id of the new process, which serves; 0 when there is none, and the log says why.
        """
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._given_up = False
        try:
            self.pid = _spawn(self._command, sockets, write_fd)
        except OSError as error:
            os.close(read_fd)
            _log.error("hot restart failed, this process serves on: cannot start a new one: %s", error.strerror)
            return 0
        finally:
            os.close(write_fd)
        _log.info("hot restart: process %d is starting", self.pid)
        word = await _word(read_fd, self._deadline_s)
        pid, self.pid = self.pid, 0
        if word == _READY and not self._given_up:
            _log.info("hot restart: process %d serves, this one finishes what it has begun", pid)
            return pid
        await self._bury(pid, timed_out=word is None)
        return 0

    def give_up(self) -> None:
        """Stop a new process that is still starting."""
        if self.pid:
            self._given_up = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    async def _bury(self, pid: int, *, timed_out: bool) -> None:
        if timed_out:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._given_up:
            return  # it ends in its own time
        status = await _ended(pid)
        how = f"was not ready within {self._deadline_s:g} s" if timed_out else f"ended with {_told(status)}"
        _log.error("hot restart failed, this process serves on: process %d %s; its own lines say why", pid, how)


async def _ended(pid: int) -> int:
    """Wait for a process that closed its pipe, kill it when it does not end; return its wait status."""
    for _ in range(_ENDING_LOOKS):
        status = _reap(pid, os.WNOHANG)
        if status is not None:
            return status
        await asyncio.sleep(_ENDING_LOOK_S)
    os.kill(pid, signal.SIGKILL)
    return _reap(pid, 0) or 0


def _reap(pid: int, options: int) -> int | None:
    ended, status = os.waitpid(pid, options)
    return status if ended else None


def _told(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"code {code}" if code >= 0 else f"signal {-code}"


def _spawn(command: Sequence[str], sockets: Sequence[tuple[str, int]], ready_fd: int) -> int:
    """Start a process with the sockets from descriptor 3 on and the pipe after them; return its id."""
    descriptors = [descriptor for _, descriptor in sockets] + [ready_fd]
    ready_at = _FIRST_FD + len(sockets)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "WATCHDOG_PID"))}
    environ["LISTEN_FDS"] = str(len(sockets))
    environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
    environ[_READY_FD] = str(ready_at)
    # Copies above all targets, so that none is overwritten before it is put in its place.
    copies: list[int] = []
    try:
        for descriptor in descriptors:
            copies += [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ready_at + 1)]
        actions = [(os.POSIX_SPAWN_DUP2, copy, _FIRST_FD + at) for at, copy in enumerate(copies)]
        return os.posix_spawn(command[0], list(command), environ, file_actions=actions)
    finally:
        for copy in copies:
            os.close(copy)


async def _word(read_fd: int, deadline_s: float) -> bytes | None:
    """Read what the new process says until it closes the pipe; None when it says nothing in time."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        if not said.done():
            said.set_result(os.read(read_fd, len(_READY)))

    loop.add_reader(read_fd, read)
    try:
        return await asyncio.wait_for(said, deadline_s)
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(read_fd)
        os.close(read_fd)
