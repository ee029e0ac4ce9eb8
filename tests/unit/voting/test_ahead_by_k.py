"""First to be ahead by k: the published vectors, the theory, and the votes that it draws."""

import random
from math import sqrt

import pytest
from tests.unit.voting.play import failed, play, said, scripted

from open_autoglm.voting.ahead_by_k import AheadByK, chance_right, k_min, votes_expected
from open_autoglm.voting.candidate import Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member, Skill
from open_autoglm.voting.settings import TeamSettings

ONE = (Member("a"),)


@pytest.mark.parametrize(
    ("accuracy", "target", "steps", "lead"),
    [
        (0.85, 0.95, 1_048_575, 10),
        (0.99, 0.95, 1_048_575, 4),
        (0.9, 0.99, 10, 4),
        (0.8, 0.99, 100, 7),
        (0.7, 0.99, 20, 9),
    ],
)
def test_the_published_leads(accuracy: float, target: float, steps: int, lead: int) -> None:
    assert k_min(accuracy, target, steps) == lead
    assert chance_right(accuracy, lead) ** steps >= target > chance_right(accuracy, lead - 1) ** steps
    settings = TeamSettings(lead=0, lead_accuracy=accuracy, lead_target=target, lead_steps=steps)
    assert len(AheadByK(ONE, settings, Knowledge(), 0).begin()) == lead


@pytest.mark.parametrize("arguments", [(0.5, 0.9, 1), (1.0, 0.9, 1), (0.9, 1.0, 1), (0.9, 0.0, 1), (0.9, 0.9, 0)])
def test_there_is_no_lead_for_a_guess(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="no lead for accuracy"):
        k_min(*arguments)


@pytest.mark.parametrize(
    ("lead", "right", "votes"), [(2, 0.8448, 3.448), (3, 0.9270, 6.405), (4, 0.9674, 9.347)]
)  # fmt: skip
def test_the_formulae(lead: int, right: float, votes: float) -> None:
    assert chance_right(0.7, lead) == pytest.approx(right, abs=5e-5)
    assert votes_expected(0.7, lead) == pytest.approx(votes, abs=5e-4)
    assert votes_expected(0.5, lead) == lead * lead


def drawn(accuracy: float, lead: int, draw: random.Random, wrong: int = 1) -> Decision:
    """One run in which answers come in the order of the asks."""
    strategy = AheadByK(ONE, TeamSettings(lead=lead, votes_max=1000), Knowledge(), 0)
    waiting = strategy.begin()
    while strategy.decision is None:
        answer = "right" if draw.random() < accuracy else f"wrong {draw.randrange(wrong)}"
        waiting += strategy.take(said(waiting.pop(0), answer))
    assert not waiting, "nothing was asked in vain"
    return strategy.decision


@pytest.mark.parametrize("lead", [2, 3])
def test_what_is_drawn_agrees_with_the_theory(lead: int) -> None:
    runs, draw = 1500, random.Random(5)
    decisions = [drawn(0.7, lead, draw) for _ in range(runs)]
    right = sum(decision.answer == "right" for decision in decisions) / runs
    votes = [len(decision.votes) for decision in decisions]
    mean = sum(votes) / runs
    deviation = sqrt(sum((count - mean) ** 2 for count in votes) / runs)
    expected = chance_right(0.7, lead)
    assert abs(right - expected) < 3 * sqrt(expected * (1 - expected) / runs)
    assert abs(mean - votes_expected(0.7, lead)) < 3 * deviation / sqrt(runs)


def test_several_wrong_answers_only_make_it_better() -> None:
    runs, draw = 500, random.Random(6)
    right = sum(drawn(0.5, 3, draw, wrong=4).answer == "right" for _ in range(runs)) / runs
    assert right > 0.93, "with one wrong answer it would be 0.5"


def test_votes_are_capped_and_failures_among_them() -> None:
    strategy = AheadByK(ONE, TeamSettings(lead=3, votes_max=6), Knowledge(), 0)
    waiting, asked = strategy.begin(), 0
    while waiting:
        ask = waiting.pop(0)
        asked += 1
        waiting += strategy.take(failed(ask) if asked % 3 == 0 else said(ask, "xy"[asked % 2]))
    assert asked == 6
    assert strategy.decision is not None
    assert strategy.decision.reason == "all_in"


@pytest.mark.parametrize("weighted", [False, True])
def test_dead_members_are_asked_a_few_times_and_the_others_lead(weighted: bool) -> None:
    members = (Member("dead"), Member("good"), Member("gone"))
    strategy = AheadByK(members, TeamSettings(lead=4, lead_weighted=weighted), Knowledge(), 0)
    asks, _ = play(strategy, scripted(dead="!", good="x", gone="!"))
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("x", "lead")
    assert sum(ask.member != "good" for ask in asks) <= 7
    strategy = AheadByK(members, TeamSettings(lead=4), Knowledge(), 0)
    asks, _ = play(strategy, failed)
    assert strategy.decision is not None
    assert strategy.decision.reason == "nobody_left"
    assert len(asks) <= 9


def test_with_weights_one_good_member_outweighs_two_poor_ones() -> None:
    members = (Member("good"), Member("poor"), Member("bad"))
    known = Knowledge((Skill("good", "", 98, 2), Skill("poor", "", 55, 45), Skill("bad", "", 55, 45)))
    settings = TeamSettings(lead_weighted=True, stop_confidence=0.95, choices=["x", "y"])
    strategy = AheadByK(members, settings, known, 0)
    waiting = strategy.begin()
    assert [ask.member for ask in waiting] == ["good", "poor", "bad"][: len(waiting)]
    strategy.take(Candidate(0, "good", "x"))
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("x", "lead")
    assert strategy.decision.posterior == pytest.approx(0.98)
