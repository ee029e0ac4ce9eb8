"""Debates: who sees what, when they end, and what counts in the end."""

from tests.unit.voting.play import Answering, failed, play, said, scripted

from open_autoglm.voting.candidate import Ask, Candidate
from open_autoglm.voting.debate import Debate
from open_autoglm.voting.knowledge import Knowledge, Member, Skill
from open_autoglm.voting.settings import TeamSettings

FOUR = tuple(Member(name) for name in "abcd")
ONE_PEER = TeamSettings(peers=1)


def run(answering: Answering, settings: TeamSettings = ONE_PEER, knowledge: Knowledge | None = None):  # type: ignore[no-untyped-def]
    strategy = Debate(FOUR, settings, knowledge or Knowledge(), 1)
    asks, _ = play(strategy, answering)
    assert strategy.decision is not None
    return asks, strategy.decision


def rounds(**answers: str) -> Answering:
    """Of each member its answer in each round."""
    counts: dict[str, int] = {}

    def answering(ask: Ask) -> Candidate:
        at = counts[ask.member] = counts.get(ask.member, -1) + 1
        answer = answers[ask.member][at]
        return failed(ask) if answer == "!" else said(ask, answer)

    return answering


def test_who_agrees_does_not_debate() -> None:
    asks, decision = run(scripted(a="x", b="x", c="x", d="x"))
    assert len(asks) == 4
    assert decision.notes == ("rounds=0", "minds_changed=0", "debate_changed_nothing")


def test_each_sees_its_own_and_the_next_in_the_ring_without_names_or_counts() -> None:
    asks, _ = run(rounds(a="xx", b="yy", c="xx", d="xx"))
    assert [(ask.member, ask.purpose, ask.shown) for ask in asks[4:]] == [
        ("a", "revise", (0, 1)),
        ("b", "revise", (1, 2)),
        ("c", "revise", (2, 3)),
        ("d", "revise", (3, 0)),
    ]
    assert len(asks) == 8, "nobody changed their mind, so there is no second round"


def test_it_ends_after_two_rounds_at_most() -> None:
    asks, decision = run(rounds(a="xyx", b="yxy", c="xyx", d="yxy"), TeamSettings(peers=1, rounds=4))
    assert len(asks) == 12
    assert decision.notes[0] == "rounds=2"
    asks, _ = run(rounds(a="x", b="y", c="x", d="y"), TeamSettings(rounds=0))
    assert len(asks) == 4


def test_first_and_last_answers_are_counted_and_what_changed_is_said() -> None:
    _, decision = run(rounds(a="xxx", b="xyy", c="yyy", d="zyy"))
    assert decision.notes == ("rounds=2", "minds_changed=2", "debate_changed_it")
    assert decision.answer == "y"
    assert [vote.answer for vote in decision.votes] == list("xxyz") + list("xyyy")
    _, decision = run(rounds(a="xyy", b="xxx", c="xxx", d="yyy"))
    assert (decision.answer, decision.notes[2]) == ("x", "debate_changed_nothing"), "the first answers count as well"


def test_who_is_right_far_more_often_outweighs_a_mob() -> None:
    knowledge = Knowledge((Skill("a", "", 97, 3), *(Skill(name, "", 52, 48) for name in "bcd")))
    assert run(rounds(a="xx", b="yy", c="yy", d="yy"), knowledge=knowledge)[1].answer == "x"
    assert run(rounds(a="xx", b="yy", c="yy", d="yy"))[1].answer == "y"


def test_who_fails_at_first_takes_no_part_and_who_fails_later_keeps_its_answer() -> None:
    asks, decision = run(rounds(a="xx", b="!", c="y!", d="xx"))
    assert {ask.member for ask in asks[4:]} == {"a", "c", "d"}
    assert decision.answer == "x"
    assert [vote.answer for vote in decision.votes] == ["x", "y", "x", "x", "y", "x"]


def test_stopped_in_a_round_it_counts_what_is_there() -> None:
    strategy = Debate(FOUR, ONE_PEER, Knowledge(), 1)
    play(strategy, rounds(a="xxx", b="yyy", c="xxx", d="xxx"), stop_after=5)
    assert strategy.decision is not None
    assert (strategy.decision.answer, strategy.decision.reason) == ("x", "deadline")
