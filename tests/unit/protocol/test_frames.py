import struct

import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import HEADER_BYTES, PREFACE, FrameReader, encode_frame


class Sink:
    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int, int, int, bytes]] = []

    def on_frame(self, *frame: object) -> None:
        self.frames.append(frame)  # type: ignore[arg-type]


def test_the_header_is_sixteen_bytes_in_network_order() -> None:
    frame = encode_frame(10, 0x01020304, b"ab", flags=0x41, aux=0x0506, arg=0x0708090A)
    assert frame == bytes.fromhex("00000002 0a 41 0506 01020304 0708090a".replace(" ", "")) + b"ab"
    assert HEADER_BYTES == 16
    assert PREFACE == b"\x00MCP\x01\x00\x00\x00"


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 64, 1000])
def test_how_the_bytes_are_cut_changes_nothing(size: int) -> None:
    data = encode_frame(10, 1, b"x" * 40) + encode_frame(3, 0, arg=7) + encode_frame(12, 1, "中".encode(), aux=1)
    sink, reader = Sink(), FrameReader(100)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size], sink)
    expected = [(10, 0, 0, 1, 0, b"x" * 40), (3, 0, 0, 0, 7, b""), (12, 0, 1, 1, 0, "中".encode())]
    assert sink.frames == expected
    assert reader.kept_bytes == 0


def test_a_payload_of_the_longest_length_is_taken_and_one_byte_more_is_not() -> None:
    sink, reader = Sink(), FrameReader(100)
    reader.feed(encode_frame(10, 1, b"x" * 100), sink)
    with pytest.raises(ProtocolError, match="a frame of 101 bytes: 100 at most") as caught:
        reader.feed(encode_frame(3, 0) + encode_frame(10, 3, b"x" * 101), sink)
    assert caught.value.code == "request_too_large"
    assert len(sink.frames) == 2, "what came before it is handed on"


def test_a_long_frame_is_refused_by_its_header_alone() -> None:
    reader = FrameReader(100)
    with pytest.raises(ProtocolError):
        reader.feed(encode_frame(10, 1, b"x" * 101)[:HEADER_BYTES], Sink())
    assert reader.kept_bytes == 0


def test_no_more_is_kept_than_one_frame() -> None:
    sink, reader = Sink(), FrameReader(100)
    frame = encode_frame(10, 1, b"x" * 100)
    for byte in frame[:-1]:
        reader.feed(bytes((byte,)), sink)
    assert reader.kept_bytes == len(frame) - 1
    reader.feed(frame[-1:] + frame[:5], sink)
    assert len(sink.frames) == 1
    assert reader.kept_bytes == 5


def test_numbers_out_of_range_are_an_error() -> None:
    with pytest.raises(struct.error):
        encode_frame(256, 0)
    with pytest.raises(struct.error):
        encode_frame(1, 2**32)
