"""Looks four times a second at memory, descriptors and the loop's lag, and has the server give up what the stage says.

What each stage means is in `admission.overload`; what unusual sources are, in `admission.sources`. Invariant: besides
the stage, connections are bounded by the descriptors that are left at every moment, so that a flood between two looks
cannot take those that running requests and the admin listener need.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from open_autoglm import clock
from open_autoglm.admission.classes import CRITICAL, SHEDDABLE
from open_autoglm.admission.overload import DESCRIPTORS_RESERVED, Overload
from open_autoglm.telemetry import process
from open_autoglm.transport.http_server import REFUSED_MAX

if TYPE_CHECKING:
    from open_autoglm.server.server import Server

_log = logging.getLogger(__name__)
_LOOK_S: Final = 0.25
_SOURCES_EVERY: Final = 20
"""Looks between two at the sources."""
_STAGE_REFUSING: Final = 2
_STAGE_CLOSED: Final = 3


class OverloadWatch:
    """See the module.

    Args:
        server: composed; it need not have started.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._overload = Overload(server.config.overload)
        self._memory_max = memory_max_bytes()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._looks = 0

    @property
    def stage(self) -> int:
        """0 to 3."""
        return self._overload.stage

    @property
    def cause(self) -> str:
        """The resource that is worst off; empty at stage 0."""
        return self._overload.cause

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look."""
        self._loop = loop
        self._look(0.0)
        self._arm()

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew(self) -> None:
        """Another configuration is active."""
        self._overload.reconfigure(self._server.config.overload)

    def _arm(self) -> None:
        self._due_s = clock.monotonic() + _LOOK_S
        self._timer = self._loop.call_later(_LOOK_S, self._tick)

    def _tick(self) -> None:
        now_s = clock.monotonic()
        lag_s = max(0.0, now_s - self._due_s)
        self._arm()
        self._look(lag_s)
        self._looks += 1
        if self._looks % _SOURCES_EVERY == 0:
            self._server.sources.look(now_s)

    def _look(self, lag_s: float) -> None:
        server, overload = self._server, self._overload
        config = server.config
        settings = config.overload
        used, usable = open_descriptors(), max(1, descriptors_max() - DESCRIPTORS_RESERVED)
        memory = process.resident_bytes() / server.place.part(settings.memory or self._memory_max)
        if not settings.enabled:
            memory, used, lag_s = 0.0, 0, 0.0
        if overload.look(memory, used / usable, lag_s):
            _log.warning(
                "overload stage %d%s (memory %.0f %%, descriptors %.0f %%, lag %.0f ms)",
                overload.stage,
                f" by {overload.cause}" if overload.cause else "",
                100 * memory,
                100 * used / usable,
                1000 * lag_s,
            )
        if overload.stage:
            server.explain.trim(config.explain.keep // 2)
        server.gateway.door.floor = CRITICAL if overload.stage >= _STAGE_REFUSING else SHEDDABLE
        data = server.data
        data.spare(not overload.keep_alive)
        room = max(0, int(usable * settings.full) - (used - data.connections))
        data.accept_max = 0 if overload.stage >= _STAGE_CLOSED else min(room, config.wire.connections + REFUSED_MAX)


def descriptors_max() -> int:
    """How many descriptors the process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_descriptors() -> int:
    """How many descriptors are open; 0 where the kernel does not tell. Linux 6.2 and later say so without a list."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def memory_max_bytes(root: Path = Path("/")) -> int:
    """What the process may use: the lowest limit of its control groups, or the memory of the machine."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            group, name = root / "sys/fs/cgroup" / path.strip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            group, name = root / "sys/fs/cgroup/memory" / path.strip("/"), "memory.limit_in_bytes"
        else:
            continue
        for folder in (group, *group.parents):
            try:
                text = (folder / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdigit() and int(text) > 0:
                limits.append(int(text))
    return min(limits)
