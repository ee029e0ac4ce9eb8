"""Self-consistency: how much it asks, when it stops, what it says."""

import pytest
from tests.unit.voting.play import failed, said

from open_autoglm.voting.candidate import Ask, Candidate
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.self_consistency import SelfConsistency
from open_autoglm.voting.settings import TeamSettings

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


def test_failures_are_not_asked_again_for_ever() -> None:
    strategy, asks = asked("!" * 40)
    assert strategy.decision is not None
    assert (len(asks), strategy.decision.reason) == (40, "nobody_left")


def test_a_decision_stays_and_the_deadline_takes_what_is_there() -> None:
    strategy, _ = asked("xy")
    strategy.stop("deadline")
    decision = strategy.decision
    assert decision is not None
    assert (decision.reason, decision.tie, decision.posterior) == ("deadline", True, 0.5)
    strategy.stop("budget_exhausted")
    assert strategy.take(Candidate(2, "a", "y")) == []
    assert strategy.decision is decision
