"""The file of the cluster's secret, as commands are told it by `--secret-file`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from open_autoglm.cli.failure import CommandFailed
from open_autoglm.secret import Secret

BYTES_MAX: Final = 4096


def read_secret(file: str | None) -> Secret | None:
    """Read the secret; None where no file is named.

    Raises:
        CommandFailed: it cannot be read, is empty or too long, or others can read or write it.
    """
    if file is None:
        return None
    try:
        with Path(file).open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise CommandFailed(
                    f"--secret-file {file}: others can read or write it (mode {mode:04o}); run `chmod 600` on it"
                )
            data = opened.read(BYTES_MAX + 1)
            text = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandFailed(f"--secret-file {file} cannot be read: {reason}") from error
    if len(data) > BYTES_MAX:
        raise CommandFailed(f"--secret-file {file} is longer than {BYTES_MAX} bytes; a secret is one line")
    if not text:
        raise CommandFailed(f"--secret-file {file} is empty")
    return Secret(text, "file")
