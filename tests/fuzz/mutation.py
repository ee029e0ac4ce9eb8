"""Makes inputs out of a corpus: cut, doubled, spliced, flipped, with words of the format put between.

The same corpus, tokens and seed give the same inputs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

INPUT_BYTES_MAX: Final = 64 * 1024
_SIZES: Final = ((0.9, 512), (0.998, 4096), (1.0, INPUT_BYTES_MAX))
"""Share of the inputs that are no longer than so many bytes: more inputs find more than longer ones."""
_SCANNED_BYTES: Final = 4096
_WORD: Final = re.compile(rb"[A-Za-z0-9_.-]+|[^A-Za-z0-9_.-]+")
_BOUNDARIES: Final = re.compile(rb"\r\n|[\n,;:{}\[\] ]")
_NUMBERS: Final = (b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"9007199254740993", b"1e400", b"00", b"1" * 30)
_BYTES: Final = (b"\0", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\t")


def words_of(corpus: Sequence[bytes]) -> list[bytes]:
    """Words of the inputs themselves, for a target that names none."""
    found = {word for data in corpus for word in _WORD.findall(data[:_SCANNED_BYTES]) if len(word) <= 40}
    return sorted(found)[:2000]


class Mutator:
    """See the module.

    Args:
        corpus: inputs to begin with; `add` extends it.
        tokens: words of the format.
        rng: source of all choices.
    """

    def __init__(self, corpus: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> None:
        self._corpus = list(corpus) or [b""]
        self._tokens = [*tokens, *_BYTES] if tokens else [*words_of(corpus), *_BYTES]
        self._rng = rng
        self._ways: list[Callable[[bytes], bytes]] = [
            self._insert_token,
            self._insert_token,
            self._replace_by_token,
            self._flip,
            self._cut_out,
            self._truncate,
            self._repeat,
            self._splice,
            self._swap_pieces,
            self._change_number,
            self._change_first,
        ]

    def add(self, data: bytes) -> None:
        """Take an input that showed something new."""
        self._corpus.append(data)

    def next(self) -> bytes:
        """Make an input."""
        rng = self._rng
        # What came last is looked at more often: it showed something new.
        recent = rng.random() < 0.3
        data = rng.choice(self._corpus[-20:] if recent else self._corpus)
        for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
            data = rng.choice(self._ways)(data)
        chance = rng.random()
        return data[: next(size for share, size in _SIZES if chance <= share)]

    def _place(self, data: bytes) -> int:
        """Anywhere, more often at a boundary of the format."""
        rng = self._rng
        if data and rng.random() < 0.5:
            start = rng.randrange(len(data))
            boundary = _BOUNDARIES.search(data, start)
            if boundary is not None:
                return boundary.end() if rng.random() < 0.5 else boundary.start()
        return rng.randint(0, len(data))

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._place(data)
        end = self._place(data) if self._rng.random() < 0.3 else min(len(data), start + self._rng.randint(1, 16))
        return min(start, end), max(start, end)

    def _insert_token(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._rng.choice(self._tokens) + data[place:]

    def _replace_by_token(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + self._rng.choice(self._tokens) + data[end:]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self._rng.randrange(len(data))
        changed = data[place] ^ (1 << self._rng.randrange(8)) if self._rng.random() < 0.7 else self._rng.randrange(256)
        return data[:place] + bytes((changed,)) + data[place + 1 :]

    def _cut_out(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _truncate(self, data: bytes) -> bytes:
        return data[: self._place(data)]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        times = self._rng.choice((2, 3, 10, 100, 1000))
        return (data[:end] + data[start:end] * times + data[end:])[:INPUT_BYTES_MAX]

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self._corpus)
        return data[: self._place(data)] + other[self._place(other) :]

    def _swap_pieces(self, data: bytes) -> bytes:
        start, end = self._span(data)
        later, last = self._span(data)
        if end > later:
            return data
        return data[:start] + data[later:last] + data[end:later] + data[start:end] + data[last:]

    def _change_number(self, data: bytes) -> bytes:
        numbers = list(re.finditer(rb"\d+", data[:_SCANNED_BYTES]))
        if not numbers:
            return data
        number = self._rng.choice(numbers)
        return data[: number.start()] + self._rng.choice(_NUMBERS) + data[number.end() :]

    def _change_first(self, data: bytes) -> bytes:
        """The first bytes choose how a target is used."""
        return bytes(self._rng.randrange(256) for _ in range(min(3, len(data)))) + data[3:]
