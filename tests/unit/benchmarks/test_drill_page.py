"""The scorecard as Markdown."""

from benchmarks.drill.page import scorecard

FAULT = {
    "number": 8,
    "name": "cut",
    "title": "cut [early]",
    "stream": True,
    "grade": "wrong",
    "why": "a | b",
    "alike": 1,
}
FAULT |= {"requests": 2}
OTHER = FAULT | {"number": 17, "title": "another", "grade": "told"}
ABOUT = {"version": "1", "when": "2026-01-01", "rounds": 2}


def test_a_table_for_the_sixteen_and_one_for_the_others() -> None:
    text = scorecard({"targets": {"ours": ABOUT | {"faults": [FAULT, OTHER]}, "theirs": ABOUT | {"faults": []}}})
    lines = text.splitlines()
    assert "| 8 | cut \\[early\\] | – | **wrong** | – | – |" in lines
    assert "| 17 | another | – | told | – | – |" in lines
    assert lines.count("|  | **wrong** | 0 | 1 | 0 | 0 |") == 1
    assert "- ours, 8 cut, stream (1 of 2): a \\| b" in lines


def test_nothing_wrong_is_said_as_such() -> None:
    assert scorecard({"targets": {"ours": ABOUT | {"faults": [OTHER]}}}).endswith("- nothing")
