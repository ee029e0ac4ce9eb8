"""Which way a request goes: what each one with a ticket passes through, and therefore compiled; see `client.direct`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from open_autoglm.client.pool import Pool

RENEW_AT: Final = 0.8


class DirectPath:
    """One model's path; see the module.

    Attributes:
        left: requests that may still go this way; 0 unless it is open.
        renew_at: as many are left when the next ticket is asked for; `renew_from` is the same as a share.
        pool: connections to the node; None while there are none.
        used: whether somebody asked while it was not open, since this was last looked at.
    """

    __slots__ = ("changed", "expiry", "left", "model", "node", "pool", "renew_at", "renew_from", "task", "used")

    def __init__(self, model: str) -> None:
        self.model = model
        self.left = 0
        self.renew_at = 0
        self.renew_from = 1 - RENEW_AT
        self.pool: Pool | None = None
        self.node = ""
        self.used = True
        self.changed = asyncio.Event()
        self.expiry: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The path is not open any more."""
        self.left = 0
        if self.pool is not None:
            self.pool.leave()
            self.pool = None
            self.changed.set()

    def expire(self) -> None:
        """The ticket is over, or used up."""
        self.left = 0
        self.changed.set()


class PathTable:
    """The paths of one client.

    Args:
        server: where requests go that have no path.
        begin: makes a path for a model that has none.

    Attributes:
        paths: by model.
    """

    __slots__ = ("_begin", "_server", "paths")

    def __init__(self, server: Pool, begin: Callable[[str], None]) -> None:
        self._server = server
        self._begin = begin
        self.paths: dict[str, DirectPath] = {}

    def take(self, model: str, options: Mapping[str, Any]) -> Pool:
        """Where a request goes: to a node, and then it is counted, or to the server."""
        path = self.paths.get(model)
        if path is None:
            self._begin(model)
            return self._server
        pool = path.pool
        left = path.left
        if left > 0 and pool is not None and "session" not in options and "priority" not in options:
            path.left = left = left - 1
            if left == path.renew_at:
                path.changed.set()
            return pool
        path.used = True
        return self._server
