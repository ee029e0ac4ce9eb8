"""`autoglm audit`: the records of virtual models on this machine: checked as a chain, listed, shown."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_autoglm.cli.arguments import count
from open_autoglm.cli.audit_source import AuditSource, add_source_options, find_audit, read_run
from open_autoglm.cli.failure import DONE, FAILED, CommandFailed
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.telemetry.audit_reader import Verdict
    from open_autoglm.telemetry.run_view import RunView


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str) -> ArgumentParser:
        return actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)

    verify = add("verify", "whether every record is there and as it was written; exit code 1 when not")
    verify.add_argument(
        "--expect", metavar="NUMBER:HASH", type=head, help="a record that was noted elsewhere and must be there"
    )
    verify.add_argument(
        "--known",
        metavar="NUMBER:HASH",
        type=head,
        action="append",
        default=[],
        help="a record that tells of records that are gone, when that was looked into: it counts as whole; repeatable",
    )
    add_source_options(verify, key=True)
    show = add("show", "the newest runs, or one of them with its votes and its timeline")
    show.add_argument("run", metavar="RUN_ID", nargs="?", help="as in the header x-request-id of the answer")
    show.add_argument(
        "--limit", metavar="COUNT", type=count, default=50, help="how many runs, the newest first, default %(default)s"
    )
    add_drawing_options(show)
    add_source_options(show)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    source = find_audit(arguments, terminal)
    if arguments.action == "verify":
        return _verify(source, arguments, terminal)
    return _list(source, arguments, terminal) if arguments.run is None else _show(source, arguments, terminal)


def add_drawing_options(parser: ArgumentParser) -> None:
    """Add how a run is drawn."""
    parser.add_argument("--ascii", action="store_true", help="draw with letters of ASCII only")
    parser.add_argument("--svg", metavar="FILE", help="write the drawing to a file, as SVG, instead")


def print_run(view: RunView, arguments: Namespace, terminal: Terminal) -> None:
    """Draw a run, in the terminal or into a file.

    Raises:
        CommandFailed: the file cannot be written.
    """
    if arguments.svg is None:
        from open_autoglm.telemetry.run_picture import draw_run

        terminal.line(draw_run(view, terminal.width, ascii_only=arguments.ascii))
        return
    from open_autoglm.telemetry.run_svg import draw_svg

    try:
        Path(arguments.svg).write_text(draw_svg(view), encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{arguments.svg!r} cannot be written: {error.strerror}") from error
    terminal.note(f"drawn into {arguments.svg}")


def head(text: str) -> tuple[int, str]:
    """Read the number and the hash of a record.

    Raises:
        ArgumentTypeError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,15}):([0-9a-f]{64})", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no record; write its number, a colon, and the 64 hex digits of its hash")
    return int(match[1]), match[2]


def _verify(source: AuditSource, arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.telemetry.audit_reader import verify

    verdict = verify(source.path, source.key, arguments.expect, arguments.known)
    if arguments.json:
        terminal.json({"ok": verdict.ok, **asdict(verdict)})
        return DONE if verdict.ok else FAILED
    for note in verdict.notes:
        terminal.warn(note)
    if verdict.ok:
        keyed = "with the key" if source.key else "without a key: whoever can write the file can make records anew"
        terminal.line(f"whole: records {verdict.first} to {verdict.last}, {keyed}")
        terminal.line(f"head {verdict.last}:{verdict.head}")
        return DONE
    for gap in verdict.gaps:
        terminal.line(f"not whole: {gap.file} line {gap.line}, record {gap.sequence}, {gap.time[:19]}: {gap.reason}")
        terminal.note(f"once it is known why, `--known {gap.sequence}:{gap.hash}` lets it pass")
    if verdict.reason:
        terminal.line(_broken(verdict, source))
    else:
        terminal.line(f"what is there is as it was written: records {verdict.first} to {verdict.last}")
        terminal.line(f"head {verdict.last}:{verdict.head}")
    return FAILED


def _broken(verdict: Verdict, source: AuditSource) -> str:
    place = f"{verdict.file} line {verdict.line}" if verdict.line else verdict.file
    number = f", record {verdict.sequence}" if verdict.sequence else ""
    whole = f"; whole up to record {verdict.last}" if verdict.last else ""
    hint = ""
    if not verdict.last and not source.key:
        hint = "; if it is written with a key, name it with --key-file or --config"
    return f"broken: {place}{number}: {verdict.reason}{whole}{hint}"


def _list(source: AuditSource, arguments: Namespace, terminal: Terminal) -> int:
    import msgspec

    from open_autoglm.telemetry.audit_reader import newest_runs

    ended = newest_runs(source.path, arguments.limit)
    try:
        rows = [(told, msgspec.json.decode(told.data, type=dict[str, Any])) for told in ended]
    except msgspec.MsgspecError as error:
        raise CommandFailed("a record was changed; `autoglm audit verify` says which") from error
    if arguments.json:
        terminal.json({"runs": [{"run": told.run, "time": told.time, **data} for told, data in rows]})
    elif rows:
        cells = []
        for told, data in rows:
            decision = data.get("decision") or {}
            state = data.get("failure") or decision.get("reason")
            sure = f"{decision['posterior']:.1%}" if "posterior" in decision else None
            cells.append([told.run, told.time[:19], state, sure, f"{data.get('cost', 0):g}", data.get("ms")])
        print_table(terminal, ("run", "ended", "end", "sure", "cost", "ms"), cells, whole=("run",))
        terminal.note("`autoglm audit show RUN` shows one; `autoglm replay RUN` decides it again")
    else:
        terminal.note("no run has ended yet")
    return DONE


def _show(source: AuditSource, arguments: Namespace, terminal: Terminal) -> int:
    import msgspec

    from open_autoglm.telemetry.run_view import view_of

    record = read_run(source, arguments.run)
    if arguments.json:
        terminal.json(msgspec.to_builtins(record))
    else:
        print_run(view_of(record), arguments, terminal)
    return DONE
