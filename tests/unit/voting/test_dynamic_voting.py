"""Dynamic voting: weights, early exits, quorum, guards."""

from math import log

import pytest

from open_autoglm.voting.candidate import Candidate, Decision
from open_autoglm.voting.dynamic_voting import DynamicVoting
from open_autoglm.voting.knowledge import Curve, JointErrors, Knowledge, Losses, Member, Skill
from open_autoglm.voting.settings import TeamSettings

FIVE = tuple(Member(name) for name in "abcde")


def skills(**accuracies: float) -> Knowledge:
    return Knowledge(tuple(Skill(name, "", 1000 * x, 1000 * (1 - x)) for name, x in accuracies.items()))


def voted(
    answers: dict[str, str],
    knowledge: Knowledge | None = None,
    members: tuple[Member, ...] = FIVE,
    confidence: float | None = None,
    **settings: object,
) -> DynamicVoting:
    """Take the members' answers in that order, "!" for a failure, until it has decided."""
    strategy = DynamicVoting(members, TeamSettings(**settings), knowledge or Knowledge(), 0)  # type: ignore[arg-type]
    numbers = {ask.member: ask.number for ask in strategy.begin()}
    for name, answer in answers.items():
        if strategy.decision is None:
            failure = "timeout" if answer == "!" else ""
            counted = "" if failure else answer
            strategy.take(Candidate(numbers[name], name, counted, confidence=confidence, failure=failure))
    return strategy


def decided(strategy: DynamicVoting) -> Decision:
    assert strategy.decision is not None
    return strategy.decision


def test_a_good_member_outvotes_two_poor_ones() -> None:
    known = skills(a=0.95, b=0.6, c=0.6)
    decision = decided(voted({"a": "x", "b": "y", "c": "y"}, known, FIVE[:3], choices=["x", "y"], early_exit="none"))
    assert decision.answer == "x"
    assert decision.notes == ("majority_differs",)
    assert [vote.weight for vote in decision.votes] == pytest.approx([log(19), log(1.5), log(1.5)])
    assert decision.posterior == pytest.approx(19 / (19 + 1.5**2))


def test_who_is_worse_than_a_guess_speaks_against_its_answer() -> None:
    known = skills(a=0.1, b=0.6, c=0.6)
    decision = decided(voted({"a": "x", "b": "x", "c": "y"}, known, FIVE[:3], choices=["x", "y"]))
    assert decision.answer == "y"
    assert decision.votes[0].weight == pytest.approx(-log(9))


def test_the_number_of_answers_counts_where_choices_are_not_known() -> None:
    decision = decided(voted({"a": "x", "b": "y", "c": "x"}, skills(a=0.8, b=0.8, c=0.8), FIVE[:3], early_exit="none"))
    assert [vote.weight for vote in decision.votes] == pytest.approx([log(2 * 4)] * 3), "x, y and one more"


@pytest.mark.parametrize(
    ("early_exit", "taken", "reason"), [("none", 5, "all_in"), ("certain", 3, "decided"), ("probable", 2, "confident")]
)
def test_when_it_stops_among_equals(early_exit: str, taken: int, reason: str) -> None:
    known = skills(a=0.9, b=0.9, c=0.9, d=0.9, e=0.9)
    answers = dict.fromkeys("abcde", "x")
    decision = decided(voted(answers, known, early_exit=early_exit, choices=["x", "y"]))
    assert (len(decision.votes), decision.reason) == (taken, reason)


def test_an_exit_waits_for_those_that_could_speak_against_the_leader() -> None:
    known = skills(a=0.9, b=0.02, c=0.02)  # b and c would take the leader down by voting for it
    strategy = voted({"a": "x"}, known, FIVE[:3], choices=["x", "y"])
    assert strategy.decision is None


def test_own_confidence_weighs_where_it_is_wanted() -> None:
    known = skills(a=0.6, b=0.6, c=0.6)
    settings = {"choices": ["x", "y"], "early_exit": "none"}
    plain = decided(voted({"a": "x", "b": "x"}, known, FIVE[:2], 0.9, **settings))
    said = decided(voted({"a": "x", "b": "x"}, known, FIVE[:2], 0.9, **settings, confidence_weighting=True))
    assert plain.votes[0].weight == pytest.approx(log(1.5))
    assert said.votes[0].weight == pytest.approx(log(9))


def test_with_unknown_confidence_nobody_is_taken_to_be_harmless() -> None:
    known = skills(a=0.95, b=0.51, c=0.51)
    assert voted({"a": "x"}, known, FIVE[:3], choices=["x", "y"]).decision is not None
    unknown = voted({"a": "x"}, known, FIVE[:3], choices=["x", "y"], confidence_weighting=True)
    assert unknown.decision is None


def test_a_member_with_a_curve_weighs_by_its_confidence_and_others_by_their_record() -> None:
    curve = Curve("a", "", (0.0, 1.0), (0.3, 0.9))
    known = Knowledge(skills(a=0.6, b=0.6).skills, calibration=(curve, Curve("b", "other", (0.0,), (0.9,))))
    settings = {"choices": ["x", "y"], "early_exit": "none"}
    decision = decided(voted({"a": "x", "b": "y"}, known, FIVE[:2], 0.8, **settings))
    assert [vote.weight for vote in decision.votes] == pytest.approx([log(4), log(1.5)])
    decision = decided(voted({"a": "x", "b": "y"}, known, FIVE[:2], **settings))
    assert decision.votes[0].weight == pytest.approx(log(1.5)), "nobody told how sure it is"
    decision = decided(voted({"a": "x", "b": "y"}, known, FIVE[:2], 0.8, **settings, weighting="equal"))
    assert [vote.weight for vote in decision.votes] == [1.0, 1.0]


