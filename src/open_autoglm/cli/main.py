"""Finds the command that was typed, runs it, and turns whatever happens into an exit code and one line.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed; standard error says what to do |
| 2 | wrong usage |
| 78 | wrong configuration; every problem of it is listed |
| 130 | ended by Ctrl-C |

`--debug` adds the traceback to a failure. Options without a command mean `serve`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import NoReturn, TextIO

from open_autoglm import __version__
from open_autoglm.cli.command import COMMANDS, PLANNED, find
from open_autoglm.cli.failure import DONE, FAILED, INTERRUPTED, WRONG_CONFIGURATION, WRONG_USAGE, CommandFailed
from open_autoglm.cli.terminal import Terminal, standard_terminal
from open_autoglm.errors import AutoGLMError, ConfigError

_NOT_SERVE = ("-h", "--help", "--version")
_EPILOG = """\
autoglm COMMAND --help says more. The first step: autoglm demo
Not to be mixed up with the phone agent of the same name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script `autoglm`.

    Args:
        argv: what was typed after the program's name; `sys.argv` when left out.

    Returns:
        The exit code; see the module.
    """
    return run(list(sys.argv[1:] if argv is None else argv), standard_terminal())


def main_of_module() -> NoReturn:
    """Run one command and end the process; `python -m mcp_server`."""
    sys.exit(main())


def run(words: list[str], terminal: Terminal) -> int:
    """Run one command on a given terminal; return the exit code."""
    debug = "--debug" in words
    try:
        code = _dispatch([word for word in words if word != "--debug"], terminal)
        terminal.out.flush()
        return code
    except SystemExit as stop:  # argparse, after a help text or a usage error of its own
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        terminal.note("")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; what is still buffered must not fail at exit
        _drop_output(terminal.out)
        return FAILED
    except Exception as error:  # the outermost loop: whatever it is, the user gets one line
        if debug:
            _print_traceback()
        return _explain(error, terminal, debug)


def build_parser(chosen: str | None = None) -> ArgumentParser:
    """Build the parser.

    Args:
        chosen: the command whose options are needed; only its module is imported. None for none.
    """
    parser = ArgumentParser(
        prog="autoglm",
        description="One server, many models: run it, ask it, look after it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version(chosen))
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure; may stand anywhere")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            allow_abbrev=False,
        )
        if command.name == chosen:
            command.load().configure(sub)
    return parser


def _version(chosen: str | None) -> str:
    """The program's version and whether it is compiled; asked for by a command that was typed it is never shown."""
    if chosen is not None and not chosen.startswith("-"):
        return ""
    from open_autoglm.native import current_form

    return f"open-autoglm {__version__} ({current_form().name})"


def _dispatch(words: list[str], terminal: Terminal) -> int:
    words = with_command(words)
    name = words[0] if words else ""
    if name in PLANNED:
        raise CommandFailed(f"{name} is not available in this version: {PLANNED[name]}")
    command = find(name)
    if command is None and name and not name.startswith("-"):
        raise CommandFailed(f"no command {name!r}{_near(name)}; `autoglm --help` lists them", WRONG_USAGE)
    parser = build_parser(name)
    if not name:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    arguments = parser.parse_args(words)
    return command.load().run(arguments, terminal) if command else DONE


def with_command(words: list[str]) -> list[str]:
    """Put `serve` before options that stand without a command; `--help` and `--version` are the program's own."""
    if words and words[0].startswith("-") and words[0] not in _NOT_SERVE:
        return ["serve", *words]
    return words


def _near(name: str) -> str:
    import difflib  # only a typing error needs it

    close = difflib.get_close_matches(name, [command.name for command in COMMANDS] + list(PLANNED), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _explain(error: Exception, terminal: Terminal, debug: bool) -> int:
    match error:
        case CommandFailed():
            terminal.error(error.message)
            return error.exit_code
        case ConfigError():
            terminal.error(error.message)
            return WRONG_CONFIGURATION
        case AutoGLMError():
            terminal.error(error.message)
        case OSError():
            where = f" {error.filename!r}" if error.filename else ""
            terminal.error(f"{error.strerror or error}{where}")
        case _:
            hint = "" if debug else "; this is a defect of ours: run it again with --debug and report what it prints"
            terminal.error(f"{type(error).__name__}: {error}{hint}")
    return FAILED


def _print_traceback() -> None:
    import traceback  # only a failure needs it

    traceback.print_exc()


def _drop_output(out: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor keeps nothing for later
        descriptor = out.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, descriptor)
        os.close(devnull)
