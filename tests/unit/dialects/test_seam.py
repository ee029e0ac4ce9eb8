"""What of a continued text repeats the text before it."""

import pytest

from open_autoglm.dialects.seam import TAIL_CHARS_MAX, TAIL_CHARS_MIN, WHOLE_CHARS_MIN, Seam

FOX = "The quick brown fox jumps over the lazy dog"


def joined(delivered: str, new: str, *, given: int | None = None, piece: int = 3) -> str:
    """The whole text, of a new text that comes in pieces."""
    seam = Seam(delivered, len(delivered) if given is None else given)
    out = [seam.feed(new[at : at + piece]) for at in range(0, len(new), piece)]
    return delivered + "".join(out) + seam.end()


EXACT = [
    ("Hello wor", "ld"),
    ("hel", "lo"),
    ("", "Hello"),
    ("aaaa", "aaaa"),
    ("ha ha ", "ha ha ha"),
    ("word ", "word word word"),
    ("x" + "-" * 60, "-" * 20 + "\n"),
    ("x" + "-" * 20, "-" * 20 + "\n"),
    ("if a:\n" + " " * 20, " " * 20 + "b"),
    ("| --- | --- | --- ", "| --- | --- | --- |\n"),
    ("the", "the"),
    (FOX, " and " + FOX),
    (FOX * 3, FOX * 3),
    (FOX + FOX[:7], FOX[7:] + FOX),
    (FOX[: TAIL_CHARS_MIN - 1], "again"),
    ("x" * TAIL_CHARS_MAX, "x" * TAIL_CHARS_MAX),
    ("one two three. ", "one four"),
]


@pytest.mark.parametrize(("delivered", "new"), EXACT)
def test_a_text_that_goes_on_loses_nothing(delivered: str, new: str) -> None:
    for piece in (1, 2, 3, 7, 1000):
        assert joined(delivered, new, piece=piece) == delivered + new


@pytest.mark.parametrize("size", [WHOLE_CHARS_MIN, 9, 20, len(FOX)])
def test_a_beginning_that_is_said_again_is_dropped(size: int) -> None:
    for piece in (1, 3, 1000):
        assert joined(FOX[:size], FOX, piece=piece) == FOX


@pytest.mark.parametrize("size", [TAIL_CHARS_MIN, 20, 30])
def test_an_end_that_is_said_again_is_dropped(size: int) -> None:
    for piece in (1, 3, 1000):
        assert joined(FOX[:35], FOX[35 - size :], piece=piece) == FOX


def test_repetitions_that_are_too_short_are_text() -> None:
    assert joined(FOX[:3], FOX) == FOX[:3] + FOX
    assert joined(FOX[:35], FOX[35 - TAIL_CHARS_MIN + 1 :]) == FOX[:35] + FOX[35 - TAIL_CHARS_MIN + 1 :]


def test_nothing_but_the_repetition() -> None:
    assert joined(FOX, FOX) == FOX
    assert joined(FOX, FOX[-20:]) == FOX
    assert joined(FOX, FOX[:20]) == FOX + FOX[:20], "a repetition that stops short is none"
    assert joined(FOX, "") == FOX


@pytest.mark.parametrize("new", ["world", " world", "Hello world", "Hello  world"])
def test_white_space_that_was_not_given_comes_once(new: str) -> None:
    expected = "Hello  world" if "  " in new else "Hello world"
    assert joined("Hello ", new, given=5) == expected


def test_white_space_alone_is_an_answer_from_the_beginning() -> None:
    assert joined("\n\n", "\n\nHello", given=0) == "\n\nHello"
    assert joined("\n\n", "Hello", given=0) == "\n\nHello"
    assert joined("    ", "    Hello", given=0) == "    Hello"


def test_a_text_is_held_back_no_longer_than_needed() -> None:
    seam = Seam(FOX, len(FOX))
    assert seam.feed(" x") == " x"
    assert seam.feed("The") == "The"
    seam = Seam(FOX, len(FOX))
    assert [seam.feed(text) for text in ("over", " the moon")] == ["", "over the moon"]
