import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.streams import ABSENT, Stream, pieces_of


def test_chunks_come_in_order_and_within_the_credit() -> None:
    stream = Stream(credit=0, window=10)
    stream.received(0, 4)
    stream.received(1, 6)
    assert (stream.expected, stream.room) == (2, 0)
    stream.received(2, 0)
    for seq, size, word in ((2, 0, "3 is the next one"), (4, 0, "3 is the next one"), (3, 1, "the credit is 0")):
        with pytest.raises(ProtocolError, match=word):
            stream.received(seq, size)


def test_no_chunk_is_the_next_one_of_a_stream_that_is_not_open() -> None:
    for seq in (0, 2**32 - 1):
        with pytest.raises(ProtocolError):
            ABSENT.received(seq, 0)
    assert ABSENT.credit < 0, "and none is short enough to go out"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [""]),
        ("abcd", ["abcd"]),
        ("abcde", ["abcd", "e"]),
        ("ab中文", ["ab", "中", "文"]),
        ("👋👋", ["👋", "👋"]),
        ("a👋", ["a", "👋"]),
    ],
)
def test_a_text_is_cut_between_characters(text: str, pieces: list[str]) -> None:
    assert [piece.decode() for piece in pieces_of(text.encode(), 4)] == pieces


def test_what_is_no_text_is_cut_somewhere() -> None:
    assert b"".join(pieces_of(b"\x80" * 50, 4)) == b"\x80" * 50
