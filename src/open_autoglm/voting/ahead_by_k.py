"""First to be ahead by k: votes are drawn until one answer leads the next by k of them.

With chance p that a vote is right and r = (1 - p) / p, and one wrong answer: right with chance 1 / (1 + r^k), after
k / (2p - 1) * (1 - r^k) / (1 + r^k) votes (gambler's ruin; Wald's sequential test of the two answers). Several wrong
answers only make it better. Long chains of steps: Meyerson et al. 2025 (arXiv 2511.09030).

| it is | until |
|---|---|
| asking | the lead is large enough (`lead`), `votes_max` were asked and taken (`all_in`), or all have |
|        | failed (`nobody_left`) |
| over | for ever |

Invariants: never more outstanding than the lead still lacks, so that no question is asked in vain and the result is
that of asking one after the other; with weights (`lead_weighted`), as many as an ordinary weight makes likely. Several
members are asked in turn, without those that fail, see `turns`.
"""

from __future__ import annotations

from math import ceil, exp, expm1, log

from open_autoglm.voting.ballot import Ballot, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.turns import Turns
from open_autoglm.voting.weights import Weights


class AheadByK:
    """See the module; of the knowledge it needs the members' records, with `lead_weighted` only."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._turns = Turns(members)
        self._settings = settings
        self._ballot = Ballot(seed)
        self._weights = Weights(members, settings, knowledge) if settings.lead_weighted else None
        self._threshold = self._wanted()

    def begin(self) -> list[Ask]:
        return self._refill()

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        self._turns.take(candidate)
        if self._lead() >= self._threshold:
            self.stop("lead")
        elif len(self._ballot.candidates) >= self._settings.votes_max:
            self.stop("all_in")
        asks = [] if self.decision is not None else self._refill()
        if not self._ballot.outstanding:
            self.stop("nobody_left")
        return asks

    def stop(self, reason: str) -> None:
        if self.decision is None:
            weights = self._vote_weights()
            if self._weights is not None:
                posterior = self._weights.posterior(self._ballot.votes, weights)
            else:
                posterior = chance_right(self._settings.lead_accuracy, int(self._lead()))
            self.decision = self._ballot.decision(weights, posterior, reason)

    # Inside.

    def _wanted(self) -> float:
        settings = self._settings
        if settings.lead_weighted:
            return log(settings.stop_confidence / (1 - settings.stop_confidence))
        return float(settings.lead or k_min(settings.lead_accuracy, settings.lead_target, settings.lead_steps))

    def _vote_weights(self) -> list[float]:
        votes = self._ballot.votes
        return [1.0] * len(votes) if self._weights is None else self._weights.of(votes)

    def _lead(self) -> float:
        votes = self._ballot.votes
        if not votes:
            return 0.0
        if self._weights is None:
            first, second = self._ballot.counts()
            return float(first - second)
        standings = ranked(votes, self._vote_weights())
        # An answer that nobody gave has the score 0; the first must be ahead of it as well.
        rivals = [standing.score for standing in standings[1:]]
        return standings[0].score - max([0.0, *rivals])

    def _refill(self) -> list[Ask]:
        ballot, settings = self._ballot, self._settings
        lacking = self._threshold - self._lead()
        usual = 1.0 if self._weights is None else self._weights.usual
        wanted = ceil(lacking / usual - 1e-9) if usual > 0 else settings.wave
        wanted = min(max(wanted, 1) - len(ballot.outstanding), settings.votes_max - ballot.asked)
        names = [name for _ in range(wanted) if (name := self._turns.next()) is not None]
        return [ballot.ask(name, temperature=settings.temperature, seeded=True) for name in names]


def chance_right(accuracy: float, lead: int) -> float:
    """Return the chance that the first answer is right once it leads by `lead`.

    Args:
        accuracy: chance that one vote is right, above 0 and below 1.
        lead: 0 or more.
    """
    return 1 / (1 + exp(lead * log((1 - accuracy) / accuracy)))


def votes_expected(accuracy: float, lead: int) -> float:
    """Return how many votes it takes on average to lead by `lead`, with one wrong answer; arguments as above."""
    if accuracy == 0.5:
        return float(lead * lead)
    power = exp(lead * log((1 - accuracy) / accuracy))
    return lead / (2 * accuracy - 1) * (1 - power) / (1 + power)


def k_min(accuracy: float, target: float, steps: int) -> int:
    """Return the smallest lead with which all steps are right with the chance wanted.

    Args:
        accuracy: chance that one vote is right, above 0.5 and below 1.
        target: that chance, above 0 and below 1.
        steps: decisions of this kind in a row, 1 or more.

    Raises:
        ValueError: an argument is out of its range; with an accuracy of 0.5 or less no lead is enough.
    """
    if not (0.5 < accuracy < 1 and 0 < target < 1 and steps >= 1):
        raise ValueError(f"no lead for accuracy {accuracy!r}, target {target!r}, steps {steps!r}")
    odds_of_error = expm1(-log(target) / steps)
    return max(1, ceil(log(odds_of_error) / log((1 - accuracy) / accuracy) - 1e-9))
