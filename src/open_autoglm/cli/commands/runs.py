"""`autoglm runs`: task graphs on a running server: begun, looked at, and given the word that they wait for."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Final

from open_autoglm.cli.admin import Admin, add_admin_options, find_admin, segment
from open_autoglm.cli.arguments import count
from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.outline import outline
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

ACTIONS: Final = ("list", "show", "start", "approve", "refuse", "cancel", "resume")
COLUMNS: Final = ("run", "name", "state", "began", "changed", "by")
TASK_COLUMNS: Final = ("task", "tool", "state", "needs", "result")
RESULT_CHARS: Final = 60
ARGUMENTS_CHARS: Final = 8000
STATES: Final = ("running", "waiting", "done", "failed", "cancelled", "budget_exhausted")


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list", help="default: list")
    parser.add_argument("run", nargs="?", help="its id; of `start`: a file with a task graph in JSON, - for the input")
    parser.add_argument(
        "task", nargs="?", help="of `approve` and `refuse`: which task; may be left out if it asks about one"
    )
    parser.add_argument("--note", metavar="TEXT", help="of `approve` and `refuse`: why, for the record")
    parser.add_argument(
        "--done", action="store_true", help="of `approve`: the step was done already, and is not to be done again"
    )
    parser.add_argument("--state", choices=STATES, help="of `list`: only these")
    parser.add_argument(
        "--limit", metavar="COUNT", type=count, default=50, help="of `list`: how many, default %(default)s"
    )
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    action = arguments.action
    if arguments.task is not None and action not in ("approve", "refuse"):
        raise CommandFailed(f"runs {action}: takes no task")
    if arguments.note is not None and action not in ("approve", "refuse"):
        raise CommandFailed("runs: --note goes with `approve` and `refuse`")
    if arguments.done and action != "approve":
        raise CommandFailed("runs: --done goes with `approve`")
    if arguments.run is None and action != "list":
        raise CommandFailed(f"runs {action}: {'the file' if action == 'start' else 'the run'} is missing")
    admin = find_admin(arguments, terminal)
    if action == "list":
        return _list(admin, arguments, terminal)
    shown = _done(admin, arguments)
    if arguments.json:
        terminal.json(shown)
    else:
        show(shown, terminal)
    return DONE


def _done(admin: Admin, arguments: Namespace) -> dict[str, Any]:
    action, path = arguments.action, f"/runs/{segment(arguments.run)}"
    match action:
        case "show":
            row = admin.get(path)
        case "start":
            row = admin.post("/runs", _graph(arguments.run))
        case "approve" | "refuse":
            done = "true" if arguments.done else None
            row = admin.post(f"{path}/{action}", task=arguments.task, note=arguments.note, done=done)
        case _:
            row = admin.post(f"{path}/{action}")
    assert isinstance(row, dict)
    return row


def _graph(name: str) -> bytes:
    try:
        return Path("/dev/stdin" if name == "-" else name).read_bytes()
    except OSError as error:
        raise CommandFailed(f"runs start: cannot read {name!r}: {error.strerror}") from error


def _list(admin: Admin, arguments: Namespace, terminal: Terminal) -> int:
    runs = admin.get("/runs", state=arguments.state, limit=arguments.limit)["runs"]
    if arguments.json:
        terminal.json({"runs": runs})
    elif runs:
        rows = [[run["id"], run["name"], run["state"], run["began"], run["changed"], run["by"]] for run in runs]
        print_table(terminal, COLUMNS, rows, whole=("run",))
    else:
        terminal.note("there is no such run")
    return DONE


def show(run: dict[str, Any], terminal: Terminal) -> None:
    """Print a run, as the admin API tells it."""
    stopped = f" ({run['stop_reason']})" if run.get("stop_reason") else ""
    terminal.line(terminal.shown(f"{run['id']}  {run['name'] or '(no name)'}: {run['state']}{stopped}"))
    rows = [
        [task["id"], task["tool"], task["state"], ", ".join(task["depends_on"]), _result(task)] for task in run["tasks"]
    ]
    print_table(terminal, TASK_COLUMNS, rows, whole=("task",))
    terminal.line(_spent(run))
    for each in run["asking"]:
        terminal.note(f"it waits for your word on {each['task']!r}, {_question(each['question'])}, called with:")
        terminal.note(f"  {_whole(each['arguments'])}")
        terminal.note(f"  autoglm runs approve {run['id']} {each['task']}   (or refuse)")


def _spent(run: dict[str, Any]) -> str:
    """What it has spent, of what it may spend, and what is set aside for steps under way."""
    budget, spent, reserved = run["budget"], run["spent"], run["reserved"]
    told = []
    for kind, form in (("tokens", "{:,}"), ("money", "{:.6g}")):
        limit = f" of {form.format(budget[kind])}" if kind in budget else ""
        aside = f" ({form.format(reserved[kind])} more set aside)" if reserved[kind] else ""
        told.append(f"{form.format(spent[kind])}{limit} {kind}{aside}")
    time = f", {budget['time']:g} s for all of it" if "time" in budget else ""
    return f"spent: {', '.join(told)}{time}"


def _result(task: dict[str, Any]) -> str:
    if "error" in task:
        return f"{task['error']['code']}: {task['error']['message']}"
    text = " ".join(line.strip() for line in outline(task["result"])) if "result" in task else ""
    return text if len(text) <= RESULT_CHARS else f"{text[: RESULT_CHARS - 1]}…"


def _whole(arguments: object) -> str:
    """What is agreed to, whole: whoever gives word must see it; only what nobody reads to its end is cut."""
    text = json.dumps(arguments, ensure_ascii=False)
    return text if len(text) <= ARGUMENTS_CHARS else f"{text[:ARGUMENTS_CHARS]}… ({len(text)} characters; see --json)"


def _question(question: str) -> str:
    return {
        "approval": "an approval",
        "confirmation": "a dangerous tool that it would call",
        "unknown": "which was begun and may have taken effect (--done if it did)",
    }[question]
