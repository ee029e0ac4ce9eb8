"""The order of answers, and what decides when they have the same score."""

import pytest

from open_autoglm.voting.ballot import Ballot, digest, ranked
from open_autoglm.voting.candidate import Candidate


def vote(ask: int, answer: str, confidence: float | None = None, cost: float = 1.0) -> Candidate:
    return Candidate(ask, f"m{ask}", answer, confidence=confidence, cost=cost)


def test_ties_go_by_confidence_then_cost_then_digest() -> None:
    def first(*votes: Candidate) -> str:
        return ranked(votes, [1.0] * len(votes))[0].answer

    assert first(vote(0, "x", 0.5), vote(1, "y", 0.6)) == "y"
    assert first(vote(0, "x", 0.5), vote(1, "y", 0.5, cost=0.9)) == "y"
    assert first(vote(0, "x"), vote(1, "y")) == min("xy", key=digest)
    assert first(vote(0, "x", 0.9), vote(1, "y", 0.1), vote(2, "y", 0.1)) == "y", "votes before confidence"


def test_the_candidate_shown_is_the_one_with_most_behind_it() -> None:
    votes = [vote(0, "x", 0.5), vote(1, "x", 0.9), vote(2, "x", 0.9, cost=0.5)]
    assert ranked(votes, [1.0, 1.0, 1.0])[0].candidate == 2
    assert ranked(votes, [2.0, 1.0, 1.0])[0].candidate == 0


def test_a_digest_stands_for_its_answer_in_every_tie() -> None:
    assert digest(digest("42")) == digest("42") != digest("43")
    for answers in (("x", "y"), ("yes", "no"), ("1/2", "1/3")):
        plain = [vote(place, answer) for place, answer in enumerate(answers)]
        hidden = [vote(place, digest(answer)) for place, answer in enumerate(answers)]
        assert digest(ranked(plain, [1.0, 1.0])[0].answer) == ranked(hidden, [1.0, 1.0])[0].answer


def test_a_tie_is_reported_and_a_failure_is_no_vote() -> None:
    ballot = Ballot()
    for ask, answer in [(ballot.ask("a"), "x"), (ballot.ask("b"), "y"), (ballot.ask("c"), "")]:
        ballot.take(Candidate(ask.number, ask.member, answer, flags=() if answer else ("empty",)))
    decision = ballot.decision([1.0, 1.0], 0.5, "all_in")
    assert decision.tie
    assert (decision.agreement, len(decision.votes)) == (0.5, 2)


def test_nothing_is_decided_without_votes() -> None:
    ballot = Ballot()
    ask = ballot.ask("a")
    assert ballot.decision([], 0.5, "deadline").reason == "deadline"
    ballot.take(Candidate(ask.number, "a", failure="timeout"))
    decision = ballot.decision([], 0.5, "all_in")
    assert (decision.answer, decision.candidate, decision.posterior) == ("", -1, 0.0)
    assert decision.reason == "nobody_left"


def test_an_ask_is_taken_once_and_from_the_member_that_was_asked() -> None:
    ballot = Ballot()
    ask = ballot.ask("a")
    with pytest.raises(AssertionError, match="went to 'a'"):
        ballot.take(Candidate(ask.number, "b", "x"))
    with pytest.raises(AssertionError, match="not outstanding"):
        ballot.take(Candidate(ask.number, "a", "x"))


def test_seeds_differ_between_asks_and_follow_the_seed_of_the_run() -> None:
    one, other = Ballot(7), Ballot(7)
    seeds = [one.ask("a", seeded=True).seed for _ in range(3)]
    assert len(set(seeds)) == 3
    assert seeds == [other.ask("a", seeded=True).seed for _ in range(3)]
    assert one.ask("a").seed is None
