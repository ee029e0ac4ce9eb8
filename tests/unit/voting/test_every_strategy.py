"""What holds for every strategy of the catalogue, whatever its members do and whenever it is stopped."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.voting.play import ABC, encoded, failed, flagged, play, replayed, said, scripted

from open_autoglm.voting.ballot import digest
from open_autoglm.voting.candidate import Ask, Candidate
from open_autoglm.voting.catalog import STRATEGIES, make_strategy
from open_autoglm.voting.knowledge import Curve, Knowledge, Member, Skill
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.strategy import Strategy

VARIANTS: dict[str, tuple[TeamSettings, ...]] = {
    "best_of_n": (
        TeamSettings(),
        TeamSettings(scorer="judge", frequency_min=0.0, samples=9),
        TeamSettings(scorer="judge", both_orders=False, frequency_min=0.0),
    ),
    "cascade": (
        TeamSettings(),
        TeamSettings(cascade_samples=1, thresholds=[0.6, 0.7], cascade_abstain=True),
        TeamSettings(cascade_samples=1, cascade_steps=[["a"], ["b", "c"]]),
    ),
    "mixture": (TeamSettings(), TeamSettings(self_mixture=False, layers=1), TeamSettings(layers=3, aggregator="z")),
    "self_consistency": (TeamSettings(), TeamSettings(adaptive=False)),
    "universal_self_consistency": (TeamSettings(), TeamSettings(judge="z", both_orders=False)),
}
CASES = [(name, settings) for name in sorted(STRATEGIES) for settings in VARIANTS.get(name, (TeamSettings(),))]
KNOWLEDGE = Knowledge(
    (Skill("a", "", 8, 3), Skill("b", None, 30, 4)), calibration=(Curve("a agreement", "", (0.3, 1.0), (0.2, 0.97)),)
)
each_case = pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)


def made(name: str, settings: TeamSettings, members: tuple[Member, ...] = ABC) -> Strategy:
    return make_strategy(name, members, settings, KNOWLEDGE, 7)


def drawn(seed: int, failing: float) -> "Draw":
    return Draw(random.Random(seed), failing)


class Draw:
    """Members that answer by chance, and fail."""

    def __init__(self, rng: random.Random, failing: float) -> None:
        self._rng = rng
        self._failing = failing

    def __call__(self, ask: Ask) -> Candidate:
        rng = self._rng
        if rng.random() < self._failing:
            return rng.choice((failed, flagged))(ask)
        answer = str(rng.randint(1, 3)) if ask.purpose == "judge" else rng.choice("xxxyyz")
        return said(ask, answer, rng.choice((None, rng.random())), rng.random())


@each_case
@given(seed=st.integers(0, 10**6), failing=st.sampled_from((0.0, 0.2, 0.6, 1.0)), data=st.data())
def test_a_run_ends_and_its_replay_is_the_same_bytes(
    name: str, settings: TeamSettings, seed: int, failing: float, data: st.DataObject
) -> None:
    strategy = made(name, settings)
    stop_after = data.draw(st.none() | st.integers(0, 12))
    asks, taken = play(strategy, drawn(seed, failing), seed=seed, stop_after=stop_after)
    decision = strategy.decision
    assert decision is not None
    assert 0 <= decision.posterior <= 1
    assert 0 <= decision.agreement <= 1
    if decision.candidate >= 0:
        shown = next(candidate for candidate in taken if candidate.ask == decision.candidate)
        assert shown.counts
        assert shown.answer == decision.answer
        assert asks[decision.candidate].purpose != "judge"
    else:
        assert decision.answer == ""
    counting = {candidate.ask: candidate for candidate in taken if candidate.counts}
    assert all(counting[vote.ask].answer == vote.answer for vote in decision.votes)
    assert all(asks[vote.ask].purpose != "judge" for vote in decision.votes)
    again = replayed(made(name, settings), taken, decision.reason, lambda answer: answer)
    assert encoded(again) == encoded(decision)
    kept = replayed(made(name, settings), taken, decision.reason, digest)
    renamed = replace(
        decision,
        answer=digest(decision.answer) if decision.answer else "",
        votes=tuple(replace(vote, answer=digest(vote.answer)) for vote in decision.votes),
    )
    assert encoded(kept) == encoded(renamed)


@each_case
def test_each_ask_may_fail_alone_without_stopping_it(name: str, settings: TeamSettings) -> None:
    count = len(play(made(name, settings), scripted(a="x", b="y", c="x"))[0])
    for bad in (failed, flagged):
        for number in range(count):
            strategy = made(name, settings)
            good = scripted(a="x", b="y", c="x")
            play(strategy, lambda ask, n=number, g=good, b=bad: b(ask) if ask.number == n else g(ask))  # type: ignore[misc]
            assert strategy.decision is not None
            if not settings.cascade_abstain:
                assert strategy.decision.answer in ("x", "y", "1"), "the others answered"


@each_case
def test_stopped_at_any_point_it_gives_what_it_has_and_changes_nothing_after(name: str, settings: TeamSettings) -> None:
    full = made(name, settings)
    _, taken = play(full, scripted(a="x", b="y", c="x"))
    for stop_after in range(len(taken)):
        strategy = made(name, settings)
        asks, came = play(strategy, scripted(a="x", b="y", c="x"), stop_after=stop_after)
        decision = encoded(strategy.decision)
        assert strategy.decision is not None
        assert strategy.decision.reason == "deadline"
        given_one = stop_after > 0 and not settings.cascade_abstain
        assert (strategy.decision.answer != "") == given_one, "an answer that was there is given"
        strategy.stop("budget_exhausted")
        outstanding = [ask for ask in asks if ask.number not in {candidate.ask for candidate in came}]
        for ask in outstanding:
            assert strategy.take(said(ask, "q")) == []
        assert encoded(strategy.decision) == decision


@each_case
def test_when_everybody_fails_nothing_is_answered(name: str, settings: TeamSettings) -> None:
    strategy = made(name, settings)
    play(strategy, failed)
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.candidate) == ("", -1)
    assert strategy.decision.reason in ("nobody_left", "no_quorum")


@each_case
def test_one_member_is_a_team_too(name: str, settings: TeamSettings) -> None:
    strategy = made(name, replace(settings, cascade_steps=[]), ABC[:1])
    play(strategy, scripted(a="x"))
    assert strategy.decision is not None
    assert strategy.decision.answer in ("x", "") if settings.cascade_abstain else "x"


@each_case
def test_one_answer_of_all_is_the_answer(name: str, settings: TeamSettings) -> None:
    strategy = made(name, settings)
    play(strategy, scripted(a="x", b="x", c="x", z="x"))
    assert strategy.decision is not None
    assert strategy.decision.answer == "x"
    assert not strategy.decision.tie
