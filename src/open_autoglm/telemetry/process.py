"""What this process uses, read from the kernel at a scrape. Linux; elsewhere the memory figure is left out.

Names and meanings are those that Prometheus' own client libraries give, so that common dashboards work.
"""

import os

from open_autoglm import clock

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

STARTED_WALL_S = clock.wall()
"""When this module was first imported, which is at start-up; seconds since 1970 UTC."""


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM, bytes; 0 where the kernel does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
