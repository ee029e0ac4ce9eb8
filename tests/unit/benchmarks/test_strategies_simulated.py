"""The simulated comparison: every strategy has a row, and rows are what they say."""

import pytest
from benchmarks.strategies_simulated import ERRORS, SEED, TEAMS, bounds, measure, variants, watched

from open_autoglm.testing.model_zoo import Zoo
from open_autoglm.voting.catalog import STRATEGIES

ITEMS = 40


@pytest.mark.parametrize("team", sorted(TEAMS))
def test_every_strategy_has_a_row_between_nothing_and_the_ceiling(team: str) -> None:
    correlation, shared_wrong = ERRORS["apart"]
    case = watched(Zoo(TEAMS[team], SEED, correlation=correlation, shared_wrong=shared_wrong), 200)
    rows = variants(case)
    assert {strategy for strategy, _, _ in rows.values()} == set(STRATEGIES)
    limits = bounds(case, ITEMS)
    assert limits["ceiling"]["accuracy"] >= max(limits[f"{name} alone"]["accuracy"] for name in case.zoo.models)
    for label, (strategy, settings, members) in rows.items():
        row = measure(case, strategy, settings, members, ITEMS)
        low, high = row["accuracy_95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1, label
        assert row["calls"] >= 1
        assert row["latency_s_p50"] <= row["latency_s_p95"] <= row["latency_s_p99"]
