"""Every fuzz target, on its corpus and some mutations of it. `python tests/fuzz/drive.py` runs more of them."""

from __future__ import annotations

import pytest
from tests.fuzz.drive import drive, targets

INPUTS = 50_000
FEWER = {"sse": 15_000}
"""Targets that do more with each input."""


@pytest.mark.parametrize("name", targets())
def test_no_input_breaks_it(name: str) -> None:
    report = drive(name, inputs=FEWER.get(name, INPUTS), seed=20_240_601)
    assert not report.crashes
    assert report.inputs == FEWER.get(name, INPUTS)
    assert report.corpus > 0
    assert report.lines > 100, "our code was reached"
