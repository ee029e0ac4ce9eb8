"""Mixtures: layers, who is shown what, and what is left when the writer fails."""

from tests.unit.voting.play import ABC, Answering, failed, play, said, scripted

from open_autoglm.voting.candidate import Ask, Decision
from open_autoglm.voting.knowledge import Knowledge, Skill
from open_autoglm.voting.mixture import Mixture
from open_autoglm.voting.prompts import QUESTION
from open_autoglm.voting.settings import TeamSettings

KNOWLEDGE = Knowledge((Skill("a", "", 5, 5), Skill("b", "", 9, 1), Skill("c", "", 7, 3)))
MIXED = TeamSettings(self_mixture=False, layers=2)


def run(settings: TeamSettings, answering: Answering) -> tuple[list[Ask], Decision]:
    strategy = Mixture(ABC, settings, KNOWLEDGE, 1)
    asks, _ = play(strategy, answering)
    assert strategy.decision is not None
    return asks, strategy.decision


def test_by_default_the_best_member_proposes_and_writes_alone() -> None:
    asks, decision = run(TeamSettings(samples=3, layers=1), scripted(b="x"))
    assert [(ask.member, ask.purpose) for ask in asks] == [("b", "answer")] * 3 + [("b", "combine")]
    assert [ask.temperature for ask in asks] == [0.7, 0.7, 0.7, 0.0]
    assert len({ask.seed for ask in asks[:3]}) == 3
    assert (decision.answer, decision.candidate, decision.reason) == ("x", 3, "combined")


def test_each_layer_sees_all_of_the_one_before_the_best_first() -> None:
    asks, decision = run(MIXED, scripted(a="x", b="y", c="z", b_combine="w"))
    assert [(ask.member, ask.purpose) for ask in asks] == [
        ("a", "answer"),
        ("b", "answer"),
        ("c", "answer"),
        ("a", "combine"),
        ("b", "combine"),
        ("c", "combine"),
        ("b", "combine"),
    ]
    assert all(ask.shown == (1, 2, 0) for ask in asks[3:6])
    assert asks[6].shown == (4, 5, 3)
    texts = [asks[3].prompt.index(f"I say {answer}.") for answer in "yzx"]
    assert texts == sorted(texts)
    assert QUESTION in asks[3].prompt
    assert decision.answer == "w"
    assert [vote.ask for vote in decision.votes] == sorted([3, 4, 5], key=[v.ask for v in decision.votes].index)
    assert decision.agreement == 1 / 3


def test_when_the_writer_fails_the_best_proposal_is_the_answer() -> None:
    _, decision = run(TeamSettings(self_mixture=False, layers=1, aggregator="w"), scripted(a="x", b="x", c="z", w="!"))
    assert (decision.answer, decision.reason) == ("x", "all_in")
    assert decision.notes == ("aggregator_failed",)
    assert decision.candidate in (0, 1)


def test_a_layer_of_which_nothing_counts_is_skipped() -> None:
    def answering(ask: Ask):  # type: ignore[no-untyped-def]
        return failed(ask) if ask.number in (3, 4, 5) else said(ask, "x" if ask.number < 3 else "w")

    asks, decision = run(MIXED, answering)
    assert set(asks[6].shown) == {0, 1, 2}
    assert (decision.answer, decision.agreement) == ("w", 0.0)


def test_without_a_proposal_nothing_is_written() -> None:
    asks, decision = run(MIXED, failed)
    assert len(asks) == 3
    assert (decision.candidate, decision.reason) == (-1, "nobody_left")


def test_stopped_in_a_layer_it_gives_the_best_that_is_there() -> None:
    strategy = Mixture(ABC, MIXED, KNOWLEDGE, 1)
    play(strategy, scripted(a="x", b="y", c="x"), stop_after=3)
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("y", "deadline"), "b is right more often than both"
