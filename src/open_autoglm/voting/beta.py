"""The Beta distribution: what is known of a share after so many hits and misses.

The regularised incomplete beta function I_x(a, b) is the chance that the share is below x. For whole numbers at x = 1/2
it is a sum of binomials, computed exactly; else Lentz's continued fraction (Numerical Recipes, 6.4), good to 1e-12 for
a, b up to about 1e6.
"""

from __future__ import annotations

from math import comb, exp, lgamma, log, log1p
from typing import Final

_EXACT_MAX: Final = 256
"""Of a + b: beyond it the sum has too many terms."""
_TERMS_MAX: Final = 20_000
_TINY: Final = 1e-300
_PRECISION: Final = 1e-15
_HALVINGS: Final = 40


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return I_x(a, b).

    Args:
        x: 0 to 1.
        a, b: above 0, up to about 1e6.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x == 0.5 and a == int(a) and b == int(b) and a + b <= _EXACT_MAX:
        trials = int(a) + int(b) - 1
        return sum(comb(trials, hits) for hits in range(int(a), trials + 1)) / (1 << trials)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf_fraction(1.0 - x, b, a)
    return beta_cdf_fraction(x, a, b)


def beta_cdf_fraction(x: float, a: float, b: float) -> float:
    """As `beta_cdf` for 0 < x < 1, always by the continued fraction, which is fast for x < (a + 1) / (a + b + 2)."""
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _TERMS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < _PRECISION:
            break
    return min(1.0, front * value)


def beta_quantile(share: float, a: float, b: float) -> float:
    """Return the x with I_x(a, b) = `share`, by halving.

    Args:
        share: 0 to 1.
        a, b: above 0.
    """
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def chance_leads(first: int, second: int) -> float:
    """Return how sure it is that the answer with `first` votes is the likelier one of it and that with `second`.

    That is 1 - I_(1/2)(first + 1, second + 1): the share of the first, both alike beforehand, is above a half
    (adaptive consistency, Aggarwal et al. 2023, arXiv 2305.11860).
    """
    return beta_cdf(0.5, second + 1, first + 1)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
