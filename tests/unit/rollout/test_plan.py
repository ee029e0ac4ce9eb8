"""Rollouts: who gets which version, and when a candidate goes by itself."""

from __future__ import annotations

import random

import pytest

from open_autoglm.rollout.plan import HISTORY_MAX, Rollout, RolloutRules
from open_autoglm.rollout.weights import VersionWeights

RULES = RolloutRules(window_s=60.0, requests_min=20, ratio_max=0.05, rise=2.0)


def weights(share: float) -> VersionWeights:
    return VersionWeights("glm", "old", "new", share)


def rollout(share: float = 0.2, rules: RolloutRules = RULES) -> Rollout:
    return Rollout("glm", weights(share), rules, 0.0)


def test_the_share_is_kept_within_a_hundredth() -> None:
    chance = random.Random(1)
    chosen = [weights(0.2).choose(chance.getrandbits(64)) for _ in range(50_000)]
    assert 0.19 < chosen.count("new") / len(chosen) < 0.21


def test_small_numbers_are_spread_too() -> None:
    chosen = [weights(0.2).choose(affinity) for affinity in range(1, 10_001)]
    assert 0.18 < chosen.count("new") / len(chosen) < 0.22


def test_whoever_has_the_candidate_keeps_it_while_the_share_grows() -> None:
    keys = range(1, 2000)
    shares = [0.0, 0.05, 0.2, 0.5, 0.99, 1.0]
    moved: set[int] = set()
    for share in shares:
        now = {key for key in keys if weights(share).choose(key) == "new"}
        assert moved <= now
        moved = now
    assert moved == set(keys)
    assert all(weights(0.0).choose(key) == "old" for key in keys)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        weights(share)


def test_a_rise_of_errors_takes_the_candidate_away() -> None:
    run = rollout()
    run.observe("old", 100, 1, 10.0)
    run.observe("new", 19, 19, 10.0)
    assert not run.handle_timeout(11.0), "too few to tell"
    run.observe("new", 1, 0, 11.0)
    assert run.handle_timeout(12.0)
    assert (run.state, run.weights.share) == ("rolled_back", 0.0)
    assert run.history[-1].why.startswith("19 of 20 requests failed (95.0%); 1.0%")


def test_errors_that_the_stable_version_has_too_are_not_the_candidates_fault() -> None:
    run = rollout()
    run.observe("old", 100, 30, 10.0)
    run.observe("new", 100, 50, 10.0)
    assert not run.handle_timeout(11.0)
    run.observe("new", 100, 80, 12.0)
    assert run.handle_timeout(12.0)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    run = rollout()
    run.observe("new", 20, 20, 10.0)
    assert run.fault(60.0)
    assert not run.fault(75.0)
    assert run.counts("new", 75.0) == (0, 0)


def test_promotion_by_itself_needs_time_and_requests() -> None:
    run = rollout(rules=RolloutRules(promote_after_s=30.0, requests_min=5))
    assert run.next_deadline() == 30.0
    assert not run.handle_timeout(31.0)
    run.observe("new", 5, 0, 31.0)
    assert run.handle_timeout(32.0)
    assert (run.state, run.weights.share) == ("promoted", 1.0)
    assert run.next_deadline() is None


def test_by_hand() -> None:
    run = rollout()
    assert run.adopt("running", 0.5, 1.0, "by hand")
    assert not run.adopt("running", 0.5, 1.5, "by hand"), "it was so before"
    assert run.weights.share == 0.5
    run.promote(2.0)
    run.rollback(4.0)
    assert run.weights.choose(1) == "old"
    with pytest.raises(ValueError, match="rolled back"):
        run.promote(5.0)
    run.rollback(6.0)
    assert [step.what for step in run.history] == ["started at 20%", "share 50%", "promoted", "rolled_back"]


def test_the_history_is_bounded() -> None:
    run = rollout()
    for number in range(HISTORY_MAX * 2):
        run.adopt("running", number / 1000, 1.0, "by hand")
    assert len(run.history) == HISTORY_MAX


def test_a_version_cannot_roll_out_against_itself() -> None:
    with pytest.raises(ValueError, match="already"):
        Rollout("glm", VersionWeights("glm", "a", "a", 0.1), RULES, 0.0)


@pytest.mark.parametrize(
    "fields", [{"window_s": 0.0}, {"requests_min": 0}, {"ratio_max": 2.0}, {"rise": 0.5}, {"promote_after_s": 0.0}]
)
def test_rules_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        RolloutRules(**fields)  # type: ignore[arg-type]
