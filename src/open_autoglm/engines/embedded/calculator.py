"""The deterministic guard in front of the embedded models: sums beyond their training are calculated.

A tiny model does not generalise to numbers longer than it was trained on, so it must never be asked. This
guard reads a question, and when it holds one plain calculation that is outside the training (more digits,
division, several operators, decimals, a leading minus, two long factors), computes it exactly. Everything
else, and every sum within the training, is left to the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

NUMBER_DIGITS_MAX: Final = 40  # per operand; longer ones are refused, so that no answer is unbounded work
OPERANDS_MAX: Final = 16
DECIMALS: Final = 6  # of a quotient that does not end

_NUMBER: Final = r"\d+(?:\.\d+)?"
_WORDS: Final = {
    "+": r"\+|plus|加上|加",
    "-": r"-|−|minus|减去|减",
    "*": r"\*|×|x|X|times|multiplied by|乘以|乘",
    "/": r"/|÷|divided by|除以",
}
_OPERATOR: Final = "|".join(f"(?:{pattern})" for pattern in _WORDS.values())
_CHAIN: Final = re.compile(rf"(?<![\d.\w])-?{_NUMBER}(?:\s*(?:{_OPERATOR})\s*-?{_NUMBER})+(?![\d\w]*[A-Za-z])")
_SIGN: Final = re.compile(r"(?<![\d.\w])-\d")
_PHRASES: Final = tuple(
    (operation, swap, re.compile(pattern, re.IGNORECASE))
    for operation, swap, pattern in (
        ("+", False, rf"add ({_NUMBER}) (?:and|to) ({_NUMBER})"),
        ("+", False, rf"sum of ({_NUMBER}) and ({_NUMBER})"),
        ("-", True, rf"subtract ({_NUMBER}) from ({_NUMBER})"),
        ("-", True, rf"take ({_NUMBER}) away from ({_NUMBER})"),
        ("-", False, rf"difference (?:of|between) ({_NUMBER}) and ({_NUMBER})"),
        ("*", False, rf"multiply ({_NUMBER}) (?:by|and|with) ({_NUMBER})"),
        ("*", False, rf"product of ({_NUMBER}) and ({_NUMBER})"),
        ("/", False, rf"divide ({_NUMBER}) by ({_NUMBER})"),
        ("+", False, rf"({_NUMBER})[与和]({_NUMBER})(?:的和|相加)"),
        ("-", False, rf"({_NUMBER})[与和]({_NUMBER})的差"),
        ("*", False, rf"({_NUMBER})[与和]({_NUMBER})(?:的积|相乘)"),
        ("-", False, rf"从({_NUMBER})里?减去({_NUMBER})"),
        ("*", False, rf"({_NUMBER})的({_NUMBER})倍"),
    )
)


@dataclass(frozen=True, slots=True)
class GuardedAnswer:
    """What is answered in the model's place.

    Attributes:
        reasoning: one line that says that a calculator answered, and why.
        text: the answer.
    """

    reasoning: str
    text: str


def guard(text: str, digits_max: int) -> GuardedAnswer | None:
    """The calculator's answer to a sum beyond `digits_max` digits or operations; None leaves it to the model."""
    numbers = re.findall(_NUMBER, text)
    if len(numbers) < 2:
        return None
    if any(len(number) > NUMBER_DIGITS_MAX for number in numbers) or len(numbers) > OPERANDS_MAX:
        return _refusal(text, digits_max)
    chain = _read(text, len(numbers))
    too_long = any(len(number.split(".")[0]) > digits_max for number in numbers)
    if chain is None:
        return _refusal(text, digits_max) if too_long else None
    operands, operators = chain
    why = _reason(operands, operators, digits_max)
    if why is None:
        return None
    expression = operands[0] + "".join(f" {op} {value}" for op, value in zip(operators, operands[1:], strict=True))
    answer = _compute(operands, operators)
    if answer is None:
        return GuardedAnswer(f"calculator: {expression} divides by zero", _no_answer(text))
    return GuardedAnswer(f"calculator: {expression} = {answer} ({why})", answer)


