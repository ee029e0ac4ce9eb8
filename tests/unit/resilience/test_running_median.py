"""The estimate against the true median of seeded streams."""

import random
from math import exp, log

import pytest

from open_autoglm.resilience.running_median import RunningMedian


def test_the_first_samples_give_the_exact_median() -> None:
    median = RunningMedian()
    assert (median.value, median.count) == (0.0, 0)
    for number, (sample, middle) in enumerate(((5.0, 5.0), (1.0, 5.0), (3.0, 3.0), (2.0, 3.0), (9.0, 3.0)), start=1):
        median.add(sample)
        assert (median.value, median.count) == (middle, number)


@pytest.mark.parametrize("seed", range(5))
def test_it_rests_near_the_median_of_a_skewed_stream(seed: int) -> None:
    rng = random.Random(seed)
    median = RunningMedian()
    for _ in range(20_000):
        median.add(rng.lognormvariate(log(0.4), 1.0))
    assert 0.35 < median.value < 0.46


def test_it_follows_a_lasting_change() -> None:
    rng = random.Random(7)
    median = RunningMedian()
    for _ in range(100):
        median.add(rng.uniform(0.9, 1.1))
    for _ in range(2000):
        median.add(rng.uniform(9.0, 11.0))
    assert 9.5 < median.value < 10.5


def test_one_sample_moves_it_by_little() -> None:
    median = RunningMedian()
    for _ in range(25):
        median.add(1.0)
    median.add(1e9)
    assert median.value < 1.01
    for _ in range(500):
        median.add(1e9)
    assert median.value == pytest.approx(exp(1.0), rel=0.05)


def test_it_leaves_zero_again() -> None:
    median = RunningMedian()
    for _ in range(5000):
        median.add(1e-12)
    assert median.value > 0.0
    for _ in range(10_000):
        median.add(1.0)
    assert median.value > 0.9
