"""Constrained slots: only whole words and whole numbers of the question get in, each once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.engines.embedded.constraint import CopyConstraint, EchoConstraint
from open_autoglm.engines.embedded.tokenizer import EOS, VOCABULARY_SIZE, decode, encode

CITY = '{"name":"weather","arguments":{"city":"'
SUM = '{"name":"calculator","arguments":{"expression":"'
CALL_END = '"}}'
SLOT_END = '"},"depends_on":['
PLAN_SUM = '[{"id":1,"tool":"calculator","args":{"expression":"'


def allowed_after(question: str, written: str, *, plan: bool = False) -> set[str] | None:
    """Texts of the tokens that may follow `written`; None for any."""
    constraint = CopyConstraint(encode(question), plan=plan)
    for token in encode(written):
        constraint.push(token)
    allowed = constraint.allowed()
    return None if allowed is None else {decode([token]) for token in allowed}


def test_outside_of_slots_everything_goes() -> None:
    assert allowed_after("weather in Rome", "") is None
    assert allowed_after("weather in Rome", '{"name":"weather","arguments":{"') is None


def test_a_city_starts_with_a_word_that_means_something() -> None:
    assert allowed_after("fog in Rome?", CITY) == {"f", "R", "?"}
    assert allowed_after("give me into in Rome", CITY) == {"R"}
    assert allowed_after("inside forest", CITY) == {"i", "f"}


def test_a_city_goes_on_and_ends_with_the_word() -> None:
    assert allowed_after("fog in Rome?", CITY + "Ro") == {"m"}
    assert allowed_after("fog in Rome?", CITY + "Rome") == {"?", CALL_END}
    assert allowed_after("fog in New York", CITY + "New") == {" "}
    assert allowed_after("fog in New York", CITY + "New ") == {"Y"}
    assert allowed_after("fog in new york", CITY + "new") == {" ", CALL_END}
    assert allowed_after("fog in Rome. Then go", CITY + "Rome") == {".", CALL_END}


def test_a_chinese_city_may_end_after_any_character() -> None:
    assert allowed_after("北京天气", CITY + "北") == {"京", CALL_END}


def test_a_slot_of_a_plan_ends_as_plans_do() -> None:
    start = '[{"id":1,"tool":"weather","args":{"city":"'
    assert allowed_after("fog in Rome?", start + "Rome", plan=True) == {"?", SLOT_END}


def test_both_units_are_copied_and_differ() -> None:
    start = '{"name":"convert","arguments":{"value":12,"from":"'
    assert allowed_after("12 km in m", start + "k") == {"m"}
    assert '","to":"' in (allowed_after("12 km in m", start + "km") or set())
    assert allowed_after("12 km in m", start + 'km","to":"') == {"m"}
    assert allowed_after("12 km in m", start + 'km","to":"m') == {CALL_END}


def test_a_value_is_a_whole_number() -> None:
    start = '{"name":"convert","arguments":{"value":'
    assert allowed_after("125 km in m", start) == {"1"}
    assert allowed_after("125 km in m", start + "12") == {"5"}
    assert allowed_after("125 km in m", start + "125") == {',"from":"'}
    assert allowed_after("12.5 km in m", start + "12") == {"."}


def test_an_expression_is_two_numbers_and_an_operator() -> None:
    assert allowed_after("12 plus 30", SUM) == {"1", "3"}
    assert allowed_after("12 plus 30", SUM + "12") == {"+", "-", "*", "/"}
    assert allowed_after("12 plus 30", SUM + "12+") == {"3"}
    assert allowed_after("12 plus 30", SUM + "12+30") == {CALL_END}
    assert allowed_after("12 plus 12", SUM + "12+") == {"1"}


def test_a_plan_may_use_an_earlier_result() -> None:
    assert allowed_after("add 30", PLAN_SUM, plan=True) == {"3", "$"}
    assert allowed_after("add 30", PLAN_SUM + "$", plan=True) is None
    assert allowed_after("add 30", PLAN_SUM + "$1", plan=True) == {"+", "-", "*", "/"}
    assert allowed_after("add 30", PLAN_SUM + "$1+", plan=True) == {"3"}
    assert allowed_after("add it", PLAN_SUM + "$1+", plan=True) == {"$"}
    assert allowed_after("add 30", PLAN_SUM + "$1+$1", plan=True) == {SLOT_END}


def test_the_parts_of_a_plan_follow_the_text() -> None:
    first = PLAN_SUM + "3+4" + SLOT_END + ']},{"id":2,"tool":"calculator","args":{"expression":"'
    assert allowed_after("1, 3 and 4, 5", first, plan=True) == {"5", "$"}


def test_without_any_number_the_model_is_free() -> None:
    assert allowed_after("plus", SUM) is None


def test_a_slot_that_leaves_the_text_frees_the_rest() -> None:
    assert allowed_after("fog in Rome?", CITY + "Q") is None


@given(st.text(max_size=20), st.lists(st.integers(0, VOCABULARY_SIZE - 1), max_size=40), st.booleans())
def test_never_forbids_everything(question: str, tokens: list[int], plan: bool) -> None:
    constraint = CopyConstraint(encode(question), plan=plan)
    for token in tokens:
        constraint.push(token)
        allowed = constraint.allowed()
        assert allowed is None or allowed


@given(st.text(alphabet="ab 12.北京+", max_size=20), st.integers(0, 2**32))
def test_every_walk_through_a_slot_ends(question: str, choices: int) -> None:
    constraint = CopyConstraint(encode(question), plan=False)
    for token in encode(CITY):
        constraint.push(token)
    end = encode(CALL_END)[0]
    for _ in range(len(question) + 1):
        allowed = constraint.allowed()
        if allowed is None:
            return
        choices, index = divmod(choices, len(allowed))
        token = sorted(allowed)[index]
        if token == end:
            return
        constraint.push(token)
    assert constraint.allowed() in (None, frozenset([end]))


@pytest.mark.parametrize(("sentence", "result"), [("The result is ", "21 C"), ("结果是", "21 度")])
def test_a_quotation_is_whole_and_then_ends(sentence: str, result: str) -> None:
    constraint = EchoConstraint(encode(result))
    for token in encode(sentence):
        assert constraint.allowed() is None
        constraint.push(token)
    for token in encode(result):
        assert constraint.allowed() == {token}
        constraint.push(token)
    assert constraint.allowed() == {EOS}
