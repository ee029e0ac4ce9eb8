"""Cascades: how far they go, what they take, and the error they keep on items they were not tuned on."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.voting.play import ABC, Answering, encoded, failed, flagged, play, replayed, said

from open_autoglm.voting.calibration import Scored, agreement_of, chance, fit
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.cascade import Cascade, cascade_steps
from open_autoglm.voting.knowledge import Curve, Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.thresholds import StepResult, choose_thresholds

ONCE = TeamSettings(cascade_samples=1, threshold=0.8)


def sure(**confidences: float) -> Answering:
    """Each member answers with its name, as sure as is said; 0 is a failure."""
    return lambda ask: said(ask, ask.member, confidences[ask.member]) if confidences[ask.member] else failed(ask)


def run(
    settings: TeamSettings, answering: Answering, members: tuple[Member, ...] = ABC, knowledge: Knowledge | None = None
) -> tuple[list[Ask], Decision]:
    cascade = Cascade(members, settings, knowledge or Knowledge(), 1)
    asks, _ = play(cascade, answering)
    assert cascade.decision is not None
    return asks, cascade.decision


def test_the_cheapest_is_asked_first_and_alone_while_it_is_sure() -> None:
    asks, decision = run(ONCE, sure(a=0.9, b=0.9, c=0.9), members=ABC[::-1])
    assert [ask.member for ask in asks] == ["a"]
    assert (decision.answer, decision.reason, decision.posterior) == ("a", "accepted", 0.9)
    assert decision.notes == ("step=1",)


def test_it_goes_on_until_one_is_sure() -> None:
    asks, decision = run(ONCE, sure(a=0.5, b=0.79, c=0.8))
    assert [ask.member for ask in asks] == ["a", "b", "c"]
    assert (decision.answer, decision.reason) == ("c", "accepted")


def test_the_last_has_the_last_word_or_abstains() -> None:
    unsure = sure(a=0.7, b=0.5, c=0.6)
    assert run(ONCE, unsure)[1].answer == "c"
    assert run(ONCE, unsure)[1].reason == "all_in"
    decision = run(replace(ONCE, cascade_abstain=True), unsure)[1]
    assert (decision.answer, decision.candidate, decision.reason) == ("", -1, "unsure")
    assert [vote.answer for vote in decision.votes] == ["a", "b", "c"]


def test_a_step_that_fails_is_passed_over() -> None:
    assert run(ONCE, sure(a=0, b=0.9, c=0.9))[1].answer == "b"
    decision = run(ONCE, sure(a=0.5, b=0.6, c=0))[1]
    assert (decision.answer, decision.reason) == ("b", "all_in")


def test_each_step_has_its_threshold() -> None:
    settings = replace(ONCE, thresholds=[0.95, 0.4])
    assert run(settings, sure(a=0.9, b=0.5, c=0.9))[1].answer == "b"


def test_samples_that_agree_are_confidence() -> None:
    settings = TeamSettings(cascade_samples=3, threshold=0.9)
    asks, decision = run(settings, lambda ask: said(ask, "7"))
    assert [(ask.member, ask.temperature, ask.seed) for ask in asks] == [("a", 0.7, 1), ("a", 0.7, 2), ("a", 0.7, 3)]
    assert (decision.answer, decision.posterior) == ("7", 1.0)
    asks, decision = run(settings, lambda ask: said(ask, str(ask.number)))
    assert [ask.member for ask in asks] == ["a"] * 3 + ["b"] * 3 + ["c"], "the last is asked once"


def test_agreement_counts_for_what_its_curve_says() -> None:
    curve = Curve(agreement_of("a"), "", (0.0, 1.0), (0.1, 0.85))
    settings = TeamSettings(cascade_samples=3, threshold=0.9)
    asks, _ = run(settings, lambda ask: said(ask, "7"), knowledge=Knowledge(calibration=(curve,)))
    assert [ask.member for ask in asks[:4]] == ["a", "a", "a", "b"]


def test_a_step_of_several_votes_with_those_before() -> None:
    settings = replace(ONCE, cascade_steps=[["a"], ["b", "c"]], thresholds=[0.9, 0.0])
    votes = {"a": ("x", 0.8), "b": ("y", 0.7), "c": ("x", 0.6)}
    asks, decision = run(settings, lambda ask: said(ask, *votes[ask.member]))
    assert [ask.member for ask in asks] == ["a", "b", "c"]
    assert (decision.answer, decision.agreement) == ("x", pytest.approx(2 / 3))
    assert decision.posterior > 0.8
    votes["a"] = ("x", 0.95)
    assert len(run(settings, lambda ask: said(ask, *votes[ask.member]))[0]) == 1


def test_samples_of_one_member_are_one_voice_in_a_vote() -> None:
    settings = TeamSettings(cascade_samples=3, cascade_steps=[["a"], ["b", "c"]], thresholds=[1.0, 0.0])
    curve = Curve(agreement_of("a"), "", (0.0, 1.0), (0.1, 0.5))

    def answering(ask: Ask) -> Candidate:
        return said(ask, "x") if ask.member == "a" else said(ask, "y", 0.7)

    assert run(settings, answering, knowledge=Knowledge(calibration=(curve,)))[1].answer == "y"


def test_stopped_it_gives_the_surest_step() -> None:
    cascade = Cascade(ABC, ONCE, Knowledge(), 1)
    play(cascade, sure(a=0.7, b=0.5, c=0.9), stop_after=2)
    assert cascade.decision is not None
    assert (cascade.decision.answer, cascade.decision.reason) == ("a", "deadline")


@pytest.mark.parametrize("steps", [[["a"], ["a", "b"]], [["a"], []], [["a"], ["nobody"]]])
def test_steps_that_make_no_sense_are_refused(steps: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="cascade_steps"):
        Cascade(ABC, replace(ONCE, cascade_steps=steps), Knowledge(), 1)


class World:
    """Items of drawn difficulty; the cheap member boasts, the dear one is right in 97 of 100."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def item(self) -> tuple[float, bool, bool]:
        """What the cheap one says of itself, whether it is right, whether the dear one is."""
        ease = self._rng.random() ** 0.3
        return max(ease, 0.01) ** 0.25, self._rng.random() < ease, self._rng.random() < 0.97


