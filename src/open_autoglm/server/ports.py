"""Who holds a port: for a start-up error that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

_LISTEN = "0A"


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
