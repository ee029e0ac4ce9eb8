"""Reads the header of a GGUF file before a library sees it.

Invariant: a file that passes has a header of at most `HEADER_BYTES_MAX` with known types only, and every tensor lies
wholly in the file, aligned, with as many bytes as its type and shape take. Source: the GGUF description of the ggml
project, version 3.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
HEADER_BYTES_MAX: Final = 128 << 20  # 256,000 tokens and their merges take some 20 MiB
ENTRIES_MAX: Final = 65_536
ELEMENTS_MAX: Final = 4_000_000
NAME_BYTES_MAX: Final = 65_535
DIMENSIONS_MAX: Final = 4
_STRING, _ARRAY = 8, 9
_SCALARS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type."""
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2),
}  # fmt: skip
"""Elements and bytes of a block by the type of a tensor."""


def check_gguf(path: Path) -> None:
    """Raise unless a file is what it says.

    Raises:
        ValueError: what is wrong with it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(HEADER_BYTES_MAX)
        size = file.seek(0, 2)
    _Header(data).check(size)


class _Header:
    """One pass over a header."""

    __slots__ = ("alignment", "at", "data", "left")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.left = ELEMENTS_MAX
        self.alignment = 32

    def check(self, size: int) -> None:
        """Check a file of so many bytes."""
        if self.take(4) != MAGIC:
            raise ValueError("is no GGUF file")
        version = self.number(4)
        if version not in VERSIONS:
            raise ValueError(f"is of GGUF version {version}; 2 and 3 can be read")
        tensors, entries = self.number(8), self.number(8)
        if tensors > ENTRIES_MAX or entries > ENTRIES_MAX:
            raise ValueError(f"says that it has {tensors} tensors and {entries} entries: {ENTRIES_MAX} at most")
        names = set()
        for _ in range(entries):
            name = self.text()
            if name in names:
                raise ValueError(f"has two entries called {name!r:.80}")
            names.add(name)
            self.entry(name)
        places = [self.tensor() for _ in range(tensors)]
        start = -(-self.at // self.alignment) * self.alignment
        for offset, tensor_bytes in places:
            if offset % self.alignment or start + offset + tensor_bytes > size:
                raise ValueError(f"has a tensor of {tensor_bytes} bytes at {offset}, which is not in the file")

    def entry(self, name: bytes) -> None:
        """Pass over a value."""
        kind = self.number(4)
        if name == b"general.alignment":
            self.alignment = self.number(4)
            if kind != 4 or not 1 <= self.alignment <= 4096 or self.alignment & (self.alignment - 1):
                raise ValueError(f"says that its tensors are aligned to {self.alignment}")
            return
        if kind != _ARRAY:
            self.values(kind, 1)
            return
        inner, count = self.number(4), self.number(8)
        self.values(inner, count)

    def values(self, kind: int, count: int) -> None:
        """Pass over so many values of a type."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"has more than {ELEMENTS_MAX} values")
        if kind == _STRING:
            for _ in range(count):
                self.take(self.number(8))
        elif kind in _SCALARS:
            self.take(count * _SCALARS[kind])
        else:
            raise ValueError(f"has a value of type {kind}")

    def tensor(self) -> tuple[int, int]:
        """Offset and bytes of a tensor."""
        name = self.text()
        dimensions = self.number(4)
        if not 1 <= dimensions <= DIMENSIONS_MAX:
            raise ValueError(f"has tensor {name!r:.80} of {dimensions} dimensions")
        shape = [self.number(8) for _ in range(dimensions)]
        kind, offset = self.number(4), self.number(8)
        if kind not in _BLOCKS:
            raise ValueError(f"has tensor {name!r:.80} of type {kind}, which is not read")
        elements, block_bytes = _BLOCKS[kind]
        if 0 in shape or shape[0] % elements:
            raise ValueError(f"has tensor {name!r:.80} of shape {shape!r:.80}, which is not one of whole blocks")
        return offset, math.prod(shape) // elements * block_bytes

    def text(self) -> bytes:
        size = self.number(8)
        if size > NAME_BYTES_MAX:
            raise ValueError(f"has a name of {size} bytes")
        return self.take(size)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        data = self.data[self.at : self.at + size]
        if len(data) != size:
            raise ValueError(f"ends inside its header at byte {self.at}")
        self.at += size
        return data
