"""A text that was cut anywhere and goes on elsewhere is the same text: no character twice, none lost."""

import itertools

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from open_autoglm.dialects.seam import TAIL_CHARS_MAX, TAIL_CHARS_MIN, WHOLE_CHARS_MIN, Seam

UNTIMED = settings(deadline=None)

words = st.sampled_from(
    [
        "the",
        "a",
        "of",
        "model",
        "stream",
        "again",
        "1,024",
        "«quoted»",
        "naïve",
        "你好",
        "世界",
        "🙂",
        "no",
        "no",
        "\n",
        "--",
    ]
)
prose = st.lists(words, min_size=2, max_size=80).map(" ".join)
dense = st.text("ab ", min_size=1, max_size=60)
texts = prose | dense | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, str]:
    """A text in two parts, neither of them empty."""
    text = draw(texts.filter(lambda text: len(text) > 1))
    at = draw(st.integers(1, len(text) - 1))
    return text[:at], text[at:]


@st.composite
def splits(draw: st.DrawFn, text: str) -> list[str]:
    """The same text in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(text)])]


def joined(delivered: str, pieces: list[str], given_chars: int) -> str:
    seam = Seam(delivered, given_chars)
    return delivered + "".join(map(seam.feed, pieces)) + seam.end()


def says_twice(before: str, after: str) -> bool:
    """Whether a text says something long enough twice where it was cut, so that nobody can tell what happened."""
    tail = any(
        before.endswith(after[:size])
        for size in range(TAIL_CHARS_MIN, min(len(before), len(after), TAIL_CHARS_MAX) + 1)
    )
    return tail or (len(before) >= WHOLE_CHARS_MIN and after.startswith(before))


def in_a_row(text: str) -> bool:
    """Whether a text is something twice or more in a row, the last time maybe cut short."""
    return any(text[size:] == text[:-size] for size in range(1, len(text) // 2 + 1))


@UNTIMED
@given(st.data(), cut_texts())
def test_an_exact_continuation_is_passed_as_it_is(data: st.DataObject, parts: tuple[str, str]) -> None:
    before, after = parts
    assume(not says_twice(before, after))
    assert joined(before, data.draw(splits(after)), len(before)) == before + after


@UNTIMED
@given(st.data(), st.text("ab-\n ", min_size=1, max_size=12), st.integers(2, 12), st.integers(1, 100))
def test_runs_lose_nothing(data: st.DataObject, unit: str, times: int, at: int) -> None:
    text = unit * (times + 2)
    before, after = text[: at % len(text) or 1], text[at % len(text) or 1 :]
    assert joined(before, data.draw(splits(after)), len(before)) == text


@UNTIMED
@given(st.data(), cut_texts())
def test_a_server_that_says_the_whole_beginning_again(data: st.DataObject, parts: tuple[str, str]) -> None:
    before, after = parts
    assume(len(before) >= WHOLE_CHARS_MIN and not in_a_row(before[-400:]))
    assume(not says_twice(before, after) and not after.startswith(before[:1]))
    assert joined(before, data.draw(splits(before + after)), len(before)) == before + after


@UNTIMED
@given(st.data(), prose.filter(lambda text: len(text) > TAIL_CHARS_MIN), prose)
def test_a_server_that_says_the_end_again(data: st.DataObject, before: str, after: str) -> None:
    size = data.draw(st.integers(TAIL_CHARS_MIN, min(len(before), TAIL_CHARS_MAX)))
    again = before[-size:]
    new = again + after
    # What was said again must be the longest end that the new text begins with, and no part of a run.
    longest = max(n for n in range(size, min(len(before), len(new), TAIL_CHARS_MAX) + 1) if before.endswith(new[:n]))
    assume(longest == size and not in_a_row(again) and again not in (before[:-size] + after))
    assume(not before[:-size].endswith(again[-1:]) and not after.startswith(again[:1]))
    assert joined(before, data.draw(splits(new)), len(before)) == before + after


@UNTIMED
@given(st.data(), cut_texts(), st.text(" \n\t", min_size=1, max_size=6))
def test_white_space_that_was_not_given_is_not_doubled(data: st.DataObject, parts: tuple[str, str], white: str) -> None:
    stripped, after = parts[0].rstrip(), parts[1].lstrip()
    before = stripped + white
    assume(stripped and not says_twice(stripped, white + after) and not says_twice(before, white + after))
    assert joined(before, data.draw(splits(white + after)), len(stripped)) == before + after


@UNTIMED
@given(st.data(), texts, texts)
def test_what_comes_out_is_the_end_of_what_went_in(data: st.DataObject, before: str, new: str) -> None:
    out = joined(before, data.draw(splits(new)), data.draw(st.integers(len(before.rstrip()), len(before))))
    assert out.startswith(before)
    assert new.endswith(out[len(before) :])
