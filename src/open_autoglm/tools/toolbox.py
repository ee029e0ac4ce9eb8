"""All tools of a configuration, behind one desk.

Invariant: what cannot be made at once, a function that is not there, ends the start; what may come and go, a server of
the context protocol, never does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from open_autoglm.errors import ConfigError, ConfigProblem
from open_autoglm.tools.argument_check import unchecked
from open_autoglm.tools.context_client import Connect, ContextServer
from open_autoglm.tools.desk import DeskLimits, ToolDesk
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.pins import FILE_NAME, Pins
from open_autoglm.tools.python_tool import FunctionPool, PythonTool, calculator_tool, load_function
from open_autoglm.tools.settings import ToolSettings

_CLOSE_S: Final = 10.0
"""The context protocol's library gives a child some 6 s to go before it kills it."""


class Toolbox:
    """See the module.

    Args:
        settings: what there is.
        data_dir: where pins are kept; None keeps them in memory.
        connect: opens connections to servers of the context protocol; the extra `context` when left out.
        texts: whether events of calls hold arguments and results.

    Attributes:
        desk: where the tools are called.
        servers: of the context protocol.

    Raises:
        ConfigError: a function cannot be had.
        ServerError: the pins cannot be read.
    """

    def __init__(
        self,
        settings: ToolSettings,
        data_dir: Path | None,
        *,
        connect: Connect | None = None,
        texts: bool = False,
    ) -> None:
        self._pool = FunctionPool(settings.threads)
        limits = DeskLimits(settings.argument_bytes, settings.result_bytes)
        self.desk = ToolDesk((), limits, texts=texts)
        if settings.calculator:
            self.desk.add(calculator_tool(self._pool))
        self._add_functions(settings)
        for http in settings.http:
            self.desk.add(HttpTool(http), http.concurrency)
        self.pins = Pins(data_dir / FILE_NAME if data_dir is not None and settings.context else None)
        if connect is None:
            from open_autoglm.tools import context_sdk  # most servers have no use for it

            connect = context_sdk.connect
        self.servers = [ContextServer(entry, self.desk, self.pins, connect) for entry in settings.context]
        self._keepers: list[asyncio.Task[None]] = []

    def _add_functions(self, settings: ToolSettings) -> None:
        problems: list[ConfigProblem] = []
        for index, entry in enumerate(settings.python):
            try:
                self.desk.add(PythonTool(entry, load_function(entry.function), self._pool), entry.concurrency)
            except ValueError as error:
                problems.append(ConfigProblem(f"tools.python[{index}].function", 0, str(error)))
        if problems:
            raise ConfigError("tools", problems)

    def start(self) -> None:
        """Begin to connect to the servers of the context protocol, in the running loop."""
        self._keepers = [asyncio.ensure_future(server.keep()) for server in self.servers]

    async def settle(self, timeout_s: float) -> None:
        """Wait until each server of the context protocol is up or has failed once."""
        await asyncio.gather(*(server.settle(timeout_s) for server in self.servers))

    async def close(self) -> None:
        """End all connections and children."""
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=_CLOSE_S)
        self._pool.close()

    def rows(self) -> list[dict[str, Any]]:
        """One row for each tool: `name`, `class`, `timeout_s`, `cost`, `description`, `schema`, what is `unchecked`."""
        changed = {name for server in self.servers for name in server.changed}
        return [
            {
                "name": tool.name,
                "class": tool.kind,
                "state": "changed" if tool.name in changed else "ready",
                "timeout_s": tool.timeout_s,
                "cost": tool.cost,
                "description": tool.description,
                "schema": tool.schema,
                "unchecked": unchecked(tool.schema),
            }
            for tool in self.desk.tools()
        ]

    def server_rows(self) -> list[dict[str, Any]]:
        """One row for each server of the context protocol: `name`, `state`, `problem`, `left_out`, `changed`."""
        return [
            {
                "name": server.entry.name,
                "state": server.state,
                "problem": server.problem,
                "left_out": server.left_out,
                "changed": server.changed,
            }
            for server in self.servers
        ]
