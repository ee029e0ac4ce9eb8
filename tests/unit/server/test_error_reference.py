"""The page of errors: up to date, complete, and true to what the code raises."""

import ast
from pathlib import Path

from open_autoglm.errors import CODES
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.server.error_reference import MEANINGS, PAGE, RESERVED, meanings_of_outcomes, page

ROOT = Path(__file__).parents[3]
TABLES = ("errors.py", "error_reference.py")
"""Where codes are only listed."""


def texts_in_the_code() -> set[str]:
    """Every text constant of the sources, docstrings aside as far as they are longer than a word."""
    found: set[str] = set()
    for path in sorted((ROOT / "src").rglob("*.py")):
        if path.name not in TABLES:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


def test_the_committed_page_is_up_to_date() -> None:
    advice = "out of date; run `python -m open_autoglm.server.error_reference`"
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is {advice}"


def test_each_code_is_either_explained_or_reserved() -> None:
    assert set(MEANINGS) | set(RESERVED) == set(CODES)
    assert not set(MEANINGS) & set(RESERVED)


def test_what_is_explained_is_raised_and_what_is_reserved_is_not() -> None:
    used = texts_in_the_code()
    assert sorted(code for code in MEANINGS if code not in used) == []
    assert sorted(code for code in RESERVED if code in used) == []


def test_each_outcome_has_a_meaning_and_a_row() -> None:
    assert set(meanings_of_outcomes()) == set(RULES)
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    for word in RULES:
        assert sum(row.startswith(f"| `{word}` |") for row in rows) == 1, word
