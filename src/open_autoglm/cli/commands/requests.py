"""`autoglm requests`: the newest requests of a running server."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.failure import DONE
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

HEAD = (
    "request",
    "received",
    "model",
    "served by",
    "key",
    "status",
    "code",
    "attempts",
    "first ms",
    "total ms",
    "tokens",
)


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--limit", metavar="COUNT", type=int, default=50, help="how many, the newest first, default %(default)s"
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
        print_table(terminal, HEAD, [_row(request) for request in value["requests"]])
        terminal.note("`autoglm trace REQUEST` shows where one spent its time")
    else:
        terminal.note("no such request is remembered")
    return DONE


def _row(request: dict[str, object]) -> list[object]:
    usage = request.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    served_by = request.get("served_by")
    return [
        request.get("request_id"),
        str(request.get("received_at", ""))[11:23],
        request.get("model"),
        served_by if served_by != request.get("model") else None,
        request.get("key"),
        request.get("status"),
        request.get("code"),
        request.get("attempt_count"),
        request.get("first_byte_ms"),
        request.get("total_ms"),
        tokens,
    ]
