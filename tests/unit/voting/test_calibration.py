"""Curves from scores to chances, and how far scores are from the truth."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.voting.calibration import (
    FREELY_FROM,
    LOG_MAX,
    Scored,
    agreement_of,
    calibration_error,
    chance,
    curves_of,
    fit,
    fit_freely,
    fit_smoothly,
    reliability_table,
    self_agreement,
    thinned,
)
from open_autoglm.voting.catalog import make_strategy
from open_autoglm.voting.knowledge import Curve, Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

scores = st.floats(0, 1)
logs = st.lists(st.builds(Scored, scores, st.booleans()), min_size=1, max_size=60)
fitters = pytest.mark.parametrize("fitter", [fit_smoothly, fit_freely])


def boastful(count: int, seed: int) -> list[Scored]:
    """Answers of a model that says more than it knows: right with the 2.5th power of what it says."""
    rng = random.Random(seed)
    said = [rng.random() for _ in range(count)]
    return [Scored(score, rng.random() < score**2.5) for score in said]


@fitters
@given(log=logs, asked=st.lists(scores, min_size=2, max_size=10))
def test_a_curve_never_falls_nor_is_certain(fitter, log, asked) -> None:  # type: ignore[no-untyped-def]
    curve = fitter(log)
    chances = [chance(curve, score) for score in sorted(asked)]
    assert chances == sorted(chances)
    assert all(0 < each < 1 for each in chances)


@fitters
@given(log=logs, seed=st.integers(0, 99), asked=scores)
def test_order_and_writing_down_change_nothing(fitter, log, seed, asked) -> None:  # type: ignore[no-untyped-def]
    curve = fitter(log)
    mixed = list(log)
    random.Random(seed).shuffle(mixed)
    assert chance(fitter(mixed), asked) == pytest.approx(chance(curve, asked), abs=1e-12)
    read = msgspec.json.decode(msgspec.json.encode(curve), type=Curve)
    assert chance(read, asked) == chance(curve, asked)


@pytest.mark.parametrize("count", [60, 300, 3000])
def test_on_fresh_answers_a_fitted_score_is_nearer_to_the_truth(count: int) -> None:
    fresh = boastful(4000, seed=1)
    curve = fit(boastful(count, seed=2))
    mapped = [Scored(chance(curve, row.score), row.right) for row in fresh]
    assert calibration_error(fresh) > 0.18
    assert calibration_error(mapped) < 0.07


def test_pooling_gives_the_means_of_blocks() -> None:
    log = [Scored(0.1, False), Scored(0.2, True), Scored(0.3, False), Scored(0.4, True), Scored(0.5, True)]
    curve = fit_freely(log)
    assert curve.said == pytest.approx((0.1, 0.25, 0.45))
    assert curve.right == pytest.approx((1 / 7, 0.5, 6 / 7))
    assert chance(curve, 0.25) == pytest.approx(0.5)
    assert chance(curve, 0.35) == pytest.approx((0.5 + 6 / 7) / 2)


@fitters
def test_a_score_that_misleads_gives_a_level_line(fitter) -> None:  # type: ignore[no-untyped-def]
    curve = fitter([Scored(place / 100, place < 60) for place in range(100)])
    assert chance(curve, 0.9) == pytest.approx(chance(curve, 0.1))
    assert chance(curve, 0.5) == pytest.approx(0.6, abs=0.02)


@fitters
def test_the_same_score_of_all_gives_their_share(fitter) -> None:  # type: ignore[no-untyped-def]
    curve = fitter([Scored(1.0, place % 4 > 0) for place in range(400)])
    assert chance(curve, 1.0) == pytest.approx(0.75, abs=0.01)


def test_which_curve_depends_on_the_log() -> None:
    assert fit(boastful(FREELY_FROM, 3)) == fit_freely(boastful(FREELY_FROM, 3))
    assert fit(boastful(FREELY_FROM - 1, 3)) == fit_smoothly(boastful(FREELY_FROM - 1, 3))


def test_a_long_log_gives_a_short_curve() -> None:
    assert len(fit_freely([Scored(place / 20_000, True) for place in range(20_000)]).said) == 1
    assert len(fit_freely(boastful(20_000, 4)).said) <= 257


def test_table_and_error_are_what_they_say() -> None:
    log = [Scored(0.95, True)] * 9 + [Scored(0.95, False)] + [Scored(0.35, False)] * 10 + [Scored(1.0, True)] * 10
    rows = reliability_table(log)
    assert [(row.low, row.count, row.share_right) for row in rows] == [(0.3, 10, 0.0), (0.9, 20, 0.95)]
    assert rows[1].mean_score == pytest.approx(0.975)
    assert calibration_error(log) == pytest.approx((10 * 0.35 + 20 * 0.025) / 30)


@pytest.mark.parametrize("log", [[], [Scored(1.1, True)], [Scored(float("nan"), True)], [Scored(-0.1, False)]])
def test_what_is_no_log_is_refused(log: list[Scored]) -> None:
    for use in (fit, fit_smoothly, fit_freely, reliability_table, calibration_error):
        with pytest.raises(ValueError):
            use(log)
    with pytest.raises(ValueError, match="bins"):
        reliability_table([Scored(0.5, True)], bins=0)
    with pytest.raises(ValueError, match="rows"):
        fit([Scored(0.5, True)] * (LOG_MAX + 1))


def test_agreement_with_oneself_counts_failures_against_it() -> None:
    assert self_agreement(["7", "7", "8"]) == ("7", 2 / 3)
    assert self_agreement(["7", "", ""]) == ("7", 1 / 3)
    assert self_agreement(["8", "7"]) == ("8", 0.5)
    assert self_agreement(["", ""]) == ("", 0.0)
    assert self_agreement([]) == ("", 0.0)
    assert agreement_of("a") != "a"


def test_a_thinned_curve_says_the_same() -> None:
    smooth, free = fit_smoothly(boastful(500, 5), "a", "c"), fit_freely(boastful(3000, 5), "a", "c")
    assert len(thinned(smooth).said) <= 20
    for curve in (smooth, free):
        thin = thinned(curve)
        assert len(thin.said) < len(curve.said)
        assert (thin.member, thin.task_class) == ("a", "c")
        for place in range(101):
            assert chance(thin, place / 100) == pytest.approx(chance(curve, place / 100), abs=0.0052)
        assert curves_of(
            TeamSettings(curves={"a": [list(each) for each in zip(thin.said, thin.right, strict=True)]}), "a"
        )


def test_curves_of_the_settings_are_checked() -> None:
    points = [[0.2, 0.1], [0.9, 0.8]]
    settings = TeamSettings(task_class="sums", curves={"a": points, agreement_of("b"): [[0.5, 0.5]]})
    assert curves_of(settings, "ab") == (
        Curve("a", "sums", (0.2, 0.9), (0.1, 0.8)),
        Curve(agreement_of("b"), "sums", (0.5,), (0.5,)),
    )
    assert curves_of(TeamSettings(), "ab") == ()
    for curves in ({"c": points}, {"a": []}, {"a": [[0.5]]}, {"a": points[::-1]}, {"a": [[0.1, 0.9], [0.2, 0.8]]}):
        with pytest.raises(ValueError, match="curve"):
            make_strategy("cascade", (Member("a"), Member("b")), TeamSettings(curves=curves), Knowledge(), 1)