def truth(felt: float, cheap: bool, dear: bool) -> Answering:
    """What both members say of one item."""
    answers = {"a": ("right" if cheap else "wrong", felt), "b": ("right" if dear else "wrong too", 0.97)}
    return lambda ask: said(ask, *answers[ask.member])


def test_thresholds_from_a_calibration_set_keep_the_error_on_fresh_items() -> None:
    """From a log to a curve to thresholds to the machine itself, each on items of its own."""
    error_max, kept, deferred = 0.08, 0, []
    for seed in range(6):
        world = World(seed)
        curve = fit([Scored(boast, right) for boast, right, _ in (world.item() for _ in range(600))])
        log = [
            (StepResult(chance(curve, boast), cheap, 1.0), StepResult(0.97, dear, 10.0))
            for boast, cheap, dear in (world.item() for _ in range(600))
        ]
        chosen = choose_thresholds(log, error_max)
        assert chosen is not None
        settings = replace(ONCE, thresholds=list(chosen.values))
        wrong = dear_asked = 0
        for _ in range(1500):
            boast, cheap, dear = world.item()
            asks, decision = run(settings, truth(chance(curve, boast), cheap, dear), members=ABC[:2])
            wrong += decision.answer != "right"
            dear_asked += len(asks) - 1
        kept += wrong / 1500 <= error_max
        deferred.append(dear_asked / 1500)
    assert kept >= 5
    assert 0.2 < sum(deferred) / 6 < 0.95, "it is neither always the dear one nor never"


TOOL = Member("tool:t", kind="tool")
COMPUTED = replace(ONCE, thresholds=[0.8, 0.0], cascade_steps=[["a"], ["tool:t"]])


