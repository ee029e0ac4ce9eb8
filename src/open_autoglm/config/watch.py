"""Watching a configuration file: whoever wants to know is called after each change, however it is made.

What counts is the file that the path leads to in the end, so a file that is written in place, renamed over, removed
and made again, or reached through symbolic links that are swapped (as Kubernetes does with `..data`) is seen alike.
The system's events on the folders only say when to look; a look each second finds what no event told of.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

LOOK_INTERVAL_S = 1.0
"""Between two looks without an event; the only means where the system has no events to give."""

SETTLE_S = 0.1
"""A file must stay as it is for so long before it is read: writers need several steps."""

SETTLE_LOOKS_MAX = 20
"""Looks at a file that does not come to rest; then it is read as it is."""

LINKS_MAX = 40
"""Symbolic links that a path may lead through, as in Linux."""

Fingerprint = tuple[int, int, int, int, int]


def fingerprint(path: str) -> Fingerprint | None:
    """What tells one state of a file from another; None while there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


async def watch_file(path: str, on_change: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Call `on_change` after each change of a file, until `stop` is set.

    A removal is a change too. Changes that follow each other within `SETTLE_S` are one. The caller handles what its
    `on_change` raises; an exception from it ends the watch.

    Args:
        path: the file; it need not exist.
        on_change: awaited before the watch goes on, so it never runs twice at once.
        stop: ends the watch within `LOOK_INTERVAL_S`.
    """
    known = fingerprint(path)
    async with aclosing(_ticks(path, stop)) as ticks:
        async for _ in ticks:
            if fingerprint(path) != known:
                known = await _settled(path, stop)
                if not stop.is_set():
                    await on_change()


async def _settled(path: str, stop: asyncio.Event) -> Fingerprint | None:
    """Wait until a file stays as it is, and return what it is then."""
    seen = fingerprint(path)
    for _ in range(SETTLE_LOOKS_MAX):
        if await _stopped_within(stop, SETTLE_S):
            break
        before, seen = seen, fingerprint(path)
        if seen == before:
            break
    return seen


async def _ticks(path: str, stop: asyncio.Event) -> AsyncGenerator[None, None]:
    """Yield whenever it is time to look, by events where there are any, else each `LOOK_INTERVAL_S`."""
    while not stop.is_set():
        folders = _folders(path)
        try:
            async with aclosing(_events(folders, stop)) as events:
                async for _ in events:
                    yield
                    if _folders(path) != folders:
                        break  # a link on the way leads elsewhere now
        except (OSError, RuntimeError):
            # No events: the folder is gone, the system's watches are used up, or it has none.
            if not await _stopped_within(stop, LOOK_INTERVAL_S):
                yield


async def _events(folders: frozenset[str], stop: asyncio.Event) -> AsyncGenerator[None, None]:
    from watchfiles import awatch  # 20 ms that a start should not wait for

    # It logs every change; a log file in a watched folder would then feed itself.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    watch = awatch(
        *folders,
        watch_filter=None,
        debounce=int(SETTLE_S * 1000),
        step=20,
        stop_event=_Stop(stop),
        rust_timeout=int(LOOK_INTERVAL_S * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async with aclosing(watch) as changes:
        async for _ in changes:
            yield


class _Stop:
    """Our stop as watchfiles sees it. When cancelled it sets the event, and that must not stop the server."""

    __slots__ = ("_is_set", "_stop")

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set or self._stop.is_set()

    def set(self) -> None:
        self._is_set = True


async def _stopped_within(stop: asyncio.Event, timeout_s: float) -> bool:
    """Wait for the end of the watch, at most so long; say whether it came."""
    try:
        async with asyncio.timeout(timeout_s):
            return await stop.wait()
    except TimeoutError:
        return False


def _folders(path: str) -> frozenset[str]:
    """The folders in which a change may change what a path leads to: its own, and those of links on the way."""
    folders: set[str] = set()
    at = os.path.abspath(path)
    for _ in range(LINKS_MAX):
        folders.add(os.path.dirname(at))
        step = _first_link(at)
        if step is None:
            break
        link, rest = step
        folders.add(os.path.dirname(link))
        at = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link), rest))
    return frozenset(folder for folder in folders if os.path.isdir(folder))


def _first_link(path: str) -> tuple[str, str] | None:
    """The first symbolic link on a path, and what follows it; None when there is none."""
    parts = path.split(os.sep)
    for count in range(2, len(parts) + 1):
        head = os.sep.join(parts[:count])
        if os.path.islink(head):
            return head, os.sep.join(parts[count:])
    return None
