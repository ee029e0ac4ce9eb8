"""One node for each data folder: two would delete each other's versions while those arrive.

Invariant: the operating system holds the lock, so it ends with the process, however that ends; the file stays and says
nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from open_autoglm.errors import ServerError

FILE: Final = "node.lock"


class DataLock:
    """Taken when made, given back by `close`.

    Args:
        folder: of the node; made when it is not there.

    Raises:
        ServerError: `internal_error`, another node has it.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise ServerError(
                "internal_error", f"another node uses this folder ({FILE} in it is locked); give each node its own"
            ) from error

    def close(self) -> None:
        """Give the folder back; twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
