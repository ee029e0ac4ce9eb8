"""Outlier ejection: who is ejected, why, for how long, and how many at most.

The success-rate and failure-percentage cases are those of Envoy's own tests of its outlier detection.
"""

import random

import pytest

from open_autoglm.resilience.outliers import OutlierDetector, Tally, Verdict, success_rate_threshold
from open_autoglm.resilience.settings import OutlierSettings


class Pool:
    """Endpoints named by letters, with what has ended at them."""

    def __init__(self, names: str, settings: OutlierSettings | None = None) -> None:
        self.detector = OutlierDetector(settings or OutlierSettings(), random.Random(1))
        self.ended = {name: [0, 0, 0] for name in names}
        self.away = ""
        self.sweep(0.0)

    def load(self, names: str, good: int = 0, failures: int = 0, in_a_row: int = 0) -> None:
        for name in names:
            ended = self.ended[name]
            ended[0] += good
            ended[1] += failures
            ended[2] = in_a_row

    def sweep(self, now_s: float) -> list[Verdict]:
        tallies = {name: Tally(*ended, name not in self.away) for name, ended in self.ended.items()}
        return self.detector.sweep(now_s, tallies)

    def ejected(self, now_s: float) -> str:
        return "".join(str(verdict.key) for verdict in self.sweep(now_s) if verdict.until_s)


def test_the_threshold_is_that_of_the_published_example() -> None:
    assert success_rate_threshold([1.0, 1.0, 1.0, 1.0, 0.5], 1.9) == pytest.approx(0.52)


def test_a_success_rate_far_below_the_others_ejects() -> None:
    pool = Pool("abcde")
    pool.load("abcd", good=200)
    pool.load("e", good=200, failures=200)
    assert pool.ejected(10.0) == "e"
    pool.load("abcd", good=200)
    assert pool.sweep(19.9) == [] == pool.sweep(29.9)
    back = pool.sweep(50.001)
    assert [(verdict.key, verdict.until_s) for verdict in back] == [("e", 0.0)]


def test_success_rates_want_enough_endpoints_with_enough_requests() -> None:
    pool = Pool("abcd")
    pool.load("abc", good=200)
    pool.load("d", good=200, failures=200)
    assert pool.ejected(10.0) == "", "four are too few"
    pool = Pool("abcde")
    pool.load("abcd", good=25)
    pool.load("e", good=25, failures=25)
    assert pool.ejected(10.0) == ""
    pool = Pool("abcde")
    pool.load("abcd", good=100)
    pool.load("e", failures=49)
    assert pool.ejected(10.0) == "", "its own requests are too few"


def test_a_large_share_of_failures_ejects_in_small_groups_too() -> None:
    pool = Pool("abcd")
    pool.load("ab", good=50)
    # 83.3 % and 85.7 %, just beside the threshold of 85 %.
    pool.load("c", good=50, failures=250)
    pool.load("d", good=50, failures=300)
    assert pool.ejected(10.0) == "d"
    assert pool.ejected(20.0) == ""


def test_failures_in_a_row_eject() -> None:
    pool = Pool("ab")
    pool.load("a", failures=4, in_a_row=4)
    assert pool.ejected(10.0) == ""
    pool.load("a", failures=1, in_a_row=5)
    assert pool.ejected(20.0) == "a"


def test_old_failures_in_a_row_are_no_news() -> None:
    pool = Pool("ab")
    pool.load("a", failures=5, in_a_row=5)
    assert pool.ejected(10.0) == "a"
    # Nothing was sent there meanwhile, so nothing is known that was not known.
    assert pool.ejected(60.0) == "" == pool.ejected(70.0)


def test_each_ejection_in_a_row_is_longer_and_clean_comparisons_make_it_shorter() -> None:
    pool = Pool("ab", OutlierSettings(ejection_max_s=100.0))
    now_s, lasts_s = 0.0, []
    for _ in range(5):
        pool.load("a", failures=60)
        now_s += 10.0
        (verdict,) = pool.sweep(now_s)
        lasts_s.append(verdict.until_s - now_s)
        now_s = verdict.until_s
        pool.sweep(now_s)
        pool.sweep(now_s + 0.5)
        now_s += 0.5
    for lasted_s, base_s in zip(lasts_s, (30.0, 60.0, 90.0, 100.0, 100.0), strict=True):
        assert base_s <= lasted_s <= 1.1 * base_s
    for _ in range(3):
        now_s += 10.0
        assert pool.sweep(now_s) == []
    pool.load("a", failures=60)
    (verdict,) = pool.sweep(now_s + 10.0)
    assert verdict.until_s - now_s - 10.0 <= 66.0, "of four times three were taken off"


def test_no_more_than_half_of_the_group_and_never_the_last() -> None:
    pool = Pool("abcde")
    pool.load("abcde", failures=60)
    assert len(pool.ejected(10.0)) == 2
    pool = Pool("ab")
    pool.load("ab", failures=60)
    assert len(pool.ejected(10.0)) == 1
    pool = Pool("ab")
    pool.away = "b"
    pool.load("a", failures=60)
    assert pool.ejected(10.0) == "", "the other one is away"
    pool = Pool("a")
    pool.load("a", failures=60)
    assert pool.ejected(10.0) == "", "there is no other one"
    pool = Pool("abc", OutlierSettings(max_ratio=0.0))
    pool.load("abc", failures=60)
    assert len(pool.ejected(10.0)) == 1, "one always may"


def test_the_worst_goes_first() -> None:
    pool = Pool("abc")
    pool.load("a", good=8, failures=60)
    pool.load("b", good=0, failures=60)
    assert pool.ejected(10.0) == "b"


def test_an_endpoint_that_is_away_is_not_judged() -> None:
    pool = Pool("abc")
    pool.away = "a"
    pool.load("a", failures=60, in_a_row=60)
    assert pool.ejected(10.0) == ""


def test_what_the_breaker_has_judged_is_not_judged_again() -> None:
    pool = Pool("ab")
    pool.away = "a"
    pool.load("a", failures=60)
    pool.sweep(1.0)
    pool.away = ""
    pool.load("a", good=3)
    assert pool.ejected(10.0) == ""


def test_what_left_the_group_is_forgotten() -> None:
    pool = Pool("ab")
    pool.load("a", failures=60)
    assert pool.ejected(10.0) == "a"
    del pool.ended["a"]
    assert pool.sweep(100.0) == []
    pool.ended["a"] = [0, 0, 0]
    assert pool.sweep(110.0) == []
