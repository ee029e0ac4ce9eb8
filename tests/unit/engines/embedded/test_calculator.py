"""The guard: what is left to the model, and what is calculated instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.engines.embedded.calculator import NUMBER_DIGITS_MAX, guard


@pytest.mark.parametrize(
    "text",
    [
        "12 + 30",
        "What is 9999 plus 1?",
        "Subtract 12 from 9999",
        "7 * 9999",
        "9999 times 7",
        "3 - 9999",
        "Tom has 12 apples and gets 30 more. How many now?",
        "hello",
        "is 97 a prime number?",
        "call me at 5551234567",
        "A box holds 24 pens. How many pens in 3 boxes?",
        "计算12+30",
        "12的3倍是多少",
    ],
)
def test_leaves_to_the_model(text: str) -> None:
    assert guard(text, 4) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12345 + 30", "12375"),
        ("What is 30 plus 12345?", "12375"),
        ("Subtract 12 from 100000", "99988"),
        ("Take 100000 away from 12", "-99988"),
        ("12 minus 100000", "-99988"),
        ("25 * 13", "325"),
        ("25 x 13", "325"),
        ("Multiply 25 by 13", "325"),
        ("What is the product of 25 and 13?", "325"),
        ("8 / 2", "4"),
        ("What is 8 divided by 3?", "2.666667"),
        ("Divide 1 by 8", "0.125"),
        ("1 / 3000000", "0"),
        ("-1 / 3", "-0.333333"),
        ("1 + 2 + 3", "6"),
        ("1 + 2 * 3 - 4", "3"),
        ("2 * 3 / 4", "1.5"),
        ("1.5 + 2.25", "3.75"),
        ("-5 + 3", "-2"),
        ("5 - -3", "8"),
        ("12345加30等于多少？", "12375"),
        ("从100000里减去1还剩多少", "99999"),
        ("求12345与30的和", "12375"),
        ("求12345与30的差", "12315"),
        ("25乘以13是多少", "325"),
        ("8除以2是多少", "4"),
        ("12345的2倍是多少", "24690"),
        ("12345和5相加得多少", "12350"),
    ],
)
def test_calculates_what_is_beyond_the_training(text: str, answer: str) -> None:
    found = guard(text, 4)
    assert found is not None
    assert found.text == answer
    assert found.reasoning.startswith("calculator: ")
    assert answer in found.reasoning


def test_the_limit_is_the_models_own() -> None:
    assert guard("1000 + 1", 4) is None
    assert guard("1000 + 1", 3) is not None


def test_division_by_zero_is_answered_in_the_users_language() -> None:
    english, chinese = guard("5 / 0", 4), guard("5除以0", 4)
    assert english is not None
    assert english.text == "Division by zero has no answer."
    assert chinese is not None
    assert chinese.text == "除以零没有答案。"


@pytest.mark.parametrize(
    "text",
    [
        "Tom has 123456 apples and gets 30 more. How many now?",
        f"{'9' * (NUMBER_DIGITS_MAX + 1)} + 1",
        " + ".join("1" * 17),
    ],
)
def test_says_so_when_it_cannot_read_a_long_sum(text: str) -> None:
    found = guard(text, 4)
    assert found is not None
    assert found.text.startswith("I was trained on numbers of up to 4 digits")
    assert found.reasoning.startswith("guard: ")


def test_says_so_in_chinese() -> None:
    found = guard("小明有123456个苹果，又买了3个，一共有几个？", 4)
    assert found is not None
    assert found.text.startswith("我只学过4位")


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from("+-*"))
def test_agrees_with_python(a: int, b: int, operation: str) -> None:
    expected = {"+": a + b, "-": a - b, "*": a * b}[operation]
    found = guard(f"{a} {operation} {b}", 0)
    assert found is not None
    assert found.text == str(expected)


@given(st.text(alphabet="0123456789+-*/ .x加减乘除以plusab", max_size=60))
def test_never_raises(text: str) -> None:
    found = guard(text, 4)
    assert found is None or found.text
