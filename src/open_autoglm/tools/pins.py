"""What foreign tools looked like when they were first seen.

Invariant: a pin stays until a person takes it away; a file that cannot be read, or written, is an error, never an empty
set of pins: else whoever can break the file could change a tool.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from open_autoglm.errors import ServerError

FILE_NAME: Final = "tool-pins.json"
PINS_MAX: Final = 10_000
_BYTES_MAX: Final = 4 * 2**20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


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
        pinned = self._pins.get(name)
        if pinned is None:
            if len(self._pins) >= PINS_MAX:
                raise ServerError("storage_full", f"{PINS_MAX} tools are pinned; remove {self._path} to begin anew")
            self._pins[name] = digest
            self._write()
            return True
        return pinned == digest

    def forget(self, name: str) -> bool:
        """Take a pin away, so that the tool is pinned anew when it is next seen; False when there is none.

        Raises:
            ServerError: the file cannot be written.
        """
        known = self._pins.pop(name, None) is not None
        if known:
            self._write()
        return known

    def _write(self) -> None:
        path = self._path
        if path is None:
            return
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._pins, order="sorted"), indent=1))
            os.replace(fresh, path)
        except OSError as error:
            raise ServerError("internal_error", f"cannot write {str(path)!r}: {error.strerror}") from error


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
