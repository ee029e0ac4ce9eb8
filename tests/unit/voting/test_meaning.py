"""Which free texts are counted as one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.voting.meaning import LETTERS_MAX, TEXTS_MAX, Meanings

QUESTION = "What is the capital of France and why is it famous?"


def groups(*texts: str, question: str = QUESTION) -> list[int]:
    meanings = Meanings(question)
    answers = [meanings.answer(text) for text in texts]
    return [answers.index(answer) for answer in answers]


def test_the_same_in_nearly_the_same_words_is_one_answer() -> None:
    assert (
        groups("The capital of France is Paris.", "Paris is the capital of France.", "It's Paris!", "PARIS") == [0] * 4
    )
    assert groups("法国的首都是巴黎", "巴黎是法国的首都。") == [0, 0]


def test_another_word_where_it_matters_is_another_answer() -> None:
    assert groups("The capital of France is Paris.", "The capital of France is Lyon.", "Lyon.") == [0, 1, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The train leaves at 14:05 from platform 3", "The train leaves at 14:05 from platform 4"),
        ("This mushroom is safe to eat", "This mushroom is not safe to eat"),
        ("It works", "It doesn't work"),
        ("可以", "不可以"),
        ("It is 1,000", "It is 1,0000"),
    ],
)
def test_numbers_and_denials_keep_texts_apart(one: str, other: str) -> None:
    assert groups(one, other, question="") == [0, 1]


@given(texts=st.lists(st.text(max_size=30), max_size=12))
def test_it_is_the_same_every_time_and_a_copy_is_the_same_answer(texts: list[str]) -> None:
    one, other = Meanings(QUESTION), Meanings(QUESTION)
    answers = [one.answer(text) for text in texts]
    assert [other.answer(text) for text in texts] == answers
    assert all(answer in answers for answer in (one.answer(text) for text in texts))


def test_nothing_said_is_no_answer() -> None:
    assert [Meanings().answer(text) for text in ("", "  \n", "...", "!?")] == [""] * 4


def test_it_is_bounded() -> None:
    meanings = Meanings()
    answers = {meanings.answer(f"word{chr(97 + place % 26) * 9}{chr(97 + place // 26) * 9}") for place in range(200)}
    assert len(answers) > TEXTS_MAX, "a text beyond the groups is an answer of its own"
    assert len(meanings.answer("x " * 10**6)) <= LETTERS_MAX


def test_a_nearness_that_means_nothing_is_refused() -> None:
    for near in (0.0, -1.0, 1.1):
        with pytest.raises(ValueError, match="near"):
            Meanings(near=near)
