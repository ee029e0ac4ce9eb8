"""The worst of a fault's requests counts."""

from open_autoglm.testing.cases import SIXTEEN
from open_autoglm.testing.drill import Result
from open_autoglm.testing.judge import RESCUED, Verdict
from open_autoglm.testing.scorecard import as_json, is_clean, score, totals

FIRST, SECOND = SIXTEEN[:2]
TOLD = Verdict("told", "502")
RESULTS = [
    Result(SECOND, True, Verdict("wrong", "doubled"), 1.0, 2),
    Result(FIRST, False, RESCUED, 1.0, 2),
    Result(FIRST, False, TOLD, 3.25, 1),
    Result(FIRST, False, RESCUED, 2.0, 4),
]


def test_a_line_for_each_fault_and_kind() -> None:
    first, second = score(RESULTS)
    assert (first.number, first.stream, first.grade, first.why) == (1, False, "told", "502")
    assert (first.requests, first.alike, first.slowest_s, first.most_tries) == (3, 1, 3.25, 4)
    assert (first.cell, second.cell) == ("told (1 of 3)", "wrong")


def test_totals_count_faults() -> None:
    scores = score(RESULTS)
    assert totals(scores) == {
        "unary": {"rescued": 0, "told": 1, "wrong": 0},
        "stream": {"rescued": 0, "told": 0, "wrong": 1},
    }
    assert not is_clean(scores)
    assert is_clean(score(RESULTS[1:]))
    assert as_json(scores)["faults"][1]["why"] == "doubled"
