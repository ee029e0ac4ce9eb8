"""Jittered waits, and every form of Retry-After."""

import random

import pytest

from open_autoglm.resilience.backoff import backoff_s, parse_retry_after, pushback_s

# 1994-11-06 08:49:37 UTC, the example of RFC 9110.
EXAMPLE_S = 784111777.0


@pytest.mark.parametrize(("passes", "bound_s"), [(0, 0.1), (1, 0.2), (4, 1.6), (5, 2.0), (60, 2.0), (5000, 2.0)])
def test_the_wait_is_spread_over_all_of_its_bound(passes: int, bound_s: float) -> None:
    rng = random.Random(3)
    waits = [backoff_s(rng, passes) for _ in range(2000)]
    assert 0.0 <= min(waits) < 0.01 * bound_s
    assert 0.99 * bound_s < max(waits) <= bound_s
    assert abs(sum(waits) / len(waits) - bound_s / 2) < 0.03 * bound_s


def test_clients_are_told_different_times() -> None:
    rng = random.Random(3)
    waits = [pushback_s(rng, 5.0) for _ in range(500)]
    assert 5.0 <= min(waits) < 5.1
    assert 9.9 < max(waits) <= 10.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("1.5", 1.5), ("999999999", 999999999.0)],
)
def test_seconds_are_obeyed_exactly(value: str, seconds: float) -> None:
    assert parse_retry_after(value, EXAMPLE_S) == seconds


@pytest.mark.parametrize(
    "value",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_a_date_is_understood_in_its_three_forms(value: str) -> None:
    assert parse_retry_after(value, EXAMPLE_S - 90.5) == 90.5
    assert parse_retry_after(value, EXAMPLE_S + 1.0) == 0.0


def test_two_digits_of_a_year_mean_the_near_one() -> None:
    new_year_2030_s = 1893456000.0
    assert parse_retry_after("Tuesday, 01-Jan-30 00:00:10 GMT", new_year_2030_s) == 10.0
    # Seen from 2030, 81 is 1981 and long past, 79 is yet to come.
    assert parse_retry_after("Thursday, 01-Jan-81 00:00:00 GMT", new_year_2030_s) == 0.0
    assert (parse_retry_after("Sunday, 01-Jan-79 00:00:00 GMT", new_year_2030_s) or 0.0) > 1e9


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "-0",
        "+5",
        "1e3",
        "nan",
        "inf",
        "soon",
        "5 s",
        "1,5",
        ".5",
        "5.",
        "1" * 400,
        "٣",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
    ],
)
def test_what_is_negative_or_not_understood_is_no_answer(value: str) -> None:
    assert parse_retry_after(value, EXAMPLE_S) is None


def test_a_leap_second_is_understood() -> None:
    assert parse_retry_after("Sat, 31 Dec 2016 23:59:60 GMT", 1483228790.0) == 9.0
    assert parse_retry_after("Sat, 31 Dec 2016 23:59:61 GMT", 1483228790.0) is None
