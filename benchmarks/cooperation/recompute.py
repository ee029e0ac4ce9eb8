"""Computes anew what a model has written down, exactly: as a tool of a server, and for the table.

It knows how the models that ship think. A sum's columns stand from the least digit on, `a b carry digit` each, behind
the operation; a minus sign behind that says that the result is below zero, and then the operands were exchanged. A
factor of one digit stands in every column.
"""

from __future__ import annotations

import re
from typing import Final

from open_autoglm.engines.embedded.calculator import guard

_COLUMNS: Final = re.compile(r"([-+*])(-?)((?: \d{4})+)")


def recompute(question: str, answer: str, reasoning: str) -> str | None:
    """The exact result of the sum whose columns a model has written down in its thinking.

    Args:
        question, answer: every member is given them; they say nothing that is needed here.
        reasoning: what the model thought.

    Returns:
        None where there are no columns, as in answers that are no sums.
    """
    return recomputed(reasoning) or None


def recomputed(thinking: str) -> str:
    """What the calculator makes of the operation and the operands in a model's columns; empty when they are none."""
    found = _COLUMNS.fullmatch(thinking.strip())
    if found is None:
        return ""
    operation, sign, columns = found[1], found[2], found[3].split()
    first = "".join(column[0] for column in reversed(columns))
    second = columns[0][1] if operation == "*" else "".join(column[1] for column in reversed(columns))
    if sign:
        first, second = second, first
    return computed(f"{int(first)} {operation} {int(second)}")


def computed(expression: str) -> str:
    """The exact value of an expression; empty when it is none."""
    answer = guard(expression, 0)
    return answer.text if answer is not None and answer.reasoning.startswith("calculator") else ""
