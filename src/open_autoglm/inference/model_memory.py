"""How much memory is left for another version of a model, as Linux tells it.

Within a control group with a limit of memory that limit counts; files that are kept in memory give way, so they do not.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def free_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None where nobody says.

    Args:
        root: where the files of `/` are found.
    """
    free: int | None = None
    with suppress(OSError, ValueError, LookupError):
        free = 1024 * _figure(root / "proc/meminfo", "MemAvailable:")
    group = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError, LookupError):
        most = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        kept = sum(_figure(group / "memory.stat", name) for name in ("active_file", "inactive_file"))
        left = max(0, most - used + kept)
        free = left if free is None else min(free, left)
    return free


def _figure(path: Path, name: str) -> int:
    """The number behind a name at the beginning of a line."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[0] == name}[name]
