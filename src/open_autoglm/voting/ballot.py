"""The questions of one run, what became of them, and the order of the answers: what all strategies that count share.

| an ask is | until |
|---|---|
| outstanding | `take` |
| taken | for ever: a vote when its candidate counts, else only paid for |

Which answer is first: the higher score; then the higher sum of confidences; then the lower cost of its cheapest
candidate; then the smaller digest. Invariants: numbers of asks are 0, 1, … in order; an ask is taken once; the order of
the answers does not depend on the order in which the candidates came (sums are exactly rounded).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import fsum
from typing import Final

from msgspec import Struct

from open_autoglm.voting.candidate import Ask, Candidate, Decision, Purpose, Vote

_DIGEST: Final = "digest:"


def digest(answer: str) -> str:
    """Return what stands for an answer where its text may not be kept; of a digest, itself.

    Ties are broken by digests, so that a run replayed with digests for answers ends as the run did.
    """
    if answer.startswith(_DIGEST):
        return answer
    return _DIGEST + hashlib.blake2b(answer.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Standing(Struct, frozen=True):
    """One answer and what speaks for it.

    Attributes:
        score: sum of the weights of its votes.
        votes: how many they are.
        confidence: sum of what they say of themselves.
        cost: of the cheapest one.
        candidate: number of the ask whose text shows it best: of those that vote for it the one with the highest
            weight, then confidence, then the lowest cost, then number.
    """

    answer: str
    score: float
    votes: int
    confidence: float
    cost: float
    candidate: int


class Ballot:
    """See the module.

    Args:
        seed: of the run; each ask that wants a seed has one of its own.

    Attributes:
        candidates: all that were taken, in that order.
        votes: those of them that count.
        outstanding: asks that were not taken, by number.
        asked: how many asks there were.
    """

    __slots__ = ("_seed", "asked", "candidates", "outstanding", "votes")

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.asked = 0
        self.candidates: list[Candidate] = []
        self.votes: list[Candidate] = []
        self.outstanding: dict[int, Ask] = {}

    def ask(
        self,
        member: str,
        *,
        purpose: Purpose = "answer",
        prompt: str = "",
        shown: tuple[int, ...] = (),
        temperature: float | None = None,
        seeded: bool = False,
        after_s: float = 0.0,
    ) -> Ask:
        """Ask a member, for its answer to the client's request where nothing else is said.

        Args:
            purpose, prompt, shown, after_s: see `Ask`; what a judge says is no vote.
            temperature: instead of the client's own.
            seeded: whether the ask has a seed of its own: one member asked twice must not say the same twice.
        """
        number = self.asked
        seed = (self._seed + number) % 2**31 if seeded else None
        ask = Ask(number, member, purpose, prompt, shown, temperature, seed, after_s)
        self.asked += 1
        self.outstanding[number] = ask
        return ask

    def take(self, candidate: Candidate) -> None:
        """Note what became of an outstanding ask."""
        ask = self.outstanding.pop(candidate.ask, None)
        assert ask is not None, f"ask {candidate.ask} is not outstanding"
        assert ask.member == candidate.member, f"ask {candidate.ask} went to {ask.member!r}, not {candidate.member!r}"
        self.candidates.append(candidate)
        if candidate.counts and ask.purpose != "judge":
            self.votes.append(candidate)

    def counts(self) -> tuple[int, int]:
        """Votes for the answer that has most, and for the next."""
        numbers: dict[str, int] = {}
        for vote in self.votes:
            numbers[vote.answer] = numbers.get(vote.answer, 0) + 1
        first, second, *_ = *sorted(numbers.values(), reverse=True), 0, 0
        return first, second

    def decision(self, weights: Sequence[float], posterior: float, reason: str, notes: Sequence[str] = ()) -> Decision:
        """Decide for the first answer.

        Args:
            weights: one for each of `votes`.
            posterior: chance that it is right.
            reason: see `Decision`; `nobody_left` instead when there is no vote and none outstanding.
        """
        votes = tuple(
            Vote(vote.ask, vote.member, vote.answer, weight) for vote, weight in zip(self.votes, weights, strict=True)
        )
        if not votes:
            return Decision("", -1, 0.0, 0.0, (), reason if self.outstanding else "nobody_left", notes=tuple(notes))
        standings = ranked(self.votes, weights)
        first = standings[0]
        tie = len(standings) > 1 and standings[1].score == first.score
        agreement = first.votes / len(votes)
        return Decision(first.answer, first.candidate, posterior, agreement, votes, reason, tie, tuple(notes))


def ranked(votes: Sequence[Candidate], weights: Sequence[float]) -> list[Standing]:
    """Return the answers, first to last, see the module; `weights` has one for each vote."""
    by_answer: dict[str, list[tuple[Candidate, float]]] = {}
    for vote, weight in zip(votes, weights, strict=True):
        by_answer.setdefault(vote.answer, []).append((vote, weight))
    standings = [_standing(answer, entries) for answer, entries in by_answer.items()]
    return sorted(standings, key=lambda s: (-s.score, -s.confidence, s.cost, digest(s.answer)))


def _standing(answer: str, entries: list[tuple[Candidate, float]]) -> Standing:
    best, _ = min(entries, key=lambda entry: (-entry[1], -(entry[0].confidence or 0.0), entry[0].cost, entry[0].ask))
    return Standing(
        answer,
        fsum(weight for _, weight in entries),
        len(entries),
        fsum(vote.confidence or 0.0 for vote, _ in entries),
        min(vote.cost for vote, _ in entries),
        best.ask,
    )
