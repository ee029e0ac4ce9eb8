"""Bytes that may hold anything: what is read, and what is refused with whose error."""

from __future__ import annotations

from struct import Struct as Layout

import pytest

from open_autoglm.byte_reader import ByteReader, write_text


class OwnError(ValueError):
    """Of one reader alone."""


class OwnReader(ByteReader):
    """A reader with an error of its own."""

    failure = OwnError


def test_numbers_and_texts_come_back_in_their_order() -> None:
    reader = OwnReader(b"\x07" + write_text("größe") + Layout(">HB").pack(513, 9) + b"rest")
    assert (reader.byte(), reader.text(6 + 1)) == (7, "größe")
    assert reader.unpack(Layout(">HB")) == (513, 9)
    assert not reader.ended
    assert reader.take(4) == b"rest"
    assert reader.ended


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "end too early"),
        (b"\x03ab", "end too early"),
        (b"\x05abcde", "4 are the most"),
        (b"\x02\xff\xfe", "not UTF-8"),
        (b"\x02a\n", "cannot be shown"),
    ],
)
def test_a_text_that_is_none_is_refused_with_the_readers_own_error(data: bytes, said: str) -> None:
    with pytest.raises(OwnError, match=said):
        OwnReader(data).text(4)


def test_a_text_that_its_length_cannot_hold_is_not_written() -> None:
    with pytest.raises(ValueError, match="range"):
        write_text("x" * 256)
