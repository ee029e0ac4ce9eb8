"""Universal self-consistency: what a judge is shown, and what its choice counts for."""

import pytest
from tests.unit.voting.play import ABC, failed, play, said

from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.universal import SHOWN_MAX, UniversalSelfConsistency

SETTINGS = TeamSettings(samples=5, judge="j")


class Judged:
    """The n-th ask gets the n-th answer; the judge names the answers in turn, by their place in what it is shown."""

    def __init__(self, answers: str, *names: str) -> None:
        self.answers, self.names = answers, list(names)
        self.shown: list[tuple[int, ...]] = []

    def __call__(self, ask: Ask) -> Candidate:
        if ask.purpose == "answer":
            return said(ask, self.answers[ask.number])
        self.shown.append(ask.shown)
        name = self.names[(ask.number - len(self.answers)) % len(self.names)]
        if name == "!":
            return failed(ask)
        places = [place for place, number in enumerate(ask.shown, 1) if self.answers[number] == name]
        return said(ask, str(places[0]))


def run(judged: Judged, settings: TeamSettings = SETTINGS) -> tuple[list[Ask], Decision]:
    strategy = UniversalSelfConsistency(ABC, settings, Knowledge(), 1)
    asks, _ = play(strategy, judged)
    assert strategy.decision is not None
    return asks, strategy.decision


def test_what_the_judge_names_in_both_orders_wins() -> None:
    judged = Judged("xxyzw", "z")
    asks, decision = run(judged)
    assert (decision.answer, decision.reason, decision.tie) == ("z", "judged", False)
    assert len(asks) == 7
    assert judged.shown[0] == judged.shown[1][::-1]
    assert sorted(judged.shown[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "answer"), [(("z", "x"), "x"), (("y", "x"), "x"), (("x", "!"), "x"), (("!", "z"), "z")]
)
def test_of_two_different_names_the_more_frequent_wins(names: tuple[str, str], answer: str) -> None:
    _, decision = run(Judged("xxyzw", *names))
    assert decision.answer == answer
    assert decision.tie == ("!" not in names)


def test_without_a_judgement_answers_are_counted() -> None:
    _, decision = run(Judged("xxyzw", "!"))
    assert (decision.answer, decision.reason) == ("x", "all_in")


def test_where_all_say_the_same_nobody_judges() -> None:
    asks, decision = run(Judged("xxxxx"))
    assert (len(asks), decision.answer, decision.posterior > 0.9) == (5, "x", True)


def test_what_a_judge_is_shown_is_bounded() -> None:
    answers = "abcdefghijklmnopqrst"
    judged = Judged(answers, "!")
    run(judged, TeamSettings(samples=20, judge="j"))
    assert all(len(shown) == SHOWN_MAX for shown in judged.shown)


def test_a_choice_of_what_was_not_shown_is_none() -> None:
    strategy = UniversalSelfConsistency(ABC, SETTINGS, Knowledge(), 1)
    play(strategy, lambda ask: said(ask, "99" if ask.purpose == "judge" else "xxyzw"[ask.number]))
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("x", "all_in")
