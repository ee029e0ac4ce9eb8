"""`autoglm feedback`: say of a virtual model's answer whether it was right; once, and it learns from it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin, segment
from open_autoglm.cli.failure import DONE
from open_autoglm.cli.terminal import Terminal


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("run", metavar="RUN_ID", help="as in the header x-request-id of the answer")
    said = parser.add_mutually_exclusive_group(required=True)
    said.add_argument("--right", action="store_true", help="the answer was right")
    said.add_argument("--wrong", action="store_true", help="the answer was wrong; the right one is not known")
    said.add_argument("--answer", metavar="TEXT", help="the right answer, as a member may write it")
    parser.add_argument("--by", choices=("human", "verifier"), default="human", help="who says so, default %(default)s")
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Tell the server."""
    right = None if arguments.answer is not None else "true" if arguments.right else "false"
    path = f"/requests/{segment(arguments.run)}/feedback"
    told = find_admin(arguments, terminal).post(path, right=right, answer=arguments.answer, by=arguments.by)
    if arguments.json:
        terminal.json(told)
        return DONE
    words = "right" if told.get("right") else "wrong"
    learned = "its virtual model learned from it" if told.get("learned") else "its virtual model is not served any more"
    terminal.line(terminal.shown(f"{told.get('run')}: {words}, by {told.get('by')}; {learned}"))
    return DONE
