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


def print_table(
    terminal: Terminal, head: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()
) -> None:
    """Print rows under a head. Numbers stand at the right of their column; a missing value is `-`.

    On a terminal the longest column that is text is cut until lines fit; a pipe gets everything.

    Args:
        terminal: where.
        head: a title for each column.
        rows: as many values in each as there are titles.
        whole: titles of columns that are never cut, since their values are there to be copied.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    widths = [max([cells(name)] + [cells(row[i]) for row in texts]) for i, name in enumerate(head)]
    if terminal.out.isatty():
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - terminal.width
        _narrow(widths, [i for i, name in enumerate(head) if not right[i] and name not in whole], excess)
    terminal.line(terminal.styled(_line(head, widths, right), "bold"))
    for row in texts:
        terminal.line(_line(row, widths, right))


def cells(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_cell(character) for character in text)


def _narrow(widths: list[int], may_be_cut: Sequence[int], excess: int) -> None:
    """Make the widest of the columns that may be cut narrower until nothing is in excess; leave each at least eight."""
    while excess > 0 and may_be_cut:
        widest = max(may_be_cut, key=lambda i: widths[i])
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
