"""Who judges, who is judged, and what a judge chose: shared by the strategies that have one.

Invariant: whoever judges does not answer, unless it is the only member or the settings want it; then a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from open_autoglm.voting.ballot import Ballot, Standing, digest
from open_autoglm.voting.candidate import Ask, Candidate, Decision, Vote
from open_autoglm.voting.knowledge import Member
from open_autoglm.voting.settings import TeamSettings

JUDGES_ITSELF = "judge_own"


def bench(members: Sequence[Member], settings: TeamSettings) -> tuple[str, tuple[Member, ...], tuple[str, ...]]:
    """Return the judge, the members that answer, and the notes that belong on the decision."""
    judge = settings.judge or members[0].name
    others = tuple(member for member in members if member.name != judge)
    if others and not settings.judge_own:
        return judge, others, ()
    itself = any(member.name == judge for member in members)
    return judge, tuple(members), (JUDGES_ITSELF,) if itself else ()


def first_asks(ballot: Ballot, answering: Sequence[Member], settings: TeamSettings) -> list[Ask]:
    """Ask each member once at least, and in turn up to `samples` times in all; whoever is asked twice draws lots."""
    count = max(settings.samples, len(answering))
    again = count > len(answering)
    return [
        ballot.ask(
            answering[place % len(answering)].name,
            temperature=settings.temperature if again else None,
            seeded=again,
        )
        for place in range(count)
    ]


def choice(candidate: Candidate, count: int) -> int | None:
    """Return which of `count` texts a judge chose, from 0; None where that cannot be said.

    In a replay without texts a digest stands for its answer, as for every other.
    """
    if not candidate.counts:
        return None
    for place in range(count):
        if candidate.answer in (str(place + 1), digest(str(place + 1))):
            return place
    return None


def chosen(
    ballot: Ballot,
    weights: Sequence[float],
    pick: Standing,
    posterior: float,
    reason: str,
    *,
    tie: bool = False,
    notes: Sequence[str] = (),
) -> Decision:
    """Decide for an answer that need not be the first by weight; `weights` has one for each vote."""
    votes = tuple(
        Vote(vote.ask, vote.member, vote.answer, weight) for vote, weight in zip(ballot.votes, weights, strict=True)
    )
    agreement = sum(vote.answer == pick.answer for vote in votes) / len(votes)
    return Decision(pick.answer, pick.candidate, posterior, agreement, votes, reason, tie, tuple(notes))
