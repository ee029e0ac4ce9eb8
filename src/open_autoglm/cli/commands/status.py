"""`autoglm status`: a running server on one page, with the members of its cluster; exit code 1 when it cannot serve."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.commands.nodes import shown_state
from open_autoglm.cli.failure import DONE, FAILED
from open_autoglm.cli.outline import outline
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

COLUMNS = (
    "member",
    "role",
    "class",
    "state",
    "models",
    "cpu %",
    "free memory %",
    "queue",
    "running",
    "heard s",
    "delay ms",
    "note",
)
_VERSION_CHARACTERS = 12


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Print the page, and a line for each member where there is a cluster."""
    admin = find_admin(arguments, terminal)
    status = admin.get("/status")
    nodes = admin.get("/nodes")["nodes"]
    answer = admin.raw("/readyz")
    told = answer.json()
    reason = str(told.get("reason", "")) if isinstance(told, dict) else ""
    if arguments.json:
        terminal.json({**status, "nodes": nodes})
    else:
        for line in outline(status):
            terminal.line(line)
        if nodes:
            terminal.line("")
            print_table(terminal, COLUMNS, [_row(node) for node in nodes], whole=("member",))
    if answer.status != 200:
        terminal.error(f"the server cannot serve: {reason or f'/readyz answers {answer.status}'}")
        return FAILED
    return DONE


def _row(node: dict[str, Any]) -> list[object]:
    load = node["load"] or {}
    models = (f"{model['name']} {model['version'][:_VERSION_CHARACTERS]}".strip() for model in node["models"])
    return [
        node["id"],
        node["role"],
        node["class"],
        shown_state(node),
        ", ".join(models),
        _percent(load.get("cpu")),
        _percent(load.get("memory_free")),
        load.get("queue"),
        _of(load.get("running"), load.get("slots")),
        node["last_heard_s"],
        node["delay_ms"],
        node.get("note") or None,
    ]


def _percent(share: float | None) -> int | None:
    return None if share is None else round(share * 100)


def _of(running: int | None, slots: int | None) -> str | None:
    """How many run, of how many that can."""
    return None if running is None else f"{running}/{slots}" if slots else str(running)
