"""The tools that virtual models, task graphs and clients of `/context` may call: opened when one is wanted, closed at
the end.

Invariant: a server that nobody asks for a tool opens none and connects to nobody; of a configuration that was refused
nothing is ever opened.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from open_autoglm.config.schema import ServerConfig
from open_autoglm.errors import ServerError
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.toolbox import Toolbox

_SETTLE_S: Final = 10.0
"""Given to servers of the context protocol before the first plan is written."""


class ToolRoom:
    """See the module. The tools are those of the configuration that was active when they were opened."""

    def __init__(self) -> None:
        self._config: ServerConfig | None = None
        self._toolbox: Toolbox | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    def use(self, config: ServerConfig) -> None:
        """Take the configuration that is active from now on, for when the tools are opened."""
        self._config = config

    async def desk(self) -> ToolDesk:
        """The desk where they are called.

        Raises:
            AutoGLMError: a tool cannot be had, or the server is stopping.
        """
        async with self._opening:
            if self._closed or self._config is None:
                raise ServerError("server_draining", "this server is stopping")
            if self._toolbox is None:
                self._toolbox = Toolbox(self._config.tools, Path(self._config.server.data_dir))
                self._toolbox.start()
        # Whoever comes while the servers are not up yet waits as well; who is cancelled meanwhile takes nothing along.
        await self._toolbox.settle(_SETTLE_S)
        return self._toolbox.desk

    async def close(self) -> None:
        """End all connections and children."""
        async with self._opening:
            self._closed = True
            if self._toolbox is not None:
                await self._toolbox.close()
