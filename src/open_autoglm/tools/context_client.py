"""Servers of the context protocol as sources of tools.

| a server is | until |
|---|---|
| connecting | its tools are listed, or that failed |
| up | the connection is lost, or somebody says that its list has changed |
| waiting | the backoff is over: 1 s, doubled after each failure in a row, 60 s at most |
| closed | for ever |

What a server says of itself is not believed: which tools may be used, and how dangerous they are, stands in the
configuration. Invariants: a tool's description and schema are pinned when they are first seen, on disk where there is a
place for it; one that has changed since then is not called, and this is reported, until a person accepts it; no call
waits longer than its deadline; leaving ends the connection, and with it the child.
Source: the protocol's specification, 2025-11-25; the danger is known as a rug pull.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from msgspec import Struct

from open_autoglm import clock
from open_autoglm.telemetry.redact import clean
from open_autoglm.tools.desk import ToolDesk, digest_of
from open_autoglm.tools.pins import Pins
from open_autoglm.tools.settings import ContextServerEntry
from open_autoglm.tools.tool import TOOL_NAME, Arguments, ToolError, ToolKind

_log = logging.getLogger(__name__)

BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
"""A connection that has lasted so long was a good one: the next failure is the first again."""
RELIST_S: Final = 1.0
"""Between two readings of a list: a server that says all the time that it has changed is not followed faster."""
TOOLS_MAX: Final = 256
"""Of one server; what is beyond is left out, and reported."""
DESCRIPTION_CHARS_MAX: Final = 4096
"""Of one tool, for models; the pin is of the whole."""
_CHANGED: Final = "Not to be called: it is not as it was when it was first seen."


class ListedTool(Struct, frozen=True):
    """A tool, as its server describes it."""

    name: str
    description: str
    schema: dict[str, Any]


class LostConnectionError(Exception):
    """The connection cannot be used any more; nothing is known of what was asked last."""


class ContextSession(Protocol):
    """A connection to a server."""

    async def list_tools(self) -> list[ListedTool]:
        """All its tools.

        Raises:
            LostConnectionError: it is gone.
            ToolError: the server refused.
        """

    async def call_tool(self, name: str, arguments: Arguments, idempotency_key: str) -> Any:
        """Call one; return its result as JSON.

        Raises:
            LostConnectionError: it is gone.
            ToolError: the tool, or the server, says that it failed.
        """


Connect = Callable[[ContextServerEntry, Callable[[], None]], AbstractAsyncContextManager[ContextSession]]
"""Opens a connection; the second argument is called when the server says that its list of tools has changed.
Entering raises `ToolError` or `OSError` when it cannot be had."""


class ContextTool:
    """One tool of a server; implements `tools.tool.Tool`."""

    def __init__(self, server: ContextServer, listed: ListedTool, kind: ToolKind) -> None:
        self._server = server
        self._remote_name = listed.name
        self.digest = digest_of([listed.name, listed.description, listed.schema])
        self.changed = False
        self.name = f"{server.entry.name}.{listed.name}"
        self.description = clean(listed.description, keep_lines=True)[:DESCRIPTION_CHARS_MAX]
        self.schema = listed.schema
        self.kind: ToolKind = kind
        self.timeout_s = server.entry.timeout_s
        self.cost = server.entry.cost

    def refuse(self) -> dict[str, Any]:
        """Be called no more, and show models nothing of what it says now; return that, for a person to look at."""
        now = {"description": self.description, "schema": self.schema}
        self.changed, self.description, self.schema = True, _CHANGED, {"type": "object"}
        return now

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        """Call it; see `Tool.call`."""
        if self.changed:
            raise ToolError(
                "tool_changed",
                f"{self.name!r} is not described as it was when it was first seen; look at it, then `autoglm tools "
                f"accept {self.name}`",
            )
        return await self._server.call(self, self._remote_name, arguments, deadline_s, idempotency_key)


class ContextServer:
    """See the module.

    Args:
        entry: what is written of it.
        desk: gets its tools.
        pins: of its tools.
        connect: opens a connection.

    Attributes:
        state: `connecting`, `up`, `waiting` or `closed`.
        problem: why it is not up; empty when it is.
        left_out: names of its tools that are not offered, and why.
        changed: names of its tools that are refused because they have changed; what they say now.
    """

    def __init__(self, entry: ContextServerEntry, desk: ToolDesk, pins: Pins, connect: Connect) -> None:
        self.entry = entry
        self.state = "connecting"
        self.problem = "not connected yet"
        self.left_out: dict[str, str] = {}
        self.changed: dict[str, dict[str, Any]] = {}
        self._desk = desk
        self._pins = pins
        self._connect = connect
        self._tools: dict[str, ContextTool] = {}
        self._session: ContextSession | None = None
        self._wake = asyncio.Event()
        self._stale = False
        self._settled = asyncio.Event()

    async def keep(self) -> None:
        """Keep the connection, until cancelled."""
        failures = 0
        try:
            while True:
                self.state = "connecting"
                began_s = clock.monotonic()
                try:
                    await self._use()
                except Exception as error:  # a foreign server, spoken to by foreign code: whatever it is, try again
                    self.problem = clean(str(error)) or type(error).__name__
                lasted_s = clock.monotonic() - began_s
                failures = 1 if lasted_s >= BACKOFF_MAX_S else failures + 1
                self.state = "waiting"
                self._settled.set()
                wait_s = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(failures - 1, 10))
                _log.warning("context server %s: %s; again in %g s", self.entry.name, self.problem, wait_s)
                await asyncio.sleep(wait_s)
        finally:
            self.state, self.problem = "closed", "the server is stopping"
            self._settled.set()

    async def settle(self, timeout_s: float) -> None:
        """Wait until it is up, or has failed once."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            pass  # `state` says so

    async def _use(self) -> None:
        """Connect, and stay until the connection is lost."""
        allowed_s = self.entry.timeout_s
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(allowed_s):
                    session = await stack.enter_async_context(self._connect(self.entry, self._list_changed))
                while True:
                    self._wake.clear()
                    self._stale = False
                    async with asyncio.timeout(allowed_s):
                        self._take(await session.list_tools())
                    self._session, self.state, self.problem = session, "up", ""
                    self._settled.set()
                    await self._wake.wait()
                    if not self._stale:
                        return
                    await asyncio.sleep(RELIST_S)
        except TimeoutError as error:
            raise ToolError("tool_unavailable", f"no connection and list of tools within {allowed_s:g} s") from error
        finally:
            self._session = None

    async def call(
        self, tool: ContextTool, name: str, arguments: Arguments, deadline_s: float, idempotency_key: str
    ) -> Any:
        """Call a tool of it; see `Tool.call`."""
        session = self._session
        if session is None:
            raise ToolError("tool_unavailable", f"{self.entry.name!r} is {self.state}: {self.problem}", retryable=True)
        try:
            return await session.call_tool(name, arguments, idempotency_key)
        except LostConnectionError as error:
            problem = clean(f"the connection was lost: {error}")
            if self._session is session:
                self._leave(problem)
            raise ToolError(
                "tool_unavailable", f"{self.entry.name!r}: {problem}", retryable=tool.kind == "read"
            ) from error

    def _list_changed(self) -> None:
        """The server says so: nothing of it is called before its list was read again."""
        self._stale = True
        self._leave("its list of tools has changed")

    def _leave(self, problem: str) -> None:
        """Nothing is called until the keeper has looked again."""
        self._session = None
        self.state, self.problem = "connecting", problem
        self._wake.set()

    def _take(self, listed: list[ListedTool]) -> None:
        """Offer what may be used, refuse what has changed, take away what is gone."""
        allowed = self.entry.tools
        self.left_out = {}
        now: dict[str, ContextTool] = {}
        for each in listed:
            name = clean(each.name)[:128]
            if allowed is not None and each.name not in allowed:
                self.left_out[name] = "not in `tools`"
            elif TOOL_NAME.fullmatch(f"{self.entry.name}.{each.name}") is None or each.name in now:
                self.left_out[name] = "no name of a tool, or one that came twice"
            elif len(now) == TOOLS_MAX:
                self.left_out[name] = f"beyond {TOOLS_MAX} tools"
            else:
                now[each.name] = ContextTool(self, each, self.entry.classes.get(each.name, "write"))
        for name in set(allowed or ()) - now.keys():
            self.left_out[name] = "the server has no such tool"
        for tool in self._tools.values():
            self._desk.remove(tool.name)
        self._tools, self.changed = {}, {}  # what is at the desk, even when a pin cannot be kept
        for name, tool in now.items():
            if not self._pins.holds(tool.name, tool.digest):
                self.changed[tool.name] = tool.refuse()
                _log.error("context server %s: %s has changed and is refused", self.entry.name, tool.name)
            self._desk.add(tool, self.entry.concurrency)
            self._tools[name] = tool
