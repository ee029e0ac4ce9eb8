"""`autoglm models`: every endpoint of a running server, with its state."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.failure import DONE
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

COLUMNS = (
    ("model", "name"),
    ("dialect", "dialect"),
    ("endpoint", "endpoint"),
    ("state", "state"),
    ("in flight", "in_flight"),
    ("limit", "limit"),
    ("first token ms", "first_token_ms"),
    ("weight", "weight"),
)


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Print the table."""
    value = find_admin(arguments, terminal).get("/models")
    if arguments.json:
        terminal.json(value)
    elif value["models"]:
        rows = [[row.get(field) for _, field in COLUMNS] for row in value["models"]]
        print_table(terminal, [title for title, _ in COLUMNS], rows)
    else:
        terminal.note("no model is configured")
    return DONE
