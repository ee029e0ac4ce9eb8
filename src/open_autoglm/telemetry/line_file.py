"""A file of lines that heals itself: a full disk, a deleted file or a lost folder costs lines, never an exception.

Invariant: whole lines only. When the system takes a part of a batch, the torn line is closed with a line feed
before anything else is written. Not for several threads at once; each writer has its own, in append mode.
"""

import contextlib
import os

STDERR_FD = 2


class LineFile:
    """Appends to a file, or to standard error.

    Args:
        path: of the file, made with its folder when missing, readable by its owner only; `None` is standard error.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._fd = -1 if path is not None else STDERR_FD
        self._identity: tuple[int, int] | None = None
        self._torn = False

    def write(self, data: bytes) -> int:
        """Write whole lines and return how many of them were lost, 0 when all is well. Never raises.

        Args:
            data: lines, each with its line feed.
        """
        if not self._ready():
            return data.count(b"\n")
        start = 1 if self._torn else 0
        whole = b"\n" + data if self._torn else data
        view, done = memoryview(whole), 0
        try:
            while done < len(whole):
                done += os.write(self._fd, view[done:])
        except OSError:
            if done:
                self._torn = whole[done - 1] != 0x0A
            return data.count(b"\n") - whole.count(b"\n", start, max(start, done))
        self._torn = False
        return 0

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._path is not None and self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _ready(self) -> bool:
        """Have the file open under its present name: it may have been rotated, deleted, or come back."""
        if self._path is None:
            return True
        if self._fd >= 0 and self._identity == _identity(self._path):
            return True
        self.close()
        try:
            os.makedirs(os.path.dirname(self._path) or ".", mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        self._identity = _identity(self._path)
        self._torn = False
        return True


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
