"""Every fuzz target, on its corpus and some mutations of it: about 20 s each on one core.

`python tests/fuzz/drive.py` runs more of them; what was run once is in `docs/fuzzing.md`.
"""

from __future__ import annotations

import pytest
from tests.fuzz.drive import drive, targets

INPUTS = {
    "config_reader": 50_000,
    "frames": 40_000,
    "facts": 30_000,
    "gossip": 30_000,
    "http_client_shell": 200_000,
    "http_server_shell": 80_000,
    "json_bodies": 150_000,
    "messages": 200_000,
    "sse": 25_000,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", targets())
def test_no_input_breaks_it(name: str) -> None:
    report = drive(name, inputs=INPUTS[name], seed=20_240_601)
    assert not report.crashes
    assert report.inputs == INPUTS[name]
    assert report.corpus > 0
    assert report.lines > 100, "our code was reached"