def calculate(text: str) -> str:
    """The exact value of the one calculation that a text holds, however simple.

    Raises:
        ValueError: it holds none, one that is not understood, or numbers that are too long or too many.
        ZeroDivisionError: it divides by zero.
    """
    numbers = re.findall(_NUMBER, text)
    if any(len(number) > NUMBER_DIGITS_MAX for number in numbers) or len(numbers) > OPERANDS_MAX:
        raise ValueError(f"no more than {OPERANDS_MAX} numbers of {NUMBER_DIGITS_MAX} digits are calculated with")
    chain = _read(text, len(numbers))
    if chain is None:
        raise ValueError("no plain calculation is found; write it like 12.5 * -3 + 4, without parentheses")
    answer = _compute(*chain)
    if answer is None:
        raise ZeroDivisionError("division by zero has no answer")
    return answer


def _read(text: str, count: int) -> tuple[list[str], list[str]] | None:
    """Operands and operators of the one calculation that uses all `count` numbers of the text."""
    found = _CHAIN.search(text)
    if found is not None:
        operands = re.findall(_NUMBER, found.group())
        if len(operands) == count:
            return _split(found.group())
    if count != 2:
        return None
    for operation, swap, pattern in _PHRASES:
        match = pattern.search(text)
        if match is not None:
            first, second = match.group(1), match.group(2)
            return ([second, first] if swap else [first, second]), [operation]
    return None


def _split(chain: str) -> tuple[list[str], list[str]]:
    """Operands, with their signs, and operators of `12 plus -3 * 4`."""
    operands: list[str] = []
    operators: list[str] = []
    rest = chain
    while True:
        number = re.match(rf"-?{_NUMBER}", rest)
        if number is None:
            raise ValueError(f"no number at {rest!r}")
        operands.append(number.group())
        rest = rest[number.end() :].lstrip()
        if not rest:
            return operands, operators
        for operation, pattern in _WORDS.items():
            match = re.match(pattern, rest)
            if match is not None:
                operators.append(operation)
                rest = rest[match.end() :].lstrip()
                break


def _reason(operands: list[str], operators: list[str], digits_max: int) -> str | None:
    """Why the model was not trained for this calculation; None when it was."""
    if len(operators) > 1:
        return "the model was trained on one operation at a time"
    if operators[0] == "/":
        return "the model was not trained on division"
    if any("." in operand or operand.startswith("-") for operand in operands):
        return "the model was trained on whole numbers without a sign"
    if max(len(operand) for operand in operands) > digits_max:
        return f"the model was trained on numbers of up to {digits_max} digits"
    if operators[0] == "*" and min(len(operand) for operand in operands) > 1:
        return "the model was trained to multiply by one digit"
    return None


def _compute(operands: list[str], operators: list[str]) -> str | None:
    """Exact value with the usual precedence; None when it divides by zero."""
    terms = [Fraction(operands[0])]
    for operator, operand in zip(operators, operands[1:], strict=True):
        value = Fraction(operand)
        match operator:
            case "+":
                terms.append(value)
            case "-":
                terms.append(-value)
            case "*":
                terms[-1] *= value
            case _:
                if value == 0:
                    return None
                terms[-1] /= value
    return _written(sum(terms, Fraction(0)))


def _written(value: Fraction) -> str:
    """A whole number as it is, anything else rounded to `DECIMALS` places without trailing zeros."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = round(abs(value) * 10**DECIMALS)
    whole, part = divmod(scaled, 10**DECIMALS)
    decimals = f"{part:0{DECIMALS}d}".rstrip("0")
    sign = "-" if value < 0 and scaled else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def is_chinese(text: str) -> bool:
    """Whether the text has a Chinese character, and is therefore answered in Chinese."""
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _refusal(text: str, digits_max: int) -> GuardedAnswer:
    """An honest answer to long numbers in a sentence that the calculator cannot read."""
    reasoning = f"guard: numbers beyond the {digits_max} digits that the model was trained on"
    if is_chinese(text):
        return GuardedAnswer(reasoning, f"我只学过{digits_max}位以内的数。请写成算式，例如 123456 + 30。")
    return GuardedAnswer(
        reasoning, f"I was trained on numbers of up to {digits_max} digits. Write it plainly, like 123456 + 30."
    )


def _no_answer(text: str) -> str:
    return "除以零没有答案。" if is_chinese(text) else "Division by zero has no answer."
