"""Frames: 16 bytes of header, big-endian, and a payload.

    length u32 | opcode u8 | flags u8 | aux u16 | stream u32 | arg u32 | payload (length bytes)

The reader keeps at most one unfinished frame and one block, joins no fragments and judges nothing but the length: how a
byte stream is cut changes nothing that the sink sees. Source: `docs/protocol.md`.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from open_autoglm.protocol.errors import ProtocolError

HEADER: Final = struct.Struct(">IBBHII")
HEADER_BYTES: Final = HEADER.size
PREFACE: Final = b"\0MCP\x01\0\0\0"
"""What a client sends first: NUL, "MCP", major and minor version, two zeros. Neither HTTP nor TLS begins with NUL."""
PREFACE_BYTES: Final = len(PREFACE)

_pack = HEADER.pack


class FrameSink(Protocol):
    """Takes frames as they come."""

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """Take one whole frame. What is raised here leaves the reader useless."""


def encode_frame(opcode: int, stream: int, payload: bytes = b"", flags: int = 0, aux: int = 0, arg: int = 0) -> bytes:
    """Bytes of one frame.

    Args:
        opcode: 0 to 255, see `opcodes`.
        stream: 0 (the connection) to 2**32 - 1.
        payload: at most the peer's `frame_bytes_max`, which is not checked here.
        flags: 0 to 255.
        aux: 0 to 65,535.
        arg: 0 to 2**32 - 1.

    Raises:
        struct.error: a number is out of its range.
    """
    return _pack(len(payload), opcode, flags, aux, stream, arg) + payload


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        frame_bytes_max: longest payload that is taken, in bytes; may be changed between two frames.
    """

    __slots__ = ("_kept", "_wanted", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._kept: bytearray | None = None  # most connections never need it
        self._wanted = 0  # bytes that `_kept` must hold before it is worth looking at

    @property
    def kept_bytes(self) -> int:
        """Bytes of the frame that has begun and has not come whole."""
        return len(self._kept) if self._kept is not None else 0

    def feed(self, data: bytes, sink: FrameSink) -> None:
        """Take the next block, and hand every frame that is whole to the sink.

        Raises:
            ProtocolError: `request_too_large`: a payload is longer than `frame_bytes_max`. The frames before it have
                been handed on; the reader is of no further use.
        """
        if self._kept is not None:
            self._kept += data
            if len(self._kept) < self._wanted:
                return
            data = bytes(self._kept)
            self._kept = None
        unpack = HEADER.unpack_from
        on_frame = sink.on_frame
        size = len(data)
        start = 0
        while (body := start + HEADER_BYTES) <= size:
            length, opcode, flags, aux, stream, arg = unpack(data, start)
            if length > self.frame_bytes_max:
                raise ProtocolError("request_too_large", f"a frame of {length} bytes: {self.frame_bytes_max} at most")
            end = body + length
            if end > size:
                self._wanted = end - start
                break
            on_frame(opcode, flags, aux, stream, arg, data[body:end])
            start = end
        else:
            self._wanted = HEADER_BYTES
        if start < size:
            self._kept = bytearray(data[start:])
