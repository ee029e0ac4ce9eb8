"""`autoglm nodes`: the members of a cluster with what operators set on them: notes, and marks of drained nodes.

What is set is followed by every server of the cluster, whichever of them was asked.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from open_autoglm.cli.admin import Admin, add_admin_options, find_admin, segment
from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

ACTIONS: Final = ("list", "note", "drain", "undrain")
COLUMNS: Final = ("member", "role", "state", "note", "version")


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list", help="default: list")
    parser.add_argument("member", nargs="?", help="its name, as `autoglm status` shows it")
    parser.add_argument("text", nargs="?", help='of `note`: the note; "" takes it away; left out, it is shown')
    parser.add_argument(
        "--over", metavar="VERSION", help="of `note`: replace this version only; default: the one that is there now"
    )
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    action = arguments.action
    if arguments.text is not None and action != "note":
        raise CommandFailed(f"nodes {action}: takes no text")
    if arguments.over is not None and (action != "note" or arguments.text is None):
        raise CommandFailed("nodes: --over goes with `note MEMBER TEXT`")
    admin = find_admin(arguments, terminal)
    if action == "list":
        return _list(admin, arguments, terminal)
    if arguments.member is None:
        raise CommandFailed(f"nodes {action}: the member is missing")
    if action == "note":
        row = _note(admin, arguments)
    else:
        row = admin.post(f"/nodes/{segment(arguments.member)}/{action}")
    if arguments.json:
        terminal.json(row)
    elif action == "note":
        terminal.line(f"{row['note'] or '(no note)'}  {row['note_version']}".rstrip())
    else:
        terminal.line(f"{row['id']}: {'gets no new requests' if row['drained'] else 'gets requests'}")
    return DONE


def _list(admin: Admin, arguments: Namespace, terminal: Terminal) -> int:
    nodes = admin.get("/nodes")["nodes"]
    if arguments.json:
        terminal.json({"nodes": nodes})
    elif nodes:
        rows = [[n["id"], n["role"], shown_state(n), n.get("note"), n.get("note_version")] for n in nodes]
        print_table(terminal, COLUMNS, rows, whole=("member",))
    else:
        terminal.note("this server is in no cluster")
    return DONE


def _note(admin: Admin, arguments: Namespace) -> Any:
    """Set a note over what is there, or return what is there."""
    name = arguments.member
    row = next((each for each in admin.get("/nodes")["nodes"] if each["id"] == name), None)
    if row is None:
        raise CommandFailed(f"there is no member {name!r}; `autoglm nodes` shows them")
    if arguments.text is None:
        return {"id": name, "note": row["note"], "note_version": row["note_version"]}
    over = row["note_version"] if arguments.over is None else arguments.over
    return admin.post(f"/nodes/{segment(name)}/note", text=arguments.text, version=over)


def shown_state(node: dict[str, Any]) -> str:
    """A member's state; one that an operator drained says so while it is there."""
    drained = node.get("drained") and node["state"] in ("alive", "suspect")
    return f"{node['state']}, drained" if drained else str(node["state"])
