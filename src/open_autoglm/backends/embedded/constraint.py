"""Constrained decoding of free-text slots: what fills them is copied from the question.

City names, search words, units and numbers of a JSON answer must be pieces of the user's text, whole words
and whole numbers. A tiny model knows the form of the answer long before it copies without a slip, so the
form is left to it and each slot is held to the text. Invariant: `allowed` is never an empty set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from open_autoglm.backends.embedded.tokenizer import ASCII_FIRST, token_id

_CALL_END: Final = token_id('"}}')
_PLAN_END: Final = token_id('"},"depends_on":[')
_UNIT_TO: Final = token_id('","to":"')
_VALUE_END: Final = token_id(',"from":"')
_EXPRESSION: Final = token_id('expression":"')
_VALUE: Final = token_id('value":')
# Token that opens a slot of words -> tokens that may close it.
_WORD_SLOTS: Final[dict[int, tuple[int, ...]]] = {
    token_id('city":"'): (_CALL_END, _PLAN_END),
    token_id('query":"'): (_PLAN_END,),
    _VALUE_END: (_UNIT_TO,),
    _UNIT_TO: (_CALL_END,),
}
_OPERATORS: Final = frozenset(token_id(sign) for sign in "+-*/")
_REFERENCE: Final = token_id("$")
_DOT: Final = token_id(".")
_DIGITS: Final = frozenset(range(token_id("0"), token_id("9") + 1))
_LETTERS: Final = frozenset(
    ASCII_FIRST + ord(letter) - 0x20 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


class CopyConstraint:
    """Follows one answer token by token and says which tokens may come next.

    Args:
        source: tokens of the user's text.
    """

    __slots__ = ("_closers", "_ends", "_kind", "_length", "_operands", "_source")

    def __init__(self, source: Sequence[int]) -> None:
        self._source = tuple(source)
        self._kind = ""  # "", "word", "value", "expression", or "reference" right after a `$`
        self._closers: tuple[int, ...] = ()
        self._ends: list[int] = []  # where in the source each possible copy has got to
        self._length = 0  # tokens of the copy so far
        self._operands = 0  # complete operands before the one being written

    def push(self, token: int) -> None:
        """Takes the token that was chosen."""
        if token in _WORD_SLOTS:
            self._open("word", _WORD_SLOTS[token])
        elif token == _VALUE:
            self._open("value", (_VALUE_END,))
        elif token == _EXPRESSION:
            self._open("expression", (_CALL_END, _PLAN_END))
        elif self._kind == "reference":
            self._kind, self._ends, self._length = "expression", [len(self._source)], 1
        elif self._kind == "expression" and token == _REFERENCE:
            self._kind = "reference"
        elif self._kind == "expression" and token in _OPERATORS:
            self._operands += 1
            self._ends, self._length = self._starts(), 0
        elif self._kind:
            self._ends = [end + 1 for end in self._ends if end < len(self._source) and self._source[end] == token]
            self._length += 1
            if not self._ends:
                self._kind = ""

    def allowed(self) -> frozenset[int] | None:
        """Tokens that may come next; None when every token may."""
        if not self._kind or self._kind == "reference":
            return None
        choices = {self._source[end] for end in self._ends if self._continues(end)}
        if self._length and any(self._complete(end) for end in self._ends):
            choices.update(self._after_copy())
        if self._kind == "expression" and not self._length:
            choices.add(_REFERENCE)
            if len(choices) == 1:
                return None  # no number in the text: nothing to hold the answer to
        return frozenset(choices) or None

    def _after_copy(self) -> tuple[int, ...] | frozenset[int]:
        """What may follow a whole copied word or number."""
        if self._kind == "expression" and self._operands == 0:
            return _OPERATORS
        return self._closers

    def _open(self, kind: str, closers: tuple[int, ...]) -> None:
        self._kind, self._closers, self._length, self._operands = kind, closers, 0, 0
        self._ends = self._starts()

    def _starts(self) -> list[int]:
        """Places of the source where a word or a number begins."""
        source = self._source
        if self._kind == "word":
            return [i for i in range(len(source)) if not (source[i] in _LETTERS and i and source[i - 1] in _LETTERS)]
        return [
            i for i, token in enumerate(source) if token in _DIGITS and not (i and source[i - 1] in _DIGITS | {_DOT})
        ]

    def _continues(self, end: int) -> bool:
        """Whether the source goes on after `end` within the same kind of text."""
        if end >= len(self._source):
            return False
        if self._kind == "word":
            return True
        token = self._source[end]
        return token in _DIGITS or (token == _DOT and end + 1 < len(self._source) and self._source[end + 1] in _DIGITS)

    def _complete(self, end: int) -> bool:
        """Whether a word or number ends right before `end`."""
        if self._kind == "word":
            inside = end < len(self._source) and self._source[end] in _LETTERS
            return not (inside and self._source[end - 1] in _LETTERS)
        return not self._continues(end)
