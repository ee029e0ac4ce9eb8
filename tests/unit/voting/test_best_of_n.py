"""Best of n: what is scored, how a judge is asked, and what it takes to fool it."""

import pytest
from tests.unit.voting.play import ABC, Answering, failed, flagged, play, said

from open_autoglm.voting.best_of_n import FINALISTS_MAX, BestOfN
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

JUDGED = TeamSettings(scorer="judge", judge="j", samples=5, frequency_min=0.0)


def run(settings: TeamSettings, answering: Answering, members: tuple[Member, ...] = ABC) -> tuple[list[Ask], Decision]:
    strategy = BestOfN(members, settings, Knowledge(), 1)
    asks, _ = play(strategy, answering)
    assert strategy.decision is not None
    return asks, strategy.decision


def numbered(*answers: str) -> Answering:
    """The n-th ask gets the n-th answer, with the confidence after a colon."""

    def answering(ask: Ask) -> Candidate:
        answer, _, confidence = answers[ask.number].partition(":")
        return said(ask, answer, float(confidence) if confidence else None)

    return answering


class Judge:
    """Prefers answers in this order; what it saw first, if it is biased."""

    def __init__(self, answers: tuple[str, ...], order: str, *, biased: bool = False, fails: bool = False) -> None:
        self.answers, self.order, self.biased, self.fails = answers, order, biased, fails
        self.pairs: list[tuple[str, str]] = []

    def __call__(self, ask: Ask) -> Candidate:
        if ask.purpose == "answer":
            return said(ask, self.answers[ask.number])
        if self.fails:
            return failed(ask)
        first, second = (self.answers[number] for number in ask.shown)
        self.pairs.append((first, second))
        assert ask.prompt.index(f"I say {first}.") < ask.prompt.rindex(f"I say {second}.")
        first_is_better = self.biased or self.order.index(first) < self.order.index(second)
        return said(ask, "1" if first_is_better else "2")


def test_the_best_score_wins_among_the_frequent() -> None:
    answers = numbered("x:0.5", "x:0.6", "y:0.7", "y:0.3", "z:0.99")
    settings = TeamSettings(samples=5, frequency_min=0.3)
    _, decision = run(settings, answers)
    assert (decision.answer, decision.candidate, decision.posterior) == ("y", 2, 0.7)
    assert decision.reason == "judged"
    assert run(TeamSettings(samples=5, frequency_min=0.0), answers)[1].answer == "z", "without it the one boast wins"


def test_where_none_is_frequent_enough_the_most_frequent_is_taken() -> None:
    settings = TeamSettings(samples=5, frequency_min=0.9)
    assert run(settings, numbered("x:0.5", "x:0.6", "y:0.9", "w:0.9", "z:0.9"))[1].answer == "x"


def test_members_are_asked_in_turn_and_each_once_at_least() -> None:
    asks, _ = run(TeamSettings(samples=5), numbered(*"xxxxx"))
    assert [ask.member for ask in asks] == list("abcab")
    assert len({ask.seed for ask in asks}) == 5
    asks, _ = run(TeamSettings(samples=1), numbered(*"xxx"))
    assert [(ask.member, ask.temperature) for ask in asks] == [("a", None), ("b", None), ("c", None)]


def test_a_judge_sees_each_pair_in_both_orders_and_the_best_wins() -> None:
    judge = Judge(("x", "y", "z", "x", "w"), order="wzyx")
    asks, decision = run(JUDGED, judge)
    assert (decision.answer, decision.reason, decision.tie) == ("w", "judged", False)
    assert sorted(judge.pairs) == sorted((second, first) for first, second in judge.pairs)
    assert {ask.member for ask in asks[5:]} == {"j"}
    assert all(ask.temperature == 0.0 for ask in asks[5:])
    assert all(vote.member != "j" for vote in decision.votes)


def test_a_judge_that_prefers_what_it_sees_first_decides_nothing() -> None:
    _, decision = run(JUDGED, Judge(("x", "y", "z", "x", "z"), order="", biased=True))
    assert decision.answer in "xz", "the frequent ones stay"
    assert decision.tie


def test_a_judge_that_fails_leaves_the_frequencies() -> None:
    _, decision = run(JUDGED, Judge(("x", "y", "x", "z", "x"), order="", fails=True))
    assert (decision.answer, decision.tie) == ("x", True)


def test_one_answer_is_not_judged() -> None:
    asks, decision = run(JUDGED, Judge(("x",) * 5, order="x"))
    assert (len(asks), decision.reason) == (5, "all_in")


def test_the_questions_to_a_judge_are_bounded() -> None:
    answers = tuple("abcdefghijklmnop")
    asks, decision = run(
        TeamSettings(scorer="judge", judge="j", samples=16, frequency_min=0.0), Judge(answers, order="ponmlkjihgfedcba")
    )
    assert len(asks) - 16 == 2 * (FINALISTS_MAX - 1)
    assert decision.reason == "judged"


def test_whoever_judges_does_not_answer_unless_it_is_said() -> None:
    settings = TeamSettings(scorer="judge", samples=2, frequency_min=0.0)
    asks, decision = run(settings, numbered("x", "y", "1", "1"))
    assert [ask.member for ask in asks] == ["b", "c", "a", "a"]
    assert decision.notes == ()
    own = TeamSettings(scorer="judge", samples=3, frequency_min=0.0, judge_own=True)
    asks, decision = run(own, numbered("x", "x", "x"))
    assert [ask.member for ask in asks] == ["a", "b", "c"]
    assert decision.notes == ("judge_own",)
    assert run(settings, numbered("x", "x"), ABC[:1])[1].notes == ("judge_own",)


@pytest.mark.parametrize("stop_after", [5, 6, 7, 8])
def test_stopped_while_judging_it_gives_the_most_frequent_left(stop_after: int) -> None:
    strategy = BestOfN(ABC, JUDGED, Knowledge(), 1)
    play(strategy, Judge(("x", "y", "z", "x", "y"), order="xyz"), stop_after=stop_after)
    assert strategy.decision is not None
    assert strategy.decision.answer in "xy"
    assert strategy.decision.reason == "deadline"


def test_what_does_not_count_is_not_scored() -> None:
    good = numbered("x:0.5", "y:0.9", "x:0.5", "x:0.4", "x:0.3")
    _, decision = run(TeamSettings(samples=5), lambda ask: flagged(ask) if ask.number == 1 else good(ask))
    assert decision.answer == "x"
    assert len(decision.votes) == 4
