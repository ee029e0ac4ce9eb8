"""Tables for the terminal and for pipes: columns aligned, nothing around them.

Invariant: one row is one line; no cell moves the cursor; wide characters count as two columns. Written by hand because
a server prints one at its start, and a library for it would cost more memory and time than the server's own start.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from open_autoglm.cli.terminal import Terminal
from open_autoglm.telemetry.redact import clean

_GAP = "  "


def print_table(terminal: Terminal, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head. Numbers stand at the right of their column; a missing value is `-`.

    On a terminal the longest column that is text is cut until lines fit; a pipe gets everything.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    widths = [max([cells(name)] + [cells(row[i]) for row in texts]) for i, name in enumerate(head)]
    if terminal.out.isatty():
        _narrow(widths, right, terminal.width)
    terminal.line(terminal.styled(_line(head, widths, right), "bold"))
    for row in texts:
        terminal.line(_line(row, widths, right))


def cells(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_cell(character) for character in text)


def _narrow(widths: list[int], right: Sequence[bool], width: int) -> None:
    """Take columns from the widest text columns until a line fits, but leave each at least eight."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    text_columns = [i for i, is_number in enumerate(right) if not is_number]
    while excess > 0 and text_columns:
        widest = max(text_columns, key=lambda i: widths[i])
        if widths[widest] <= 8:
            return
        widths[widest] -= 1
        excess -= 1


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return _GAP.join(_padded(cell, widths[i], right[i]) for i, cell in enumerate(row)).rstrip()


def _padded(text: str, width: int, right: bool) -> str:
    shown = _cut(text, width)
    space = " " * (width - cells(shown))
    return space + shown if right else shown + space


def _cut(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _cell(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…"


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_number(value: object) -> bool:
    """Whether a cell may stand in a column of numbers."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case _:
            return clean(str(value))
