"""`autoglm keys`: the API keys of a running server by their names; `keys new` makes a key to be put into a file."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from open_autoglm.cli.admin import add_admin_options, find_admin
from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.outline import outline
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal
from open_autoglm.ids import new_key


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("action", choices=("list", "new", "token"), nargs="?", default="list", help="default: list")
    new = parser.add_argument_group("a new key")
    new.add_argument("--name", default="new-key", help="in logs and metrics, default %(default)s")
    new.add_argument(
        "--model", action="append", metavar="NAME", help="a model that it may use; may be repeated; default: all"
    )
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    match arguments.action:
        case "new":
            return _new(arguments, terminal)
        case "token":
            raise CommandFailed("keys token: tokens for users: not available in this version")
        case _:
            return _list(arguments, terminal)


def configuration_line(name: str, key: str, models: list[str] | None) -> str:
    """Return an entry of `auth.api_keys`, in YAML and JSON alike."""
    entry: dict[str, object] = {"name": name, "key": key}
    if models:
        entry["models"] = models
    return json.dumps(entry, ensure_ascii=False)


def _new(arguments: Namespace, terminal: Terminal) -> int:
    key = new_key()
    line = configuration_line(arguments.name, key, arguments.model)
    if arguments.json:
        terminal.json({"name": arguments.name, "key": key, "entry": json.loads(line)})
        return DONE
    terminal.line(key)
    terminal.note("\nFor the configuration, which then is a secret too (chmod 600):\n")
    terminal.note(f"auth:\n  api_keys:\n    - {line}")
    return DONE


def _list(arguments: Namespace, terminal: Terminal) -> int:
    value = find_admin(arguments, terminal).get("/keys")
    if arguments.json:
        terminal.json(value)
        return DONE
    rows = value["keys"]
    if not rows:
        terminal.note("no key: authentication is off")
        return DONE
    columns = list(dict.fromkeys(["name", *(field for row in rows for field in row)]))
    print_table(
        terminal,
        [column.replace("_", " ") for column in columns],
        [[_cell(row.get(c)) for c in columns] for row in rows],
    )
    return DONE


def _cell(value: object) -> object:
    """Write a list or a map in one cell."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(line.strip() for line in outline(value)) or "none"
    return value
