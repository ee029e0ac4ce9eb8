"""Figures of tokens that another server tells are figures, or none is taken."""

from __future__ import annotations

import pytest

from open_autoglm.dialects.canonical import TokenScore
from open_autoglm.dialects.logprobs import read_scores


def told(logprob: object) -> object:
    return {"content": [{"token": "a", "logprob": logprob, "bytes": [97]}]}


def test_a_figure_is_taken_and_is_no_more_than_certain() -> None:
    assert read_scores(told(-1)) == [TokenScore(b"a", -1.0)]
    assert read_scores(told(0.5)) == [TokenScore(b"a", 0.0)]


@pytest.mark.parametrize("logprob", [float("nan"), float("-inf"), float("inf"), -(10**400), True, None, "-1"])
def test_what_is_no_figure_makes_nothing_certain(logprob: object) -> None:
    assert read_scores(told(logprob)) == []
