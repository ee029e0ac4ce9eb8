"""A client for the context protocol's conformance suite: connects to the address it is given, and calls every tool."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from open_autoglm import clock
from open_autoglm.tools.settings import ContextServerEntry, ToolSettings
from open_autoglm.tools.tool import ToolCall
from open_autoglm.tools.toolbox import Toolbox

VALUES: dict[str, Any] = {"number": 2, "integer": 2, "boolean": True, "string": "x", "array": [], "object": {}}


async def main(url: str) -> None:
    suite = ContextServerEntry("suite", url=url, allow_private=True)
    toolbox = Toolbox(ToolSettings(calculator=False, context=[suite]), None)
    toolbox.start()
    try:
        await toolbox.settle(20)
        [server] = toolbox.server_rows()
        if server["problem"]:
            raise SystemExit(server["problem"])
        for tool in toolbox.desk.tools():
            known = tool.schema.get("properties", {})
            arguments = {name: VALUES[schema.get("type", "string")] for name, schema in known.items()}
            print(tool.name, await toolbox.desk.call(ToolCall(tool.name, arguments, clock.monotonic() + 20)))
    finally:
        await toolbox.close()


asyncio.run(main(sys.argv[-1]))
