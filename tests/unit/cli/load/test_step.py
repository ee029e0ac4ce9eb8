"""From samples to figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.cli.load.connection import Sample
from open_autoglm.cli.load.step import quantile, summarize


def sample(ms: float, status: int = 200, failure: str = "", tokens: int = 0) -> Sample:
    return Sample(status, failure, 10.0, 10.0 + ms / 2000, 10.0 + ms / 1000, tokens)


def test_figures() -> None:
    answers = [sample(ms, tokens=3) for ms in range(1, 101)]
    step = summarize(4, 2.0, [*answers, sample(9999, 429), sample(9999, 0, "timeout")], 0.5)
    assert (step.good, step.rate, step.tokens_per_s) == (100, 50.0, 150.0)
    assert step.failures == {"status 429": 1, "timeout": 1}
    assert step.failed == 2
    assert (step.p50_ms, step.p99_ms, step.first_p50_ms) == pytest.approx((50.0, 99.0, 25.0))


def test_no_answer_gives_no_figures() -> None:
    step = summarize(1, 1.0, [], 0.0)
    assert (step.good, step.rate, step.p50_ms, step.p99_ms) == (0, 0.0, 0.0, 0.0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.001, 1.0))
def test_a_quantile_is_the_least_value_that_covers_its_share(values: list[float], q: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, q)
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert sum(value < found for value in values) < q * len(values) + 1e-9
