"""The only file that reads time.

Everything below the edges is given `now_s`; the edges ask here. Monotonic seconds order events inside
one process and are never compared between machines; wall seconds are for people and for signatures. Callers ask
through the module (`clock.monotonic()`), so that `drive` reaches every one of them.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

monotonic: Callable[[], float] = time.monotonic
"""Seconds since an arbitrary start, never going back. `() -> float`."""

wall: Callable[[], float] = time.time
"""Seconds since 1970-01-01 UTC, which an administrator may set back. `() -> float`."""

cpu = time.process_time
"""CPU seconds used by this process, user and system. `() -> float`."""


@contextlib.contextmanager
def drive(monotonic_s: Callable[[], float], wall_s: Callable[[], float]) -> Iterator[None]:
    """Take both times from elsewhere within the context: a loop whose time is virtual supplies them."""
    global monotonic, wall
    before = monotonic, wall
    monotonic, wall = monotonic_s, wall_s
    try:
        yield
    finally:
        monotonic, wall = before


def iso_utc(wall_s: float) -> str:
    """Write wall seconds as `2026-01-31T23:59:59.123Z`."""
    whole = int(wall_s)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((wall_s - whole) * 1000):03d}Z"
