"""Writes protocol buffers by hand, so that tests can say what no library would write."""

from __future__ import annotations


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def external(location: str) -> bytes:
    """A TensorProto whose bytes are in another file."""
    return part(8, "w") + part(13, part(1, "location") + part(2, location)) + number(14, 1)


def model(graph: bytes, *more: bytes) -> bytes:
    """A ModelProto."""
    return number(1, 9) + part(8, number(2, 20)) + part(7, graph) + b"".join(more)
