"""Our side of the comparison of task graphs."""

import sys
from pathlib import Path

import pytest
from benchmarks.graph.run import measure
from benchmarks.graph.work import MODES


@pytest.mark.parametrize("mode", MODES)
def test_it_measures(mode: str) -> None:
    figures = measure(Path(sys.executable), "ours.py", mode)
    assert figures
    assert all(isinstance(each, float) and each > 0 for each in figures.values())
