"""Which processes live, told by locks: a run is driven by one process at a time, and by another once that is gone.

Invariant: the operating system holds each process's lock, so it ends with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from open_autoglm.errors import ServerError

_TRIES = 5
_BEFORE, _BEHIND = "runs-", ".lock"


class RunOwner:
    """This process among those that share a folder. Blocks: for a thread of its own.

    Args:
        folder: there, writable; a file for each process is kept in it.

    Attributes:
        name: of this process, unique; not a secret.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        for _ in range(_TRIES):
            self.name = secrets.token_hex(8)
            if self._take():
                self._clear()
                return
        raise ServerError("internal_error", f"no lock could be taken in {str(folder)!r}")

    def lives(self, name: str) -> bool:
        """Tell whether a process is there. What one that is gone left behind is cleared away."""
        if name == self.name:
            return True
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Be gone; twice is once."""
        if self._descriptor >= 0:
            self._path(self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self) -> bool:
        """Make and lock a file; false if somebody took it for a dead one's in between."""
        path = self._path(self.name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                self._descriptor = descriptor
                return True
        os.close(descriptor)
        return False

    def _clear(self) -> None:
        """Take away what processes left that were killed, those too that no run is of."""
        for path in self._folder.glob(f"{_BEFORE}*{_BEHIND}"):
            with contextlib.suppress(OSError):  # not ours
                self.lives(path.name.removeprefix(_BEFORE).removesuffix(_BEHIND))

    def _path(self, name: str) -> Path:
        return self._folder / f"{_BEFORE}{name}{_BEHIND}"
