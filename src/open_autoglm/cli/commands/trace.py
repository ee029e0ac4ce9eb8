"""`autoglm trace`: where one request's milliseconds went, what was tried, and why."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin, segment
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

    value = find_admin(arguments, terminal).get(f"/requests/{segment(arguments.request_id)}/explain")
    if arguments.json:
        terminal.json(value)
        return DONE
    run = value.get("cooperation")
    if run is None and arguments.svg is not None:
        raise CommandFailed("only what a virtual model did is drawn as SVG, and this request asked for none")
    if arguments.svg is None:
        terminal.line(draw(value, terminal.width, ascii_only=arguments.ascii))
    if run is not None:
        import msgspec

        from open_autoglm.telemetry.run_view import RunView

        if arguments.svg is None:
            terminal.line()
        print_run(msgspec.convert(run, RunView), arguments, terminal)
    return DONE
