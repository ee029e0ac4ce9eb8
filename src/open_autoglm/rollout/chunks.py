"""How a body is cut: equal pieces whose edges lie at multiples of 256 bytes, each with its hash.

Invariant: pieces cover the body once and without a gap, so a body is complete exactly when no piece is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

import msgspec

from open_autoglm.rollout.refusal import UpdateRefused

ALIGNMENT_BYTES: Final = 256
CHUNK_BYTES_MIN: Final = 64 << 10
CHUNK_BYTES_MAX: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20
CHUNKS_MAX: Final = 65_536
RANGES_MAX: Final = 64
"""Most ranges of missing chunks that one message names; what comes after them is asked for later."""

Range = tuple[int, int]
"""First chunk and how many."""


class ChunkPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one body is cut.

    Attributes:
        body_bytes: size of the body.
        chunk_bytes: size of every piece but the last: 64 KiB to 64 MiB, a multiple of 256.
        sha256: of each piece, hexadecimal, as it is after decoding.
    """

    body_bytes: int
    chunk_bytes: int
    sha256: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self.sha256)

    def span(self, index: int) -> tuple[int, int]:
        """First byte and end of a piece."""
        start = index * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.body_bytes)

    def fits(self, index: int, data: bytes) -> bool:
        """Whether `data` is the piece `index`."""
        start, end = self.span(index)
        return len(data) == end - start and hashlib.sha256(data).hexdigest() == self.sha256[index]

    def check(self) -> None:
        """Refuse (`chunk`) a plan that cannot be."""
        if not CHUNK_BYTES_MIN <= self.chunk_bytes <= CHUNK_BYTES_MAX or self.chunk_bytes % ALIGNMENT_BYTES:
            raise UpdateRefused(
                "chunk",
                f"chunks of {self.chunk_bytes!r} bytes; they are {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}, "
                f"in steps of {ALIGNMENT_BYTES}",
            )
        if self.body_bytes < 1 or self.count != -(-self.body_bytes // self.chunk_bytes) or self.count > CHUNKS_MAX:
            raise UpdateRefused("chunk", f"{self.count} chunks of {self.chunk_bytes} for {self.body_bytes!r} bytes")


def cut(body: bytes, chunk_bytes: int = CHUNK_BYTES) -> ChunkPlan:
    """Plan for a body.

    Raises:
        UpdateRefused: `chunk`, the size is none, or there would be more than 65,536.
    """
    view = memoryview(body)
    starts = range(0, len(body), max(1, chunk_bytes))
    if len(starts) > CHUNKS_MAX:
        raise UpdateRefused("chunk", f"{len(body)} bytes are more than {CHUNKS_MAX} chunks of {chunk_bytes}")
    plan = ChunkPlan(
        len(body), chunk_bytes, tuple(hashlib.sha256(view[at : at + chunk_bytes]).hexdigest() for at in starts)
    )
    plan.check()
    return plan


def chunk_bytes_at(rate: float, body_bytes: int) -> int:
    """Size of chunks where so many bytes a second may leave, for `cut`.

    A quarter of a second's bytes, within 64 KiB and 1 MiB, so that little leaves at once; larger only where there would
    be more chunks than a plan may have.
    """
    wanted = max(min(int(rate) // 4, CHUNK_BYTES), CHUNK_BYTES_MIN, -(-body_bytes // CHUNKS_MAX))
    return -(-wanted // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def ranges(count: int, present: Collection[int]) -> list[Range]:
    """The first 64 ranges of what is missing out of `count`."""
    found: list[Range] = []
    for index in range(count):
        if index in present:
            continue
        if found and sum(found[-1]) == index:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif len(found) == RANGES_MAX:
            break
        else:
            found.append((index, 1))
    return found
