"""Writes `docs/cli.md` from the commands' own parsers: `python -m open_autoglm.cli.reference`.

Invariant: every command and option that can be typed is on the page, and nothing else; a test compares them.
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from open_autoglm.cli.command import COMMANDS, PLANNED
from open_autoglm.cli.main import build_parser

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"

_HEAD = """\
# The command line

This page is written by `make docs` from the program itself; change the program, not the page.

`autoglm` and `python -m mcp_server` are the same program. Options without a command mean `serve`, so
`python -m mcp_server --config FILE` starts the server.

- Answers go to standard output, everything else to standard error. Into a pipe go no colours, and tables are not cut.
- `--json` prints what the server said, for scripts. Field names are those of the [admin API](admin-api.md).
- A failure is one line that says what to do; `--debug` adds the traceback.
- Keys are never typed as arguments, which other users of the machine can see: they come from `MCP_API_KEY` and
  `MCP_ADMIN_KEY`, or from a file that only its owner can read.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage |
| 78 | wrong configuration; every problem of it is listed |
| 130 | ended by Ctrl-C (`serve` and `demo` end with 0: that is how they are meant to end) |

| variable | means |
|---|---|
| `MCP_SERVER_URL` | the data listener that `chat` and `bench` talk to |
| `MCP_API_KEY` | the API key that they send |
| `MCP_ADMIN_URL` | the admin listener that the other commands talk to |
| `MCP_ADMIN_KEY` | the admin key that they send |
| `NO_COLOR` | no colours on a terminal either |

"""


def page() -> str:
    """Return the page."""
    index = ["| command | does |", "|---|---|"]
    index += [f"| [`{command.name}`](#autoglm-{command.name}) | {command.summary} |" for command in COMMANDS]
    planned = ", ".join(f"`{name}` ({part})" for name, part in PLANNED.items())
    sections = [_section(command.name) for command in COMMANDS]
    return f"{_HEAD}{chr(10).join(index)}\n\nNot available in this version: {planned}.\n\n" + "\n".join(sections)


def _section(name: str) -> str:
    parser = next(_choices(build_parser(name)))[name]
    lines = [f"## autoglm {name}", "", parser.description or "", *_table(parser), ""]
    for actions in _choices(parser):
        for action_name, sub in actions.items():
            lines += [f"### autoglm {name} {action_name}", "", sub.description or "", *_table(sub), ""]
    return "\n".join(lines)


def _table(parser: ArgumentParser) -> list[str]:
    rows = [f"| {_typed(action)} | {_help(action)} |" for action in parser._actions if _is_listed(action)]
    return ["", "| typed | means |", "|---|---|", *rows] if rows else []


def _is_listed(action: Action) -> bool:
    return not isinstance(action, _SubParsersAction) and not {"--help", "--debug"} & set(action.option_strings)


def _typed(action: Action) -> str:
    if action.choices is not None:
        value = " or ".join(f"`{choice}`" for choice in action.choices)
    else:
        value = f"`{action.metavar or action.dest.upper()}`"
    if not action.option_strings:
        return value
    name = f"`{', '.join(action.option_strings)}`"
    return name if action.nargs == 0 else f"{name} {value}"


def _help(action: Action) -> str:
    text = action.help or ""
    values: dict[str, Any] = {"default": action.default}
    return text % values if action.default is not SUPPRESS else text


def _choices(parser: ArgumentParser) -> Iterator[dict[str, ArgumentParser]]:
    """The sub-commands of a parser; none when it has none."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            yield dict(action.choices)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
