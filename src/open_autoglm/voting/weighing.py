"""What votes are worth where a strategy chooses by other means too: the chance of one vote, and of any answer.

As `weights`, but a vote's own confidence always counts before its member's record, and the chance of every answer can
be asked for, not of the first one alone. Invariant: the same votes in any order give the same chances.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, log

from open_autoglm.voting.candidate import Candidate
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weights import accuracies, clipped, discounts


class Weighing:
    """See the module; whoever is no member, such as a judge from outside, has the accuracy of the prior."""

    def __init__(self, members: Sequence[Member], settings: TeamSettings, knowledge: Knowledge) -> None:
        self._settings = settings
        self._records = accuracies(members, settings, knowledge if settings.weighting == "learned" else Knowledge())
        self._discounts = discounts(members, settings, knowledge)

    def record(self, member: str) -> float:
        """Return the share of its answers that a member has right, as far as that is known."""
        return self._records.get(member, clipped(self._settings.prior_accuracy, self._settings))

    def chance(self, vote: Candidate) -> float:
        """Return the chance that a vote is right, never too near to 0 or 1."""
        return self.record(vote.member) if vote.confidence is None else clipped(vote.confidence, self._settings)

    def weights(self, votes: Sequence[Candidate]) -> list[float]:
        """Return what each vote is worth; below 0 for one that is worse than a blind guess."""
        others = self._plausible(votes) - 1
        return [
            log(others * chance / (1 - chance)) / self._discounts.get(vote.member, 1.0)
            for vote, chance in ((vote, self.chance(vote)) for vote in votes)
        ]

    def posterior(self, votes: Sequence[Candidate], answer: str, share: float = 1.0) -> float:
        """Return the chance that an answer is right, given the votes; 0 of one that nobody gave.

        Args:
            share: of its weight that each vote keeps: below 1 where several votes say what one voter thinks.
        """
        scores: dict[str, list[float]] = {}
        for vote, weight in zip(votes, self.weights(votes), strict=True):
            scores.setdefault(vote.answer, []).append(weight * share)
        if answer not in scores:
            return 0.0
        sums = {said: fsum(weights) for said, weights in scores.items()}
        top = max(0.0, *sums.values())
        unsaid = max(0, self._plausible(votes) - len(sums))
        return exp(sums[answer] - top) / fsum([unsaid * exp(-top), *(exp(total - top) for total in sums.values())])

    def _plausible(self, votes: Sequence[Candidate]) -> int:
        """How many answers there may be."""
        said = len({vote.answer for vote in votes})
        return max(2, len(self._settings.choices) or said + 1)
