"""Self-consistency: how much it asks, when it stops, what it says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.voting.play import failed, play, said

from open_autoglm.voting.candidate import Ask, Candidate
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.self_consistency import SelfConsistency
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.turns import FAILURES_MAX

ONE = (Member("a"),)


def asked(answers: str, members: tuple[Member, ...] = ONE, **settings: object) -> tuple[SelfConsistency, list[Ask]]:
    """Let it have the answers in the order of the asks, one letter each, "!" for a failure."""
    strategy = SelfConsistency(members, TeamSettings(**settings), Knowledge(), 1)  # type: ignore[arg-type]
    waiting, asks = strategy.begin(), []
    for answer in answers:
        assert strategy.decision is None
        ask = waiting.pop(0)
        asks.append(ask)
        waiting += strategy.take(failed(ask) if answer == "!" else said(ask, answer))
    return strategy, [*asks, *waiting]


@pytest.mark.parametrize(
    ("answers", "settings", "reason", "answer"),
    [
        ("xxxx", {}, "confident", "x"),
        ("xxyxxx", {}, "", ""),
        ("xxyxxxx", {}, "confident", "x"),
        ("xxx", {"adaptive": False, "samples": 5}, "decided", "x"),
        ("xyxyx", {"adaptive": False, "samples": 5}, "all_in", "x"),
        ("xyx", {"adaptive": False, "samples": 5}, "", ""),
        ("xx!", {"adaptive": False, "samples": 4}, "decided", "x"),
        ("!!!", {"adaptive": False, "samples": 3}, "nobody_left", ""),
        ("xyz", {"votes_max": 3}, "all_in", None),
        ("x", {"adaptive": False, "samples": 1}, "all_in", "x"),
    ],
)
def test_it_stops_when_it_must(answers: str, settings: dict[str, object], reason: str, answer: str | None) -> None:
    strategy, _ = asked(answers, **settings)
    decision = strategy.decision
    assert (decision.reason if decision else "") == reason
    if answer is not None and decision:
        assert decision.answer == answer


def test_all_alike_need_four_asks_and_not_one_more() -> None:
    strategy, asks = asked("xxxx")
    assert strategy.decision is not None
    assert len(asks) == 4, "the wave ends where the fourth answer decides"
    assert (strategy.decision.posterior, strategy.decision.agreement) == (0.96875, 1.0)


def test_no_more_than_a_wave_is_outstanding_and_asks_are_drawn_apart() -> None:
    strategy = SelfConsistency(ONE, TeamSettings(wave=2, temperature=0.9), Knowledge(), 1)
    asks = strategy.begin()
    assert len(asks) == 2
    assert {ask.temperature for ask in asks} == {0.9}
    assert len({ask.seed for ask in asks}) == 2
    assert len(strategy.take(said(asks[0], "x"))) == 1


def test_members_are_asked_in_turn() -> None:
    _, asks = asked("xyzx", members=(Member("a"), Member("b")))
    assert [ask.member for ask in asks[:5]] == ["a", "b", "a", "b", "a"]


def test_one_that_fails_twice_in_a_row_is_not_asked_again_and_it_ends_with_what_it_has() -> None:
    strategy, asks = asked("!!!!")
    assert strategy.decision is not None
    assert (len(asks), strategy.decision.reason) == (4, "nobody_left"), "a wave, and one more after the first failure"
    strategy, asks = asked("xy!!!!")
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason, strategy.decision.tie) == ("x", "nobody_left", True)


def test_a_failure_by_itself_keeps_nobody_out() -> None:
    strategy, _ = asked("x!x!x!x")
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("x", "confident")


@given(seed=st.integers(0, 10**6), dead=st.integers(1, 3), wave=st.integers(1, 6), adaptive=st.booleans())
def test_dead_members_are_asked_a_few_times_and_the_others_decide(
    seed: int, dead: int, wave: int, adaptive: bool
) -> None:
    draw = random.Random(seed)
    members = tuple(Member(name) for name in "abcd")
    gone = {member.name for member in draw.sample(members, dead)}
    settings = TeamSettings(wave=wave, adaptive=adaptive, samples=25, votes_max=25)
    strategy = SelfConsistency(members, settings, Knowledge(), seed)
    asks, taken = play(
        strategy, lambda ask: failed(ask) if ask.member in gone else said(ask, draw.choice("xy")), seed=seed
    )
    assert strategy.decision is not None
    assert strategy.decision.reason in ("all_in", "decided", "confident")
    for name in gone:
        assert sum(candidate.member == name for candidate in taken) <= FAILURES_MAX - 1 + wave
    assert len(asks) <= 25
    assert all(vote.member not in gone for vote in strategy.decision.votes)


def test_a_decision_stays_and_the_deadline_takes_what_is_there() -> None:
    strategy, _ = asked("xy")
    strategy.stop("deadline")
    decision = strategy.decision
    assert decision is not None
    assert (decision.reason, decision.tie, decision.posterior) == ("deadline", True, 0.5)
    strategy.stop("budget_exhausted")
    assert strategy.take(Candidate(2, "a", "y")) == []
    assert strategy.decision is decision
