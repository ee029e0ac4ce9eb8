"""Canonical answers: stable under a second reading, equal for equal values, and never an exception."""

import json
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from open_autoglm.voting.canonical import canonical, read_answer
from open_autoglm.voting.number_form import number_form
from open_autoglm.voting.settings import AnswerForm, TeamSettings

FORMS: tuple[AnswerForm, ...] = ("auto", "number", "choice", "json", "text")
PIECES = st.sampled_from(
    [
        "answer is", "Answer:", "####", "\\boxed{", "}", "答案是", "12", "1,234.5", "½", "10³", "-", "%", "百分之",
        "三十", "点五", " ", "\n", "$", "km", "(B)", "A", "{", "\"a\":1", "[1]", "```json\n", "```", ".", "/",
        "e9", "**", "yes", "是", "x", "=", "C)", "^", ": ", ";",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(TEXTS, st.sampled_from(FORMS))
@example("\\boxed{\\boxed{1}", "auto")
@example("answer: answer: x", "text")
def test_the_form_of_a_form_is_itself(text: str, form: AnswerForm) -> None:
    once = canonical(text, form)
    assert canonical(once, form) == once


@given(TEXTS, st.lists(st.text("abcXYZ红蓝 ", min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_choice_is_one_of_the_choices_and_stays(text: str, choices: list[str]) -> None:
    once = canonical(text, "choice", choices)
    assert once in ("", *choices)
    assert canonical(once, "choice", choices) == once


@given(st.text(), st.sampled_from(FORMS), st.sampled_from(["stop", "length", ""]))
def test_any_text_is_read_as_an_answer_or_flagged(text: str, form: AnswerForm, finish_reason: str) -> None:
    reading = read_answer(text, TeamSettings(answer_form=form, answer_chars_max=50), finish_reason)
    assert bool(reading.answer) != bool(reading.flags)
    assert (len(text) > 50) == ("too_long" in reading.flags)
    assert (finish_reason == "length") == ("truncated" in reading.flags)


@given(st.integers(-(10**20), 10**20), st.integers(0, 6))
def test_a_number_is_the_same_however_it_is_written(digits: int, places: int) -> None:
    value = Fraction(digits, 10**places)
    sign = "-" if digits < 0 else ""
    whole, rest = divmod(abs(digits), 10**places)
    point = f".{rest:0{places}d}" if places else ""
    plain = f"{sign}{whole}{point}"
    fullwidth = plain.translate({ord(str(digit)): chr(0xFF10 + digit) for digit in range(10)})
    forms = {
        number_form(written)
        for written in (
            plain,
            f"{sign}{whole:,}{point}",
            f"{sign}{whole}{point or '.'}0",
            f"{plain}e0",
            f"{value.numerator}/{value.denominator}",
            fullwidth,
            f"First 7, then 8 more. The answer is {plain}.",
            f"答案是：{plain}。",
            f"so \\boxed{{{plain}}} as shown in step 3",
            f"#### {plain}",
        )
    }
    assert forms == {str(value)}


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_other_values_are_other_numbers(one: Fraction, other: Fraction) -> None:
    assert (number_form(str(one)) == number_form(str(other))) == (one == other)


@given(VALUES, st.randoms(use_true_random=False))
def test_json_is_equal_by_value(value: Any, random: Any) -> None:
    def shuffled(part: Any) -> Any:
        if isinstance(part, dict):
            keys = list(part)
            random.shuffle(keys)
            return {key: shuffled(part[key]) for key in keys}
        if isinstance(part, list):
            return [shuffled(item) for item in part]
        return part

    once = canonical(json.dumps(value), "json")
    assert once == canonical(json.dumps(shuffled(value), indent=2, ensure_ascii=False), "json")
    assert json.loads(once, parse_int=float) == value
    if isinstance(value, dict):
        fenced = f"Here:\n```json\n{json.dumps(value, indent=1)}\n```"
        assert canonical(fenced, "json") == once


@given(VALUES, VALUES)
def test_other_json_is_another_answer(one: Any, other: Any) -> None:
    same = canonical(json.dumps(one), "json") == canonical(json.dumps(other), "json")
    # Python holds True for 1; JSON does not.
    assert same == (one == other and json.dumps(one).count("true") == json.dumps(other).count("true")
                    and json.dumps(one).count("false") == json.dumps(other).count("false"))  # fmt: skip
