"""Turns of several processes at one file.

SQLite has locks of its own; but until 3.51.3 two connections that write and move the log into the file at the same
moment can, rarely, damage it (its documentation calls that the WAL-reset bug), and systems ship older ones for years.
Whoever takes a turn first cannot meet it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from open_autoglm import clock
from open_autoglm.errors import ServerError

_PAUSE_S = 0.001


class FileTurn:
    """A lock beside a file. One thread at a time; it blocks: for a thread of its own.

    Args:
        path: of the lock; made when it is not there, and never deleted.
        wait_s: longest wait for a turn, seconds.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path = path
        self._wait_s = wait_s
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._pause = threading.Event()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn within the context.

        Raises:
            ServerError: `overloaded`, others did not give it up in time.
        """
        give_up_s = clock.monotonic() + self._wait_s
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= give_up_s:
                    message = f"another process holds {str(self._path)!r} for longer than {self._wait_s:g} s; try again"
                    raise ServerError("overloaded", message) from None
                self._pause.wait(_PAUSE_S)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up the file; twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
