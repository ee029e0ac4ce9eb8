"""The key of the admin listener: configured, or made at the first start and kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from open_autoglm.config.schema import ServerSettings
from open_autoglm.errors import ServerError
from open_autoglm.ids import new_key
from open_autoglm.secret import Secret


def find_admin_key(server: ServerSettings) -> Secret:
    """Return the configured key, or the one of an earlier start, or a new one, kept in `data_dir/admin.key`.

    Raises:
        ServerError: a new one cannot be kept.
    """
    if server.admin_key is not None:
        return server.admin_key
    path = Path(server.data_dir) / "admin.key"
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_text(encoding="ascii").strip()
        if kept:
            return Secret(kept, "file")
    key = new_key()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
    except OSError as error:
        raise ServerError(
            "internal_error",
            f"cannot keep the admin key in {str(path)!r}: {error.strerror}; set server.data_dir or server.admin_key",
        ) from error
    return Secret(key, "file")
