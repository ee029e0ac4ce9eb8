"""Constrained decoding of free-text slots: what fills them is copied from the question.

City names, search words, units and numbers of a JSON answer must be pieces of the user's text: whole words and
whole numbers, each used once, and the parts of a plan in the order of the text. A tiny model knows the form of
the answer long before it copies without a slip, so the form is left to it and each slot is held to the text.
Invariant: `allowed` is never an empty set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from open_autoglm.engines.embedded.tokenizer import ASCII_FIRST, EOS, encode, token_id

_CALL_END: Final = token_id('"}}')
_PLAN_SLOT_END: Final = token_id('"},"depends_on":[')
_PLAN_NEXT: Final = token_id(']},{"id":')
_UNIT_TO: Final = token_id('","to":"')
_VALUE_END: Final = token_id(',"from":"')
_EXPRESSION: Final = token_id('expression":"')
_VALUE: Final = token_id('value":')
_WORD_SLOTS: Final = frozenset((token_id('city":"'), token_id('query":"'), _VALUE_END, _UNIT_TO))
_OPERATORS: Final = frozenset(token_id(sign) for sign in "+-*/")
_REFERENCE: Final = token_id("$")
_DOT: Final = token_id(".")
_SPACE: Final = token_id(" ")
_QUOTE_ENGLISH: Final = tuple(encode(" is "))
_QUOTE_CHINESE: Final = token_id("是")
# A slot never begins with one of these words; they stand between the slots.
_FUNCTION_WORDS: Final = frozenset(
    tuple(encode(word))
    for word in ("a", "and", "are", "for", "from", "give", "in", "into", "is", "it", "me", "of", "please", "then", "to")
)
_FUNCTION_TOKENS_MAX: Final = max(len(word) for word in _FUNCTION_WORDS)
_DIGITS: Final = frozenset(range(token_id("0"), token_id("9") + 1))
_LETTERS: Final = frozenset(
    ASCII_FIRST + ord(letter) - 0x20 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_CAPITALS: Final = frozenset(ASCII_FIRST + ord(letter) - 0x20 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class CopyConstraint:
    """Follows one answer token by token and says which tokens may come next.

    Args:
        source: tokens of the user's text.
        plan: whether the answer is a plan (its parts follow the text in order) or a tool call.
    """

    __slots__ = ("_end", "_ends", "_floor", "_kind", "_length", "_operands", "_plan", "_source", "_used")

    def __init__(self, source: Sequence[int], *, plan: bool) -> None:
        self._source = tuple(source)
        self._plan = plan
        self._kind = ""  # "", "word", "value", "expression", or "reference" right after a `$`
        self._end = _CALL_END  # token that closes the slot
        self._ends: list[int] = []  # where in the source each possible copy has got to
        self._length = 0  # tokens of the copy so far
        self._operands = 0  # complete operands before the one being written
        self._used: set[int] = set()  # places of the source that earlier slots have copied
        self._floor = 0  # first place that this part of a plan may copy

    def push(self, token: int) -> None:
        """Takes the token that was chosen."""
        if self._kind == "reference":
            self._kind, self._ends, self._length = "expression", [len(self._source)], 0
            return
        if self._kind:
            self._advance(token)
        if token == _PLAN_NEXT:
            self._floor = max(self._used, default=-1) + 1
        elif token in _WORD_SLOTS:
            self._open("word", _UNIT_TO if token == _VALUE_END else self._slot_end())
        elif token == _VALUE:
            self._open("value", _VALUE_END)
        elif token == _EXPRESSION:
            self._open("expression", self._slot_end())

    def allowed(self) -> frozenset[int] | None:
        """Tokens that may come next; None when every token may."""
        if not self._kind or self._kind == "reference":
            return None
        choices = {self._source[end] for end in self._ends if self._continues(end)}
        if any(self._complete(end) for end in self._ends):
            choices.update(_OPERATORS if self._kind == "expression" and not self._operands else (self._end,))
        if self._may_refer() and not (self._operands and choices):
            choices.add(_REFERENCE)
        return frozenset(choices) or None

    def _may_refer(self) -> bool:
        """Whether an operand of a plan begins here, which may be an earlier result."""
        return self._kind == "expression" and self._plan and not self._length and not self._at_reference()

    def _slot_end(self) -> int:
        return _PLAN_SLOT_END if self._plan else _CALL_END

    def _at_reference(self) -> bool:
        """Whether the operand before is an earlier result, which counts as a complete copy of nothing."""
        return self._ends == [len(self._source)]

    def _advance(self, token: int) -> None:
        """One more token inside a slot: more of the copy, or what ends it."""
        if self._kind == "expression" and token == _REFERENCE and not self._length:
            self._kind = "reference"
        elif self._kind == "expression" and token in _OPERATORS:
            self._use()
            self._operands += 1
            self._ends, self._length = self._starts(), 0
        elif token == self._end:
            self._use()
            self._kind = ""
        else:
            self._ends = [end + 1 for end in self._ends if end < len(self._source) and self._source[end] == token]
            self._length += 1
            if not self._ends:
                self._kind = ""

    def _use(self) -> None:
        """Remembers the first place where the finished copy stands."""
        whole = [end for end in self._ends if self._complete(end)]
        if whole and self._length:
            self._used.update(range(whole[0] - self._length, whole[0]))

    def _open(self, kind: str, end: int) -> None:
        self._kind, self._end, self._length, self._operands = kind, end, 0, 0
        self._ends = self._starts()

    def _starts(self) -> list[int]:
        """Unused places of the source where a word or a number begins."""
        source, numbers = self._source, self._kind != "word"
        found = []
        for place in range(self._floor, len(source)):
            before = source[place - 1] if place else _SPACE
            token = source[place]
            if place in self._used or (numbers and token not in _DIGITS):
                continue
            if numbers and (before in _DIGITS or before == _DOT):
                continue
            if not numbers and (token == _SPACE or (token in _LETTERS and before in _LETTERS)):
                continue
            if not numbers and self._word_at(place) in _FUNCTION_WORDS:
                continue
            found.append(place)
        return found

    def _name_goes_on(self, end: int) -> bool:
        """Whether a capital starts the copy and a capital follows after one space, as in `New York`."""
        source, start = self._source, end - self._length
        if source[start] not in _CAPITALS or end + 1 >= len(source) or source[end] != _SPACE:
            return False
        return source[end + 1] in _CAPITALS and end + 1 not in self._used

    def _word_at(self, place: int) -> tuple[int, ...]:
        """Letters from `place` on, a little more than the longest function word at most."""
        end = place
        while end < len(self._source) and self._source[end] in _LETTERS and end - place <= _FUNCTION_TOKENS_MAX:
            end += 1
        return self._source[place:end]

    def _continues(self, end: int) -> bool:
        """Whether the source goes on after `end` within the same kind of text, and is unused."""
        if end >= len(self._source) or end in self._used:
            return False
        if self._kind == "word":
            return True
        token = self._source[end]
        return token in _DIGITS or (token == _DOT and end + 1 < len(self._source) and self._source[end + 1] in _DIGITS)

    def _complete(self, end: int) -> bool:
        """Whether a whole word, number or reference ends right before `end`."""
        if not self._length:
            return self._at_reference() and self._kind == "expression"
        if self._kind == "word":
            inside = end < len(self._source) and self._source[end] in _LETTERS
            if self._source[end - 1] == _SPACE or (inside and self._source[end - 1] in _LETTERS):
                return False
            return not self._name_goes_on(end)
        return not self._continues(end)


class EchoConstraint:
    """Holds a sentence about a tool's result to that result: once it begins to quote, it quotes the whole.

    Args:
        source: tokens of the result.
    """

    __slots__ = ("_place", "_source", "_tail")

    def __init__(self, source: Sequence[int]) -> None:
        self._source = tuple(source)
        self._tail: tuple[int, ...] = ()  # the last tokens of the sentence, before it quotes
        self._place = -1  # what is quoted next; -1 before the quotation

    def push(self, token: int) -> None:
        """Takes the token that was chosen."""
        if self._place >= 0:
            self._place += 1
            return
        self._tail = (*self._tail, token)[-len(_QUOTE_ENGLISH) :]
        if self._tail == _QUOTE_ENGLISH or token == _QUOTE_CHINESE:
            self._place = 0

    def allowed(self) -> frozenset[int] | None:
        """Tokens that may come next; None when every token may."""
        if self._place < 0:
            return None
        return frozenset((self._source[self._place] if self._place < len(self._source) else EOS,))