def test_a_curve_bounds_what_an_outstanding_vote_may_weigh() -> None:
    flat = tuple(Curve(name, "", (0.0, 1.0), (0.4, 0.6)) for name in "bc")
    known = Knowledge(skills(a=0.95, b=0.51, c=0.51).skills, calibration=flat)
    settings = {"choices": ["x", "y"], "confidence_weighting": True}
    assert voted({"a": "x"}, known, FIVE[:3], **settings).decision is not None
    steep = tuple(Curve(name, "", (0.0, 1.0), (0.4, 0.95)) for name in "bc")
    known = Knowledge(known.skills, calibration=steep)
    assert voted({"a": "x"}, known, FIVE[:3], choices=["x", "y"]).decision is None


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"a": "x", "b": "x"}, ""),  # one domain
        ({"a": "x", "b": "x", "c": "y"}, "all_in"),
        ({"a": "x", "b": "x", "c": "!"}, "no_quorum"),
        ({"c": "!"}, "no_quorum"),  # at once: the others are one domain
        ({"a": "!", "b": "!", "c": "!"}, "no_quorum"),
    ],
)
def test_a_quorum_is_of_failure_domains(answers: dict[str, str], reason: str) -> None:
    members = (Member("a", "cloud"), Member("b", "cloud"), Member("c", "cellar"))
    strategy = voted(answers, members=members, quorum=2, early_exit="none")
    if not reason:
        assert strategy.decision is None
        strategy.stop("deadline")
        assert decided(strategy).notes == ("deadline",)
        reason = "no_quorum"
    decision = decided(strategy)
    assert decision.reason == reason or (reason == "no_quorum" and not decision.votes)
    assert bool(decision.answer) == (reason == "all_in")


def test_a_quorum_beyond_the_domains_is_refused() -> None:
    with pytest.raises(ValueError, match="quorum 2 needs as many failure domains; the members have 1"):
        voted({}, members=(Member("a", "cloud"), Member("b", "cloud")), quorum=2)


def test_nobody_left() -> None:
    decision = decided(voted(dict.fromkeys("abcde", "!")))
    assert (decision.reason, decision.answer, decision.votes) == ("nobody_left", "", ())


def test_members_of_one_domain_share_their_weight() -> None:
    members = (*(Member(name, "one base") for name in "abc"), Member("d"), Member("e"))
    answers = {"a": "x", "b": "x", "c": "x", "d": "y", "e": "y"}
    decision = decided(voted(answers, members=members, choices=["x", "y"], early_exit="none"))
    assert decision.answer == "y", "three that err together count less than two that do not"
    assert set(decision.notes) == {"correlated", "majority_differs"}
    assert decision.votes[0].weight == pytest.approx(log(2) / 2)
    plain = voted(answers, members=members, choices=["x", "y"], early_exit="none", correlation_guard=False)
    assert decided(plain).answer == "x"


def test_measured_errors_make_a_cluster_or_undo_one() -> None:
    together = tuple(JointErrors(*pair, 200, 60, 60, 60) for pair in ("ab", "ac", "bc"))
    answers = {"a": "x", "b": "x", "c": "x", "d": "y", "e": "y"}
    settings = {"choices": ["x", "y"], "early_exit": "none"}
    decision = decided(voted(answers, Knowledge(joint_errors=together), **settings))
    assert decision.answer == "y"
    apart = tuple(JointErrors(*pair, 200, 60, 60, 18) for pair in ("ab", "ac", "bc"))
    members = (*(Member(name, "one base") for name in "abc"), Member("d"), Member("e"))
    assert decided(voted(answers, Knowledge(joint_errors=apart), members, **settings)).answer == "x"


def test_weights_that_did_worse_than_a_majority_are_put_aside() -> None:
    known = Knowledge(skills(a=0.95, b=0.6, c=0.6).skills, losses=(Losses("", 50, 20, 5),))
    answers = {"a": "x", "b": "y", "c": "y"}
    decision = decided(voted(answers, known, FIVE[:3], choices=["x", "y"]))
    assert (decision.answer, decision.notes) == ("y", ("shadow_majority",))
    known = Knowledge(known.skills, losses=(Losses("", 50, 5, 5),))
    assert decided(voted(answers, known, FIVE[:3], choices=["x", "y"])).answer == "x"


def test_a_pessimist_trusts_a_short_record_less() -> None:
    known = Knowledge((Skill("a", "", 9, 1), Skill("b", "", 87, 13), Skill("c", "", 50, 50)))
    settings = {"choices": ["x", "y"], "early_exit": "none"}
    answers = {"a": "x", "b": "y", "c": "x"}
    assert decided(voted(answers, known, FIVE[:3], **settings)).answer == "x"
    assert decided(voted(answers, known, FIVE[:3], pessimistic=True, **settings)).answer == "y"
