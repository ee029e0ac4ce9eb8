"""Opening ports, and who holds one that cannot be had: a start-up error says what to do."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from open_autoglm.errors import ServerError

_T = TypeVar("_T")
_LISTEN: Final = "0A"
_TAKEN: Final = (98, 48)
"""EADDRINUSE, of Linux and of the BSDs."""


async def listen_or_tell(open_listener: Callable[[], Awaitable[_T]], host: str, port: int, option: str) -> _T:
    """Open a listener.

    Raises:
        ServerError: the address cannot be had; see `port_error`.
    """
    try:
        return await open_listener()
    except OSError as error:
        raise port_error(error, host, port, option) from error


def port_error(error: OSError, host: str, port: int, option: str) -> ServerError:
    """Say why an address cannot be had, and where another port is chosen.

    Args:
        error: of the system.
        host, port: that were asked for.
        option: of the command line, without dashes; or a key of the configuration, with a dot.
    """
    holder = holder_of(port)
    taken = f" by {holder}" if holder else ""
    how = f"by `{option}`" if "." in option else f"with --{option}"
    reason = (
        f"is taken{taken}; choose another one {how}"
        if error.errno in _TAKEN
        else f"cannot be had ({how.removeprefix('by ').removeprefix('with ')}): {error.strerror or error}"
    )
    return ServerError("internal_error", f"{host}:{port} {reason}")


def holder_of(port: int, proc: Path = Path("/proc")) -> str:
    """Say which process listens on a TCP port, as `nginx (pid 812)`; empty when it cannot be seen.

    Reads Linux's `/proc/net/tcp` and `tcp6`, and the file descriptors of the processes that this user may look at.
    """
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.iterdir():
        if folder.name.isdigit() and _holds(folder, wanted):
            return f"{_name_of(folder)} (pid {folder.name})"
    return "a process of another user"


def _listening_inodes(port: int, proc: Path) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _holds(folder: Path, wanted: set[str]) -> bool:
    try:
        for descriptor in (folder / "fd").iterdir():
            try:
                if os.readlink(descriptor) in wanted:
                    return True
            except OSError:
                continue
    except OSError:
        pass
    return False


def _name_of(folder: Path) -> str:
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
        # Another program's words, for one line of ours: a script given on the command line has many.
        return " ".join(b" ".join(words).decode("utf-8", "replace").split())[:80] or "a process"
    except OSError:
        return "a process"
