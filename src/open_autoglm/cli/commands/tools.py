"""`autoglm tools`: the tools of a configuration, listed and called from the terminal as tasks would call them.

Nothing of a running server is touched: the tools are made here, from the same configuration, behind the same desk.
"""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from open_autoglm import clock
from open_autoglm.cli.arguments import wait_s
from open_autoglm.cli.failure import DONE, FAILED, WRONG_USAGE, CommandFailed
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal
from open_autoglm.config import ServerConfig, load_config
from open_autoglm.tools.pins import FILE_NAME, Pins
from open_autoglm.tools.tool import ConfirmationNeededError, ToolCall, ToolError
from open_autoglm.tools.toolbox import Toolbox

_DESCRIPTION_CHARS: Final = 60


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    steps = parser.add_subparsers(dest="step", metavar="list|call|accept", required=True)
    listing, calling, accepting = (
        steps.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False)
        for name, words in (
            ("list", "all tools, and servers of the context protocol that are not there"),
            ("call", "call one tool, behind the same desk as tasks do"),
            ("accept", "take a tool that has changed as it is now"),
        )
    )
    calling.add_argument("tool", metavar="TOOL", help="its name")
    calling.add_argument(
        "arguments", metavar="JSON", nargs="?", default="{}", help="its arguments, default %(default)s"
    )
    calling.add_argument("--yes", action="store_true", help="call it even if it is dangerous")
    accepting.add_argument("tool", metavar="TOOL", help="its name, as SERVER.TOOL")
    for each in (listing, calling, accepting):
        each.add_argument("--config", metavar="FILE", help="the configuration; default: what the environment says")
    for each in (listing, calling):
        each.add_argument(
            "--timeout", metavar="SECONDS", type=wait_s, default=60.0, help="longest wait, default %(default)g"
        )
        each.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """List, call or accept."""
    config = load_config(arguments.config, terminal.environ, insecure=True).config
    if arguments.step == "accept":
        return _accept(config, arguments.tool, terminal)
    return asyncio.run(_with_tools(config, arguments, terminal))


async def _with_tools(config: ServerConfig, arguments: Namespace, terminal: Terminal) -> int:
    deadline_s = clock.monotonic() + arguments.timeout
    toolbox = Toolbox(config.tools, Path(config.server.data_dir))
    toolbox.start()
    try:
        await toolbox.settle(arguments.timeout)
        if arguments.step == "list":
            return _list(toolbox, arguments.json, terminal)
        return await _call(toolbox, arguments, deadline_s, terminal)
    finally:
        await toolbox.close()


def _list(toolbox: Toolbox, as_json: bool, terminal: Terminal) -> int:
    rows, servers = toolbox.rows(), toolbox.server_rows()
    if as_json:
        terminal.json({"tools": rows, "servers": servers})
        return DONE
    shown = [
        [row["name"], row["class"], row["state"], f"{row['timeout_s']:g}", _first_line(row["description"])]
        for row in rows
    ]
    print_table(terminal, ["tool", "class", "state", "timeout s", "description"], shown, whole=("tool",))
    for server in servers:
        if server["problem"]:
            terminal.note(f"context server {server['name']}: {server['state']}: {server['problem']}")
        for name in server["changed"]:
            terminal.note(
                f"{name} has changed since it was first seen; --json shows how, `autoglm tools accept` takes it"
            )
        for name, why in server["left_out"].items():
            terminal.note(f"context server {server['name']}: {name!r} is left out: {why}")
    return DONE


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _DESCRIPTION_CHARS else f"{line[: _DESCRIPTION_CHARS - 1]}…"


async def _call(toolbox: Toolbox, arguments: Namespace, deadline_s: float, terminal: Terminal) -> int:
    call = ToolCall(arguments.tool, _object(arguments.arguments), deadline_s)
    try:
        try:
            result = await toolbox.desk.call(call)
        except ConfirmationNeededError as error:
            if not arguments.yes:
                raise
            agreed = ToolCall(call.tool, call.arguments, deadline_s, confirmation=error.confirmation)
            result = await toolbox.desk.call(agreed)
    except ToolError as error:
        hint = "; with --yes you agree" if error.code == "confirmation_needed" else ""
        if error.code == "unknown_tool":
            hint = "; `autoglm tools list` shows them, and which servers are not there"
        terminal.error(f"{error.code}: {error.message}{hint}")
        return FAILED
    if arguments.json or not isinstance(result, str):
        terminal.json(result)
    else:
        terminal.line(terminal.shown(result))
    return DONE


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"the arguments are no JSON: {error}", WRONG_USAGE) from error
    if not isinstance(value, dict):
        raise CommandFailed('the arguments are no JSON object; write {"name": value}', WRONG_USAGE)
    return value


def _accept(config: ServerConfig, tool: str, terminal: Terminal) -> int:
    pins = Pins(Path(config.server.data_dir) / FILE_NAME)
    if not pins.forget(tool):
        raise CommandFailed(f"{tool!r} was never seen; a tool of a server is called SERVER.TOOL")
    terminal.note(f"{tool} is taken as it is when it is next seen; a running server sees it after a restart")
    return DONE
