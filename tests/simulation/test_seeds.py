"""A thousand random runs of the whole server; a failing one prints the command that replays it."""

from __future__ import annotations

import pytest

from open_autoglm.testing.simulation import explain, simulate

SEEDS = 1000
BATCH = 25


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_seeds(first: int) -> None:
    outcomes = [simulate(seed) for seed in range(first, first + BATCH)]
    failing = [explain(outcome) for outcome in outcomes if outcome.broken]
    assert not failing, "\n".join(failing)
    assert sum(outcome.requests for outcome in outcomes) > 20 * BATCH
