"""Whether counts fit expected shares: Pearson's test at one in ten thousand, for seeded draws."""

# Quantiles of the chi-square distribution at 0.9999, by degrees of freedom.
_LIMITS = {1: 15.14, 2: 18.42, 3: 21.11, 4: 23.51, 5: 25.74, 6: 27.86, 7: 29.88, 8: 31.83, 9: 33.72}


def fits(counts: list[int], shares: list[float]) -> bool:
    """Whether the counts may be drawn with chances in the ratio of the shares, all above zero."""
    total, whole = sum(counts), sum(shares)
    expected = [share / whole * total for share in shares]
    assert min(expected) > 5, "too few draws to tell"
    statistic = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
    return statistic < _LIMITS[len(counts) - 1]
