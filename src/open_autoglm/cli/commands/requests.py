"""`autoglm requests`: the newest requests of a running server."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.arguments import count
from open_autoglm.cli.failure import DONE
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

WIDEST = 1000
"""Columns of a pipe: everything is shown."""

Cell = Callable[[dict[str, Any]], object]

COLUMNS: tuple[tuple[str, int, Cell], ...] = (
    ("request", 0, lambda request: request.get("request_id")),
    ("received", 0, lambda request: str(request.get("received_at", ""))[11:19]),
    ("model", 0, lambda request: request.get("model")),
    ("served by", 140, lambda request: request.get("served_by")),
    ("key", 140, lambda request: request.get("key")),
    ("status", 0, lambda request: request.get("status")),
    ("code", 0, lambda request: request.get("code")),
    ("attempts", 100, lambda request: request.get("attempt_count")),
    ("first ms", 100, lambda request: request.get("first_byte_ms")),
    ("total ms", 0, lambda request: request.get("total_ms")),
    ("tokens", 120, lambda request: (request.get("usage") or {}).get("completion_tokens")),
)
"""Title, columns that a terminal must have for it to be shown, and value."""


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--limit", metavar="COUNT", type=count, default=50, help="how many, the newest first, default %(default)s"
    )
    parser.add_argument("--model", metavar="NAME", help="asked for, or answered")
    parser.add_argument("--status", metavar="STATUS", type=int, help="HTTP status")
    parser.add_argument("--code", metavar="CODE", help="error code")
    parser.add_argument("--key", metavar="NAME", help="name of the API key")
    parser.add_argument("--endpoint", metavar="ENDPOINT", help="an endpoint that was tried")
    parser.add_argument("--failed", action="store_true", help="only those that failed")
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Print the table."""
    value = find_admin(arguments, terminal).get(
        "/requests",
        limit=arguments.limit,
        model=arguments.model,
        status=arguments.status,
        code=arguments.code,
        key=arguments.key,
        endpoint=arguments.endpoint,
        failed="true" if arguments.failed else None,
    )
    if arguments.json:
        terminal.json(value)
    elif value["requests"]:
        width = terminal.width if terminal.out.isatty() else WIDEST
        shown = [(title, cell) for title, least, cell in COLUMNS if width >= least]
        rows = [[cell(request) for _, cell in shown] for request in value["requests"]]
        print_table(terminal, [title for title, _ in shown], rows, whole=("request",))
        terminal.note("`autoglm trace REQUEST` shows where one spent its time")
    else:
        terminal.note("no such request is remembered")
    return DONE
