"""Where a continued text joins the text before it: finds out whether its beginning repeats what was delivered.

A model's server that is given the beginning of an answer goes on with it in one of three ways:

| it sends | what is dropped |
|---|---|
| what follows | nothing |
| the whole beginning again, then what follows | that beginning, if it has at least `WHOLE_CHARS_MIN` characters |
| the end of the beginning again, then what follows | that end, of `TAIL_CHARS_MIN` to `TAIL_CHARS_MAX` characters |

The three cannot always be told apart: a text may itself say something twice where it was cut. Going on exactly is
what such servers are asked for, so in doubt nothing is dropped: not for a repetition that is shorter than the table
says, and not where it belongs to a run, a piece of text that comes three times or more in a row (`----`, indentation,
a model that repeats itself). What remains is a text that says so much exactly twice, and was cut between the two.

White space at the end of the delivered text may have been left out of what the server was given, because chat
templates treat it badly; what comes again of that is dropped, however short.

Invariants: what comes out is what went in, less its beginning; what is held back is at most as long as the delivered
text and the longest repetition together.
"""

from __future__ import annotations

from typing import Final

TAIL_CHARS_MAX: Final = 200
TAIL_CHARS_MIN: Final = 16
"""Shorter ends are repeated by ordinary texts too often: names, numbers, rows of tables."""
WHOLE_CHARS_MIN: Final = 4
"""An answer seldom begins by saying the same twice."""

_SAMPLE_CHARS: Final = 400
"""Of a repetition, from its end, in which a period is looked for."""
_UNDECIDED: Final = -1


class Seam:
    """See the module.

    Args:
        delivered: the text so far.
        given: how much of it the server was given; the rest is white space.
    """

    __slots__ = ("_decided", "_delivered", "_echo", "_given", "_held", "_size")

    def __init__(self, delivered: str, given: int) -> None:
        self._delivered = delivered
        self._given = given
        self._held: list[str] = []
        self._size = 0
        self._echo = 0  # so many characters of what is held repeat the beginning of the delivered text
        self._decided = False

    def feed(self, text: str) -> str:
        """Take more of the new text; return what is known to follow the delivered one, maybe nothing yet."""
        if self._decided:
            return text
        if self._echo == self._size:
            self._echo += _common(self._delivered, self._echo, text)
        self._held.append(text)
        self._size += len(text)
        if self._echo == self._size < len(self._delivered):
            return ""
        return self._decide(final=False)

    def end(self) -> str:
        """The new text is over; return what of it was still held back."""
        return "" if self._decided else self._decide(final=True)

    def _decide(self, *, final: bool) -> str:
        held = "".join(self._held)
        dropped = self._repeated(held, final)
        if dropped == _UNDECIDED:
            self._held = [held]
            return ""
        self._decided = True
        self._held.clear()
        return held[dropped:]

    def _repeated(self, held: str, final: bool) -> int:
        """How many characters of the new text's beginning are a repetition."""
        delivered = self._delivered
        if self._echo >= max(self._given, WHOLE_CHARS_MIN):
            return self._unless_run(delivered[: self._echo], held, self._echo, final)
        tail = delivered[-TAIL_CHARS_MAX:]
        if not final:
            at = tail.find(held, 0, len(tail) - 1)
            if 0 <= at <= len(tail) - TAIL_CHARS_MIN:
                return _UNDECIDED
        for size in range(min(len(tail), len(held)), TAIL_CHARS_MIN - 1, -1):
            if tail.endswith(held[:size]):
                return self._unless_run(delivered, held, size, final)
        return self._white_space(held, final)

    def _unless_run(self, before: str, held: str, size: int, final: bool) -> int:
        """`size`, unless the repetition at the end of `before` belongs to a run."""
        repeated = held[:size]
        if _has_period(repeated[-_SAMPLE_CHARS:]):
            return self._white_space(held, final)
        left = _common(before[:-size][::-1][:size], 0, repeated[::-1])
        right = _common(repeated, 0, held[size : 2 * size])
        enough = min(size, TAIL_CHARS_MAX)
        if left + right >= enough:
            return self._white_space(held, final)
        return _UNDECIDED if right == len(held) - size and not final else size

    def _white_space(self, held: str, final: bool) -> int:
        """Nothing is repeated but, maybe, white space that the server did not know of."""
        white = self._delivered[self._given :]
        size = _common(white, 0, held)
        return _UNDECIDED if size == len(held) < len(white) and not final else size


def _common(text: str, start: int, other: str) -> int:
    """How many characters from `start` on are the same as in `other`."""
    if text.startswith(other, start):
        return len(other)
    size = 0
    for one, two in zip(text[start : start + len(other)], other, strict=False):
        if one != two:
            break
        size += 1
    return size


def _has_period(text: str) -> bool:
    """Whether a text is made of a shorter one that comes at least twice in a row, the last time maybe not wholly."""
    return any(text.startswith(text[period:]) for period in range(1, len(text) // 2 + 1))