def test_a_tool_is_given_the_answer_that_was_not_sure_enough() -> None:
    asks, decision = run(COMPUTED, sure(a=0.5, **{"tool:t": 0.999}), members=(ABC[0], TOOL))
    assert asks[1] == Ask(1, "tool:t", "compute", shown=(0,))
    assert (decision.answer, decision.candidate, decision.reason) == ("tool:t", 1, "accepted")
    assert [vote.answer for vote in decision.votes] == ["a", "tool:t"]
    asks, decision = run(COMPUTED, sure(a=0.9), members=(ABC[0], TOOL))
    assert ([ask.member for ask in asks], decision.answer) == (["a"], "a")


@pytest.mark.parametrize("nothing", [flagged, failed])
def test_a_tool_that_abstains_or_fails_leaves_the_best_so_far(nothing: Callable[[Ask], Candidate]) -> None:
    def answering(ask: Ask) -> Candidate:
        return said(ask, ask.member, 0.5) if ask.purpose == "answer" else nothing(ask)

    asks, decision = run(COMPUTED, answering, members=(ABC[0], TOOL))
    assert (len(asks), decision.answer, decision.candidate, decision.reason) == (2, "a", 0, "all_in")
    further = replace(COMPUTED, cascade_steps=[["a"], ["tool:t"], ["b"]], thresholds=[0.8, 0.8, 0.0])
    asks, decision = run(further, answering, members=(*ABC[:2], TOOL))
    assert ([ask.member for ask in asks], decision.answer) == (["a", "tool:t", "b"], "b")


def test_a_tool_has_nothing_to_do_while_nobody_has_said_anything() -> None:
    settings = replace(COMPUTED, cascade_steps=[["a"], ["tool:t"], ["b", "tool:u"]])
    members = (*ABC[:2], TOOL, Member("tool:u", kind="tool"))
    asks, decision = run(settings, sure(a=0, b=0.9), members=members)
    assert [ask.member for ask in asks] == ["a", "b"]
    assert decision.answer == "b"
    asks, decision = run(COMPUTED, sure(a=0), members=(ABC[0], TOOL))
    assert (len(asks), decision.reason) == (1, "nobody_left")


def test_a_tool_is_shown_the_samples_that_agree_and_is_not_sampled_itself() -> None:
    settings = TeamSettings(cascade_samples=3, threshold=0.9, cascade_steps=[["a"], ["tool:t"], ["b"]])

    def answering(ask: Ask) -> Candidate:
        return said(ask, "few" if ask.number == 0 else ask.member, 0.5)

    asks, _ = run(settings, answering, members=(*ABC[:2], TOOL))
    assert [ask.member for ask in asks] == ["a", "a", "a", "tool:t", "b"]
    assert asks[3].shown == (1,)
    assert asks[3].temperature is asks[3].seed is None


def test_a_tool_comes_after_a_model() -> None:
    assert cascade_steps((TOOL, ABC[0]), ONCE) == (("a",), ("tool:t",))
    with pytest.raises(ValueError, match="no model whose answers 'tool:t' could compute"):
        Cascade((TOOL,), ONCE, Knowledge(), 1)
    with pytest.raises(ValueError, match="begins with"):
        Cascade((ABC[0], TOOL), replace(ONCE, cascade_steps=[["tool:t", "a"]]), Knowledge(), 1)


@given(st.integers(0, 2**31 - 1))
def test_with_a_tool_the_same_candidates_decide_the_same(seed: int) -> None:
    lots = random.Random(seed)
    steps = lots.choice([[["a"], ["tool:t"]], [["a", "b"], ["tool:t", "c"]], [["a"], ["tool:t"], ["b"]]])
    settings = TeamSettings(cascade_samples=lots.randint(1, 3), cascade_steps=steps, threshold=lots.random())
    members = (*ABC, TOOL)

    def answering(ask: Ask) -> Candidate:
        assert (ask.purpose == "compute") == (ask.member == "tool:t")
        if lots.random() < 0.3:
            return lots.choice([failed, flagged])(ask)
        return said(ask, lots.choice("xyz"), lots.choice([None, 0.4, 0.9]))

    cascade = Cascade(members, settings, Knowledge(), seed)
    _, taken = play(cascade, answering, seed=seed)
    again = Cascade(members, settings, Knowledge(), seed)
    assert encoded(cascade.decision) == encoded(replayed(again, taken, "deadline", lambda answer: answer))
