"""`autoglm trace`: where one request's milliseconds went, what was tried, and why."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from open_autoglm.cli.admin import Admin, NotThere, add_admin_options, find_admin, segment
from open_autoglm.cli.commands.audit import add_drawing_options, print_run
from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.terminal import Terminal


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "request_id", metavar="REQUEST_ID", help="as in the header x-request-id, in logs and in `autoglm requests`"
    )
    add_drawing_options(parser)
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Draw the request."""
    from open_autoglm.telemetry.trace_picture import draw

    value = _explanation(find_admin(arguments, terminal), f"/requests/{segment(arguments.request_id)}")
    if arguments.json:
        terminal.json(value)
        return DONE
    run = value.get("cooperation")
    if run is None and arguments.svg is not None:
        raise CommandFailed("only what a virtual model did is drawn as SVG, and this request asked for none")
    known = "stages" in value
    if arguments.svg is None and known:
        terminal.line(draw(value, terminal.width, ascii_only=arguments.ascii))
    elif not known:
        terminal.note("the request is in the server's memory no more; this is what the audit has of it")
    if run is not None:
        import msgspec

        from open_autoglm.telemetry.run_view import RunView

        if arguments.svg is None and known:
            terminal.line()
        print_run(msgspec.convert(run, RunView), arguments, terminal)
    return DONE


def _explanation(admin: Admin, path: str) -> dict[str, Any]:
    """What the server has of a request; of one that is in its memory no more, what a virtual model's audit has."""
    try:
        value: dict[str, Any] = admin.get(f"{path}/explain")
    except NotThere as unknown:
        try:
            return {"cooperation": admin.get(f"{path}/run")}
        except NotThere:
            raise unknown from None
    return value
