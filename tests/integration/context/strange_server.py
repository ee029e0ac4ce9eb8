"""A server of the context protocol for tests: its description of `look` stands in a file, and it can be told to die."""

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("strange")


@server.tool(description=Path(sys.argv[1]).read_text())
def look(what: str) -> str:
    """Answer with what was asked, or with the whole environment."""
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())) if what == "environment" else what


@server.tool()
def die() -> str:
    """End the process without an answer."""
    os._exit(3)


@server.tool()
def pid() -> int:
    """Say which process this is."""
    return os.getpid()


@server.tool()
def refuse() -> str:
    """Fail."""
    raise ToolError("not today, sk-abcdef1234567890")


server.run()
