"""What judges endpoints, under any history: limits keep their bounds, somebody is always left, ratios are chances."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.resilience.concurrency_limit import ConcurrencyLimit
from open_autoglm.resilience.outliers import OutlierDetector, Tally
from open_autoglm.resilience.settings import ConcurrencySettings, OutlierSettings, ThrottlingSettings
from open_autoglm.resilience.throttle import Throttle
from open_autoglm.routing.panic import panics, total_health

# A slow machine is no failure.
UNTIMED = settings(deadline=None)
LEVELS = st.lists(
    st.integers(1, 50).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))), min_size=1
)


@UNTIMED
@given(
    st.integers(1, 50),
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.lists(
        st.tuples(
            st.sampled_from(["samples", "samples", "samples", "drop"]),
            st.floats(0.001, 60.0),
            st.integers(0, 2**25),
            st.integers(1, 5000),
            st.booleans(),
            st.floats(0.001, 5.0),
        ),
        max_size=30,
    ),
)
def test_a_limit_keeps_its_bounds_and_its_memory(
    low: int, high: int, start: int, moves: list[tuple[str, float, int, int, bool, float]]
) -> None:
    tested = ConcurrencyLimit(ConcurrencySettings(start=start, min=low, max=high))
    now_s = 100.0
    for what, first_token_s, size, in_flight, stream, step_s in moves:
        for _ in range(60):
            now_s += step_s / 60
            if what == "drop":
                tested.drop(now_s)
            elif now_s >= tested.due_s:
                tested.sample(now_s, first_token_s, stream, size, in_flight)
            assert low <= tested.limit <= max(low, high)
    assert len(tested._expected) <= 2 * 27
    assert len(tested._samples) <= 400


@UNTIMED
@given(
    st.integers(1, 8),
    st.floats(0.0, 1.0),
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 9), st.booleans()),
                min_size=8,
                max_size=8,
            ),
            st.floats(0.5, 40.0),
        ),
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_somebody_is_left_and_no_more_than_the_share_is_ejected(
    size: int,
    share: float,
    moves: list[tuple[list[tuple[int, int, int, bool]], float]],
    rng: random.Random,
) -> None:
    tested = OutlierDetector(OutlierSettings(max_ratio=share), rng)
    ended = [[0, 0] for _ in range(size)]
    until_s: dict[object, float] = {}
    now_s = 0.0
    for more, step_s in moves:
        now_s += step_s
        pool: dict[object, Tally] = {}
        for number in range(size):
            good, failures, in_a_row, available = more[number]
            ended[number][0] += good
            ended[number][1] += failures
            pool[number] = Tally(ended[number][0], ended[number][1], in_a_row, available)
        for verdict in tested.sweep(now_s, pool):  # type: ignore[arg-type]
            if verdict.until_s:
                assert verdict.key not in until_s, "nobody is ejected twice"
                assert now_s + 30.0 <= verdict.until_s <= now_s + 66.0
                until_s[verdict.key] = verdict.until_s
                left = [key for key, tally in pool.items() if tally.available and key not in until_s]
                assert left, "never the last"
                assert len(until_s) <= max(1, int(share * size))
            else:
                assert until_s.pop(verdict.key) <= now_s
    assert all(ends_s > now_s for ends_s in until_s.values())


@UNTIMED
@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0.0, 1.0), st.floats(0.0, 60.0)), max_size=60))
def test_a_throttle_is_a_chance_and_ends_by_itself(moves: list[tuple[int, float, float]]) -> None:
    tested = Throttle(ThrottlingSettings())
    now_s, sent, accepted = 0.0, 0, 0
    for more, share, step_s in moves:
        now_s += step_s
        sent += more
        accepted += int(share * more)
        tested.update(now_s, sent, accepted)
        assert 0.0 <= tested.ratio < 1.0
        if sent == accepted:
            assert tested.ratio == 0.0
    tested.update(now_s + 120.1, sent, accepted)
    assert tested.ratio == 0.0


@UNTIMED
@given(LEVELS)
def test_a_group_panics_only_when_less_than_half_is_left_and_nobody_carries_the_load(
    levels: list[tuple[int, int]],
) -> None:
    for (available, total), panic in zip(levels, panics(levels), strict=True):
        assert panic == (2 * available < total and total_health(levels) < 100)
