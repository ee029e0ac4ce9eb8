"""The tokenizer: its layout, and that no text is lost or torn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.engines.embedded import prompt, tokenizer


def test_has_628_tokens_and_no_text_twice() -> None:
    assert tokenizer.VOCABULARY_SIZE == len(tokenizer.TOKEN_BYTES) == 628
    texts = tokenizer.TOKEN_BYTES[tokenizer.ASCII_FIRST :]
    assert len(set(texts)) == len(texts)


def test_digits_are_single_tokens() -> None:
    assert len(tokenizer.encode("1234567890")) == 10


def test_the_longest_piece_wins() -> None:
    assert tokenizer.encode('{"name":"calculator') == [
        tokenizer.token_id('{"name":"'),
        tokenizer.token_id("calculator"),
    ]


def test_a_tool_call_is_short() -> None:
    call = '{"name":"weather","arguments":{"city":"Rome"}}'
    assert len(tokenizer.encode(call)) == 9


def test_text_cannot_spell_a_special_token() -> None:
    for special in tokenizer.SPECIALS:
        assert min(tokenizer.encode(special)) >= tokenizer.ASCII_FIRST


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, tokenizer.VOCABULARY_SIZE - 1), max_size=60))
def test_streaming_gives_the_same_text_in_whole_characters(ids: list[int]) -> None:
    decoder = tokenizer.StreamDecoder()
    parts = [*(decoder.push(token) for token in ids), decoder.finish()]
    assert "".join(parts) == tokenizer.decode(ids)
    assert all(part.encode().decode() == part for part in parts)


def test_an_unfinished_character_is_held_back() -> None:
    decoder = tokenizer.StreamDecoder()
    first, *rest = tokenizer.encode("é")
    assert decoder.push(first) == ""
    assert [decoder.push(token) for token in rest] == ["é"]
    decoder.push(first)
    assert decoder.finish() == "\ufffd"


@pytest.mark.parametrize("word", prompt.SYSTEM_WORDS)
def test_a_system_word_is_one_token_before_the_user(word: prompt.SystemWord) -> None:
    head = [tokenizer.GMASK, tokenizer.SOP]
    asked = [tokenizer.USER, tokenizer.token_id("7"), tokenizer.ASSISTANT]
    assert prompt.build("7") == head + asked
    assert prompt.build("7", word) == [*head, tokenizer.SYSTEM, tokenizer.token_id(word), *asked]
