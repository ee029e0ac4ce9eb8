"""The Beta distribution against values that are known otherwise."""

from math import comb

import pytest

from open_autoglm.voting.beta import beta_cdf, beta_cdf_fraction, beta_quantile, chance_leads


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [
        (0.3, 1, 1, 0.3),
        (0.25, 2, 1, 0.0625),
        (0.25, 1, 2, 1 - 0.75**2),
        (0.5, 0.5, 0.5, 0.5),
        (0.25, 0.5, 0.5, 1 / 3),  # arcsine law: 2/pi * asin(sqrt(x))
        (0.9, 2, 3, 6 * 0.9**2 - 8 * 0.9**3 + 3 * 0.9**4),
        (0.5, 7.5, 7.5, 0.5),
        (0.0, 3, 4, 0.0),
        (1.0, 3, 4, 1.0),
    ],
)
def test_values_with_a_closed_form(x: float, a: float, b: float, expected: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(expected, abs=1e-13)


def test_whole_numbers_at_one_half_are_exact() -> None:
    for a in range(1, 12):
        for b in range(1, 12):
            expected = sum(comb(a + b - 1, hits) for hits in range(a, a + b)) / 2 ** (a + b - 1)
            assert beta_cdf(0.5, a, b) == expected
            assert beta_cdf_fraction(0.5, a, b) == pytest.approx(expected, rel=1e-11)


def test_both_ways_agree_where_they_meet_and_far_out() -> None:
    assert beta_cdf(0.5, 128, 128) == 0.5
    assert beta_cdf(0.5, 1000, 1000) == pytest.approx(0.5, abs=1e-11)
    assert beta_cdf(0.5, 1100, 1000) == pytest.approx(1 - beta_cdf(0.5, 1000, 1100), abs=1e-10)
    assert beta_cdf(0.5, 100_000, 100_000) == pytest.approx(0.5, abs=1e-8)


def test_a_quantile_is_where_the_share_is() -> None:
    assert beta_quantile(0.25, 1, 1) == pytest.approx(0.25)
    assert beta_quantile(0.5, 0.5, 0.5) == pytest.approx(0.5)
    assert beta_quantile(1 / 3, 0.5, 0.5) == pytest.approx(0.25, abs=1e-9)
    assert beta_cdf(beta_quantile(0.25, 80, 20), 80, 20) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 0.5), (1, 0, 0.75), (3, 0, 0.9375), (4, 0, 0.96875), (5, 5, 0.5), (2, 1, 0.6875), (7, 2, 1 - 56 / 1024)],
)
def test_how_sure_the_first_of_two_is(first: int, second: int, expected: float) -> None:
    assert chance_leads(first, second) == expected
