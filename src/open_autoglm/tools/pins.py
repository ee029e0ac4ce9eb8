"""What foreign tools looked like when they were first seen.

Invariants: a pin stays until a person takes it away; a file that cannot be read, or written, is an error, never an
empty set of pins: else whoever can break the file could change a tool; what is not in the file is not pinned. Processes
that share the file lose no pin of each other: each change is made to the file as it is then, under a lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from open_autoglm.errors import ServerError

FILE_NAME: Final = "tool-pins.json"
PINS_MAX: Final = 10_000
_BYTES_MAX: Final = 4 * 2**20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LOCK_TRIES: Final = 100
_LOCK_PAUSE_S: Final = 0.005
"""Half a second in all: others hold the lock to write one small file."""


class Pins:
    """See the module.

    Args:
        path: of the file; None keeps the pins in memory only.

    Raises:
        ServerError: the file is there and cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pins: dict[str, str] = {} if path is None else _read(path)

    def holds(self, name: str, digest: str) -> bool:
        """Whether a tool is as it was first seen; one that was never seen is pinned.

        Raises:
            ServerError: the file cannot be written, or there are too many.
        """
        if name not in self._pins:
            with self._changing() as pins:
                if name not in pins and len(pins) >= PINS_MAX:
                    raise ServerError("storage_full", f"{PINS_MAX} tools are pinned; remove {self._path} to begin anew")
                pins.setdefault(name, digest)
        return self._pins[name] == digest

    def forget(self, name: str) -> bool:
        """Take a pin away, so that the tool is pinned anew when it is next seen; False when there is none.

        Raises:
            ServerError: the file cannot be written.
        """
        with self._changing() as pins:
            return pins.pop(name, None) is not None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """The pins as they are in the file now, to be changed; what cannot be written is not known here either."""
        if self._path is None:
            yield self._pins
            return
        try:
            with _locked(self._path):
                pins = _read(self._path)
                before = dict(pins)
                yield pins
                if pins != before:
                    _write(self._path, pins)
        except OSError as error:
            raise ServerError("internal_error", f"cannot write {str(self._path)!r}: {error.strerror}") from error
        self._pins = pins


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes, and other objects of this one, from the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for left in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise
                threading.Event().wait(_LOCK_PAUSE_S)
        yield
    finally:
        os.close(lock)


def _write(path: Path, pins: dict[str, str]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(pins, order="sorted"), indent=1))
    os.replace(fresh, path)


def _read(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
        if len(data) > _BYTES_MAX:
            raise ValueError("it is too long")
        pins = msgspec.json.decode(data, type=dict[str, str])
        if any(_DIGEST.fullmatch(digest) is None for digest in pins.values()):
            raise ValueError("it holds what is no digest")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ServerError(
            "internal_error", f"cannot read {str(path)!r}: {error}; remove it to pin all tools anew"
        ) from error
    return pins
