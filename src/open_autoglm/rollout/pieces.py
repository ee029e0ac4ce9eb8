"""A chunk on the wire: one UPDATE_CHUNK frame or several, in order.

    first frame    u32 chunk number, big-endian, then the beginning of the payload
    the others     more of the payload
    every frame    `aux` is the chunk's codec; flag MORE on all but the last

Invariant: no more of a chunk is kept than a chunk may have.
"""

from __future__ import annotations

import struct
from typing import Final

from open_autoglm.rollout.refusal import UpdateRefused

_NUMBER: Final = struct.Struct(">I")
NUMBER_BYTES: Final = _NUMBER.size
OVERHEAD_BYTES: Final = 4096
"""A payload that does not shrink is sent as it is; beyond its size nothing but a little framing can be right."""


def split(index: int, payload: bytes, size_max: int) -> list[bytes]:
    """Payloads of the frames that carry a chunk, each at most `size_max` bytes, which is more than 4."""
    data = _NUMBER.pack(index) + payload
    return [data[at : at + size_max] for at in range(0, len(data), size_max)]


class PieceJoiner:
    """Puts the chunks of one stream together.

    Args:
        chunk_bytes: of the plan.
    """

    __slots__ = ("_bytes_max", "_codec", "_data")

    def __init__(self, chunk_bytes: int) -> None:
        self._bytes_max = chunk_bytes + OVERHEAD_BYTES
        self._data = bytearray()
        self._codec = 0

    @property
    def held(self) -> int:
        """Bytes that are kept of a chunk that is not whole yet."""
        return len(self._data)

    def push(self, piece: bytes, codec: int, *, more: bool) -> tuple[int, int, bytes] | None:
        """Take a frame; returns number, codec and payload of a chunk that is whole.

        Raises:
            UpdateRefused: `chunk`: too long, too short, or of two codecs. What was kept is dropped.
        """
        if not self._data:
            self._codec = codec
        if codec != self._codec or len(self._data) + len(piece) > self._bytes_max:
            size = len(self._data) + len(piece)
            self._data = bytearray()
            raise UpdateRefused("chunk", f"a chunk of {size} bytes or more and of codec {codec!r}")
        self._data += piece
        if more:
            return None
        data, self._data = self._data, bytearray()
        if len(data) < NUMBER_BYTES:
            raise UpdateRefused("chunk", f"a chunk of {len(data)} bytes has no number")
        return _NUMBER.unpack_from(data)[0], self._codec, bytes(data[NUMBER_BYTES:])
