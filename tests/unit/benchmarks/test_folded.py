"""Folded stacks."""

import pytest
from benchmarks.rig.folded import parse


def test_own_and_whole_samples_are_counted() -> None:
    profile = parse("main;serve;parse 3\nmain;serve 1\n\nmain;walk;walk;walk 6\n")
    assert profile.samples == 10
    assert profile.own == {"parse": 3, "serve": 1, "walk": 6}
    assert profile.whole == {"main": 10, "serve": 4, "parse": 3, "walk": 6}
    assert profile.lines(1) == [" 60.0%  60.0%  walk"]


def test_waiting_threads_are_left_out() -> None:
    profile = parse("main;wait (a.py) 90\nmain;wait (a.py);check 1\nmain;serve 4\n", ("wait ",))
    assert (profile.samples, profile.own) == (5, {"check": 1, "serve": 4})


def test_names_may_hold_spaces() -> None:
    assert parse("run (a.py);read file (b.py) 2").own == {"read file (b.py)": 2}


@pytest.mark.parametrize("line", ["main;serve", "7", "main;serve x"])
def test_a_line_without_a_count_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a folded stack"):
        parse(line)
