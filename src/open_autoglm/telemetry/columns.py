"""Text in the columns of a terminal: how many it takes, cut to fit, and bars.

Invariant: wide characters of East Asia count as two columns and combining marks as none, so columns stay aligned.
"""

from __future__ import annotations

import unicodedata
from typing import Any

_BLOCKS = " ▏▎▍▌▋▊▉█"
"""Eighths of a character cell, for bars that begin and end inside one."""


def cells(text: str) -> int:
    """Columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_cell(character) for character in text)


def fit(text: str, width: int) -> str:
    """Cut `text` to `width` columns, with an ellipsis where something was cut."""
    if cells(text) <= width:
        return text
    used, kept = 0, []
    for character in text:
        used += _cell(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def padded(text: str, width: int) -> str:
    """Cut or fill `text` to exactly `width` columns."""
    shown = fit(text, width)
    return shown + " " * (width - cells(shown))


def bar(start: float, share: float, width: int) -> str:
    """Draw a bar that covers `share` of `width` columns from `start` on; at least an eighth of one, so it is seen."""
    begin = min(int(min(max(start, 0.0), 1.0) * width), width - 1)
    eighths = min(max(round(max(share, 0.0) * width * 8), 1), (width - begin) * 8)
    return (" " * begin + "█" * (eighths // 8) + _BLOCKS[eighths % 8]).rstrip()


def plain(text: str) -> str:
    """Write a text with the letters of ASCII only: a picture's own by one each, others as `\\u6a21`."""
    if text.isascii():
        return text
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode()


def plain_values(value: Any) -> Any:
    """The same JSON value with every text of ASCII letters only, so that columns fit when it is drawn."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {key: plain_values(each) for key, each in value.items()}
    return [plain_values(each) for each in value] if isinstance(value, list) else value


_PLAIN = str.maketrans(
    {**dict.fromkeys("▏▎▍▌▋▊▉█", "#"), "├": "|", "└": "`", "│": "|", "─": "-", "◀": "<", "▶": ">", "…": "~", "·": "-"}
)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
