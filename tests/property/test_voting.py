"""Votes: order does not matter, leaving early changes nothing, equal weights are a majority, a replay is the same."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from open_autoglm.voting.ballot import digest
from open_autoglm.voting.candidate import Candidate, Decision
from open_autoglm.voting.catalog import make_strategy
from open_autoglm.voting.dynamic_voting import DynamicVoting
from open_autoglm.voting.knowledge import Curve, JointErrors, Knowledge, Member, Skill
from open_autoglm.voting.self_consistency import SelfConsistency
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.strategy import Strategy

NAMES = "abcdefg"
CHOICES = ["w", "x", "y", "z"]


@st.composite
def teams(draw: st.DrawFn) -> tuple[tuple[Member, ...], Knowledge, list[Candidate], TeamSettings]:
    """Members with records, what each one says in the order of its coming, settings."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    members = tuple(Member(name, draw(st.sampled_from(["", "", "cloud"]))) for name in names)
    skills = tuple(Skill(name, "", draw(st.floats(0.5, 200)), draw(st.floats(0.5, 200))) for name in names)
    joint = (JointErrors("a", "b", 100, 40, 40, draw(st.integers(10, 40))),) if len(names) > 1 else ()
    curves = tuple(
        Curve(name, "", (0.0, 1.0), tuple(sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))))
        for name in names
        if draw(st.booleans())
    )
    chances = {curve.member: curve.right for curve in curves}
    candidates = [
        Candidate(
            number,
            name,
            draw(st.sampled_from([*CHOICES, ""])),
            confidence=draw(st.none() | st.floats(*chances.get(name, (0.0, 1.0)))),
            cost=draw(st.sampled_from([0.0, 1.0, 2.0])),
        )
        for number, name in enumerate(names)
    ]
    settings = TeamSettings(
        choices=draw(st.sampled_from([[], CHOICES])),
        confidence_weighting=draw(st.booleans()),
        pessimistic=draw(st.booleans()),
        weighting=draw(st.sampled_from(["learned", "equal"])),
    )
    return members, Knowledge(skills, joint, calibration=curves), draw(st.permutations(candidates)), settings


def voted(strategy: Strategy, candidates: list[Candidate]) -> Decision:
    strategy.begin()
    for candidate in candidates:
        if strategy.decision is None:
            strategy.take(candidate)
    assert strategy.decision is not None
    return strategy.decision


@given(teams(), st.randoms(use_true_random=False))
def test_the_order_of_the_votes_does_not_matter(
    team: tuple[tuple[Member, ...], Knowledge, list[Candidate], TeamSettings], order: random.Random
) -> None:
    members, knowledge, candidates, settings = team
    settings = replace(settings, early_exit="none")
    one = voted(DynamicVoting(members, settings, knowledge, 0), candidates)
    order.shuffle(candidates)
    other = voted(DynamicVoting(members, settings, knowledge, 0), candidates)
    assert sorted(one.votes, key=lambda vote: vote.ask) == sorted(other.votes, key=lambda vote: vote.ask)
    assert replace(one, votes=()) == replace(other, votes=())


@given(teams())
def test_leaving_early_never_changes_the_answer(
    team: tuple[tuple[Member, ...], Knowledge, list[Candidate], TeamSettings],
) -> None:
    members, knowledge, candidates, settings = team
    early = voted(DynamicVoting(members, settings, knowledge, 0), candidates)
    full = voted(DynamicVoting(members, replace(settings, early_exit="none"), knowledge, 0), candidates)
    assert early.answer == full.answer
    assert len(early.votes) <= len(full.votes)


@given(teams())
def test_equal_weights_are_a_majority_and_self_consistency(
    team: tuple[tuple[Member, ...], Knowledge, list[Candidate], TeamSettings],
) -> None:
    members, knowledge, candidates, settings = team
    candidates.sort(key=lambda candidate: candidate.ask)
    settings = replace(settings, weighting="equal", early_exit="none", adaptive=False, samples=len(members), wave=64)
    vote = voted(DynamicVoting(members, settings, knowledge, 0), candidates)
    counts = {choice: sum(candidate.answer == choice for candidate in candidates) for choice in CHOICES}
    assert not vote.answer or counts[vote.answer] == max(counts.values())
    consistent = voted(SelfConsistency(members, settings, knowledge, 0), candidates)
    assert consistent.answer == vote.answer
    if consistent.reason != "decided":
        assert msgspec.json.encode(consistent) == msgspec.json.encode(vote)


@given(
    st.sampled_from(["self_consistency", "dynamic_voting", "ahead_by_k"]), teams(), st.booleans(), st.integers(0, 2**32)
)
def test_a_replay_decides_the_same_bytes(
    name: str,
    team: tuple[tuple[Member, ...], Knowledge, list[Candidate], TeamSettings],
    lead_weighted: bool,
    seed: int,
) -> None:
    members, knowledge, _, settings = team
    settings = replace(settings, lead_weighted=lead_weighted)
    draw = random.Random(seed)
    strategy = make_strategy(name, members, settings, knowledge, seed)
    waiting, taken = strategy.begin(), []
    while strategy.decision is None:
        ask = waiting.pop(draw.randrange(len(waiting)))
        taken.append(Candidate(ask.number, ask.member, draw.choice([*CHOICES, ""]), confidence=draw.random()))
        waiting += strategy.take(taken[-1])
    record = msgspec.json.encode((members, settings, knowledge))
    kept = msgspec.json.decode(record, type=tuple[tuple[Member, ...], TeamSettings, Knowledge])
    assert msgspec.json.encode(voted(make_strategy(name, *kept, seed), taken)) == msgspec.json.encode(strategy.decision)
    hidden = [
        replace(candidate, answer=digest(candidate.answer)) if candidate.answer else candidate for candidate in taken
    ]
    again = voted(make_strategy(name, *kept, seed), hidden)
    assert again.candidate == strategy.decision.candidate
    assert again.answer == (digest(strategy.decision.answer) if strategy.decision.answer else "")
