"""Hedges: who is asked when, and which answer wins."""

from tests.unit.voting.play import ABC, failed, flagged, said

from open_autoglm.voting.hedged import Hedged
from open_autoglm.voting.knowledge import Knowledge, Skill
from open_autoglm.voting.settings import TeamSettings

SETTINGS = TeamSettings(hedge_delay_s=2.0)


def hedged() -> Hedged:
    return Hedged(ABC, SETTINGS, Knowledge((Skill("a", "", 9, 1),)), 1)


def test_each_member_waits_one_delay_more() -> None:
    assert [(ask.member, ask.after_s) for ask in hedged().begin()] == [("a", 0.0), ("b", 2.0), ("c", 4.0)]


def test_the_first_valid_answer_wins() -> None:
    strategy = hedged()
    first, second, third = strategy.begin()
    strategy.take(flagged(second))
    assert strategy.decision is None
    strategy.take(said(first, "x"))
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.candidate, strategy.decision.reason) == ("x", 0, "accepted")
    assert strategy.decision.posterior == 0.9
    strategy.take(said(third, "y"))
    assert strategy.decision.answer == "x"


def test_nobody_is_left_after_the_last_has_failed() -> None:
    strategy = hedged()
    for ask in strategy.begin():
        assert strategy.decision is None
        strategy.take(failed(ask))
    assert strategy.decision is not None
    assert (strategy.decision.candidate, strategy.decision.reason) == (-1, "nobody_left")
