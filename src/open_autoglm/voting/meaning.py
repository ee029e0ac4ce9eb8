"""Which free texts say the same: near ones by their letters, so that answers without a form can be counted too.

| a text is | its canonical answer |
|---|---|
| near one that came before (cosine of TF-IDF over hashed pieces of words, 3 to 5 letters) | that one's |
| near none | its own, for those that come after |
| another number or a denial apart from a near one | never that one's |

Invariants: the same texts in the same order give the same answers, in every process; a text and its own copy are one
answer; at most `TEXTS_MAX` groups are told apart, and of a text the first `LETTERS_MAX` letters are read. Letters do
not know what words mean: two texts that say the same in other words stay apart, and two long ones that differ in one
word are held for the same. Ask for a form (a number, a choice, JSON) where a wrong count would cost something.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from typing import Final
from zlib import crc32

TEXTS_MAX: Final = 64
LETTERS_MAX: Final = 4000
_SIZES: Final = (3, 4, 5)
_SIZES_DENSE: Final = (1, 2, 3)
_DENSE: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts that write words in one or two signs, with no space between."""
_OF_QUESTION: Final = 0.1
"""Weight of a piece that the question has too: all answers repeat it, the right and the wrong."""
_PLACES: Final = 1 << 16
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_DENIAL: Final = re.compile(
    r"\b(?:not|no|never|none|neither|nor|cannot|without|false|incorrect)\b|n't\b|[不没沒無无非未]"
)

Pieces = dict[int, float]


class Meanings:
    """The groups of one run's answers, see the module.

    Args:
        question: what was asked; its words tell no answer from another and weigh little.
        near: cosine from which two texts say the same, 0 to 1.
    """

    __slots__ = ("_asked", "_groups", "_near", "_seen", "_texts")

    def __init__(self, question: str = "", near: float = 0.55) -> None:
        if not 0 < near <= 1:
            raise ValueError(f"near must be above 0 and at most 1, not {near!r}")
        self._near = near
        self._texts = 0
        self._seen: Counter[int] = Counter()
        self._groups: list[tuple[str, tuple[tuple[str, ...], bool], Pieces]] = []
        self._asked = frozenset(_pieces(_plain(question)))

    def answer(self, text: str) -> str:
        """Return the canonical answer of a text: the plain form of the first one that says the same; empty for none."""
        plain = _plain(text)
        if not plain:
            return ""
        pieces, facts = _pieces(plain), _facts(plain)
        self._learn(pieces)
        best, nearest = "", self._near
        for name, group_facts, group_pieces in self._groups:
            if name == plain:
                return name
            if group_facts == facts:
                cosine = self._cosine(pieces, group_pieces)
                if cosine >= nearest:
                    best, nearest = name, cosine + 1e-12  # of equally near ones the first
        if not best and len(self._groups) < TEXTS_MAX:
            self._groups.append((plain, facts, pieces))
        return best or plain

    def _learn(self, pieces: Pieces) -> None:
        self._texts += 1
        self._seen.update(pieces.keys())

    def _cosine(self, one: Pieces, other: Pieces) -> float:
        product = math.fsum(weight * other[at] * self._rarity(at) ** 2 for at, weight in one.items() if at in other)
        return product / (self._length(one) * self._length(other)) if product else 0.0

    def _length(self, pieces: Pieces) -> float:
        return math.sqrt(math.fsum((weight * self._rarity(at)) ** 2 for at, weight in pieces.items()))

    def _rarity(self, at: int) -> float:
        """Smooth inverse frequency among the texts so far."""
        rarity = math.log((1 + self._texts) / (1 + self._seen[at])) + 1
        return rarity * _OF_QUESTION if at in self._asked else rarity


def _plain(text: str) -> str:
    """Letters and digits of one width and case, with one space between words, cut."""
    folded = unicodedata.normalize("NFKC", text[:LETTERS_MAX]).casefold().replace("’", "'")
    return " ".join(re.sub(r"[^\w.,'%]+", " ", folded).replace("_", " ").split()).strip(" .,'")


def _facts(plain: str) -> tuple[tuple[str, ...], bool]:
    """What makes an answer another one by itself: its numbers, and whether it denies (a double denial does not)."""
    numbers = tuple(sorted(set(_NUMBER.findall(plain))))
    return numbers, len(_DENIAL.findall(plain)) % 2 == 1


def _pieces(plain: str) -> Pieces:
    """How much of each place: 1 + ln(count) of the pieces hashed to it; CRC-32 is the same in every process."""
    counts: Counter[int] = Counter()
    for word in plain.split():
        padded, sizes = (word, _SIZES_DENSE) if _DENSE.search(word) else (f" {word} ", _SIZES)
        for size in sizes:
            for start in range(len(padded) - size + 1):
                counts[crc32(padded[start : start + size].encode()) % _PLACES] += 1
    return {at: 1 + math.log(count) for at, count in counts.items()}
