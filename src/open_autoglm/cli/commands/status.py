"""`autoglm status`: a running server on one page; exit code 1 when it cannot serve."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.failure import DONE, FAILED
from open_autoglm.cli.outline import outline
from open_autoglm.cli.terminal import Terminal


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Print the page."""
    admin = find_admin(arguments, terminal)
    status = admin.get("/status")
    answer = admin.raw("/readyz")
    told = answer.json()
    reason = str(told.get("reason", "")) if isinstance(told, dict) else ""
    if arguments.json:
        terminal.json(status)
    else:
        for line in outline(status):
            terminal.line(line)
    if answer.status != 200:
        terminal.error(f"the server cannot serve: {reason or f'/readyz answers {answer.status}'}")
        return FAILED
    return DONE
