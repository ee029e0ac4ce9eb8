"""Texts made plain before they are compared: one form of each character, and the part that names the answer.

Invariants: `plain` keeps what a number means (`3½` is `3 1/2`, `10³` is `10^3`, any script's digits are 0 to 9);
`named_answer` returns a part of its text; both look at each character a bounded number of times.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_SAME: Final = {
    "−": "-",  # minus sign
    "–": "-",
    "‐": "-",
    "‑": "-",
    "⁄": "/",
    "∕": "/",
    "，": ", ",  # in Chinese a comma parts clauses, never the thousands of a number
    "、": ", ",
    "。": ". ",
    "！": "! ",
    "？": "? ",
    "；": "; ",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
}
_THOUSANDS: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
"""A space that does not break, between the thousands of a number."""
_MARK: Final = re.compile(
    r"""\#{4}
    | \banswer(?:\*\*)?\ (?:is|would\ be|must\ be|should\ be)\b\ ?:?
    | \b(?:answer|result|choice|option)\ ?(?:\*\*)?\ ?[:=]
    | 答案\ ?(?:应该|应当|应)?\ ?(?:是|为|选|:)\ ?:?
    | (?:最终|最后)(?:的)?结果\ ?(?:是|为|:)\ ?:?
    | (?:故选|应选|我选|因此选|所以选)\ ?:?
    | 选择\ ?:
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BOXED: Final = re.compile(r"\\boxed\s*\{")
_SENTENCE_END: Final = re.compile(r"\n|[.!?](?=\s|[\"'*)]|$)|;\s")
_AROUND: Final = " \t\r\n\"'`*_$#:;,.!?()[]{}<>|~\\"
_BEFORE: Final = " \t\r\n\"'`*_#:~"
_TAIL_MAX: Final = 20_000
"""Characters at a text's end in which it names its answer."""
_MARKS_MAX: Final = 16
"""Marks that are looked at, from the last one: those before it have nothing after them."""
_BRACES_MAX: Final = 1000
"""Characters of a boxed answer."""


def plain(text: str) -> str:
    """Return the text in Unicode's compatibility form, digits as 0 to 9, and no sign that only looks different."""
    if text.isascii():
        return text
    return unicodedata.normalize(
        "NFKC", "".join(_plain_character(character) for character in _THOUSANDS.sub("'", text))
    )


def _plain_character(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
    if decomposition.startswith("<super>"):
        return "^" + unicodedata.normalize("NFKC", character).replace("−", "-")
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    return "\ufffd" if "\ud800" <= character <= "\udfff" else character


def named_answer(text: str) -> str | None:
    """Return what a plain text names as its answer; None where it names none.

    That is what stands in the last `\\boxed{…}`, or else the sentence after the last "answer is", "####", "答案是".
    """
    text = text[-_TAIL_MAX:]
    boxes = list(_BOXED.finditer(text))
    if boxes:
        return _inside(text, boxes[-1].end())
    for mark in reversed(list(_MARK.finditer(text))[-_MARKS_MAX:]):
        rest = text[mark.end() :].lstrip(_BEFORE)
        end = _SENTENCE_END.search(rest)
        named = (rest[: end.start()] if end else rest).strip()
        if stripped(named):
            return named
    return None


def stripped(text: str) -> str:
    """Return a text without the quotes, marks and spaces around it."""
    return text.strip(_AROUND)


def _inside(text: str, start: int) -> str:
    """The text from `start` to the brace that closes the one before it."""
    depth = 1
    for place in range(start, min(len(text), start + _BRACES_MAX)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start:place].strip()
    return text[start : start + _BRACES_MAX].strip()
