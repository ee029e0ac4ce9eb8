"""`autoglm config`: check and compare files here; show, apply, reload and roll back what a running server uses."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.failure import DONE, WRONG_CONFIGURATION, WRONG_USAGE, CommandFailed
from open_autoglm.cli.outline import outline
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal
from open_autoglm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_autoglm.config import Loaded

CONFIG_BYTES_MAX = 2 * 2**20
"""Of a file that is sent to a server, which takes no more."""


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str) -> ArgumentParser:
        return actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)

    check = add("check", "every problem of a file, with path, line and the nearest key; exit code 78 when there is one")
    check.add_argument("file", metavar="FILE")
    check.add_argument(
        "--insecure", action="store_true", help="as for `serve`: allow a public address without authentication"
    )
    check.add_argument("--json", action="store_true", help="print JSON instead of text")
    add("schema", "the JSON schema of configurations, for editors")
    diff = add("diff", "what changes from A to B; with A alone: from what a running server uses to A")
    diff.add_argument("a", metavar="A")
    diff.add_argument("b", metavar="B", nargs="?")
    add_admin_options(diff)
    add_admin_options(add("show", "what a running server uses, without its secrets"))
    apply = add("apply", "make a running server use a file, whole or not at all")
    apply.add_argument("file", metavar="FILE")
    add_admin_options(apply)
    add_admin_options(add("history", "the revisions that a running server remembers"))
    add_admin_options(add("rollback", "make a running server go back to the revision before"))
    add_admin_options(add("reload", "make a running server read its file again"))


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    actions: dict[str, Callable[[Namespace, Terminal], int]] = {
        "check": _check,
        "schema": _schema,
        "diff": _diff,
        "show": _show,
        "apply": _apply,
        "history": _history,
        "rollback": _rollback,
        "reload": _reload,
    }
    return actions[arguments.action](arguments, terminal)


def _check(arguments: Namespace, terminal: Terminal) -> int:
    try:
        loaded = _load(arguments.file, terminal, arguments.insecure)
    except ConfigError as error:
        if not arguments.json:
            raise
        problems = [{"path": p.path, "line": p.line, "message": p.message} for p in error.problems]
        terminal.json({"file": arguments.file, "ok": False, "problems": problems, "warnings": []})
        return WRONG_CONFIGURATION
    if arguments.json:
        terminal.json({"file": arguments.file, "ok": True, "problems": [], "warnings": loaded.warnings})
        return DONE
    for warning in loaded.warnings:
        terminal.warn(warning)
    count = len(loaded.config.models)
    terminal.line(f"{arguments.file}: ok, {count} endpoint{'s' if count != 1 else ''}")
    return DONE


def _schema(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.config.reference import json_schema

    terminal.json(json_schema())
    return DONE


def _diff(arguments: Namespace, terminal: Terminal) -> int:
    changes = _changes(arguments, terminal)
    if arguments.json:
        terminal.json({"changes": changes})
    elif changes:
        rows = [[change["path"], _shown(change["before"]), _shown(change["after"])] for change in changes]
        print_table(terminal, ("path", "before", "after"), rows)
    else:
        terminal.line("no difference")
    return DONE


def _changes(arguments: Namespace, terminal: Terminal) -> list[dict[str, Any]]:
    """What differs, between two files or against a running server."""
    if arguments.b is None:
        told = find_admin(arguments, terminal).post("/config/diff", _bytes_of(arguments.a))
        return list(told["changes"])
    from open_autoglm.config import diff_configs

    before, after = (_load(path, terminal, insecure=True).config for path in (arguments.a, arguments.b))
    return [{"path": c.path, "before": c.before, "after": c.after} for c in diff_configs(before, after)]


def _show(arguments: Namespace, terminal: Terminal) -> int:
    return _print(find_admin(arguments, terminal).get("/config"), arguments, terminal)


def _apply(arguments: Namespace, terminal: Terminal) -> int:
    told = find_admin(arguments, terminal).post("/config", _bytes_of(arguments.file))
    return _print_revision(told, arguments, terminal)


def _rollback(arguments: Namespace, terminal: Terminal) -> int:
    return _print_revision(find_admin(arguments, terminal).post("/config/rollback"), arguments, terminal)


def _reload(arguments: Namespace, terminal: Terminal) -> int:
    return _print_revision(find_admin(arguments, terminal).post("/config/reload"), arguments, terminal)


def _history(arguments: Namespace, terminal: Terminal) -> int:
    value = find_admin(arguments, terminal).get("/config/history")
    if arguments.json:
        terminal.json(value)
    else:
        rows = [[each.get("revision"), each.get("since"), each.get("by")] for each in value["revisions"]]
        print_table(terminal, ("revision", "since", "by"), rows)
    return DONE


def _print(value: object, arguments: Namespace, terminal: Terminal) -> int:
    if arguments.json:
        terminal.json(value)
    else:
        for line in outline(value):
            terminal.line(line)
    return DONE


def _print_revision(value: dict[str, Any], arguments: Namespace, terminal: Terminal) -> int:
    if arguments.json:
        terminal.json(value)
        return DONE
    for warning in value.get("warnings") or []:
        terminal.warn(str(warning))
    terminal.line(f"revision {value.get('revision')} is active since {value.get('since')}, by {value.get('by')}")
    return DONE


def _load(path: str, terminal: Terminal, insecure: bool) -> Loaded:
    from open_autoglm.config import load_config

    return load_config(path, terminal.environ, insecure=insecure)


def _bytes_of(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(f"{path!r} cannot be read: {error.strerror}", WRONG_USAGE) from error
    if len(data) > CONFIG_BYTES_MAX:
        raise CommandFailed(f"{path!r} is longer than {CONFIG_BYTES_MAX} bytes, more than a server takes")
    return data


def _shown(value: object) -> str | None:
    """Write a value in one cell of a table."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
