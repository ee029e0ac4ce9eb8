"""Self-consistency: the same question several times, and the answer that comes most often.

Wang et al. 2022 (arXiv 2203.11171); with the stop of adaptive consistency (arXiv 2305.11860): no more is asked once the
first answer is the likelier one of the first two with `stop_confidence`.

| it is | until |
|---|---|
| asking | sure (`confident`), or no answer can overtake any more (`decided`), or all were asked and taken (`all_in`), |
|        | or all have failed (`nobody_left`) |
| over | for ever |

Invariants: `samples` asks at most (`votes_max` when adaptive), failed ones among them; never more outstanding than
`wave`, nor than must still come before it can be over, so that no question is asked in vain. Several members are asked
in turn, without those that fail, see `turns`.
"""

from __future__ import annotations

from bisect import bisect_left

from open_autoglm.voting.ballot import Ballot
from open_autoglm.voting.beta import chance_leads
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.turns import Turns


class SelfConsistency:
    """See the module; of the knowledge it needs nothing."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._turns = Turns(members)
        self._settings = settings
        self._ballot = Ballot(seed)
        self._asks_max = settings.votes_max if settings.adaptive else settings.samples

    def begin(self) -> list[Ask]:
        return self._refill()

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        self._turns.take(candidate)
        reason = self._over()
        asks = [] if reason else self._refill()
        if reason or not self._ballot.outstanding:
            self.stop(reason or "nobody_left")
        return asks

    def stop(self, reason: str) -> None:
        if self.decision is None:
            ballot = self._ballot
            posterior = chance_leads(*ballot.counts())
            self.decision = ballot.decision([1.0] * len(ballot.votes), posterior, reason)

    # Inside.

    def _over(self) -> str:
        """Why nothing more need be taken; empty when it must."""
        first, second = self._ballot.counts()
        if first > second + self._left():
            return "decided" if self._left() else "all_in"
        if self._settings.adaptive and first and chance_leads(first, second) >= self._settings.stop_confidence:
            return "confident"
        return "" if self._left() else "all_in"

    def _left(self) -> int:
        """Candidates that may still come."""
        return self._asks_max - len(self._ballot.candidates)

    def _refill(self) -> list[Ask]:
        ballot, settings = self._ballot, self._settings
        wanted = min(settings.wave, self._needed()) - len(ballot.outstanding)
        names = [name for _ in range(wanted) if (name := self._turns.next()) is not None]
        return [ballot.ask(name, temperature=settings.temperature, seeded=True) for name in names]

    def _needed(self) -> int:
        """Votes that must come at least before it can be over: all of them for the answer that is first now."""
        first, second = self._ballot.counts()
        left = self._left()
        needed = min(left, (second + left - first) // 2 + 1)
        if not self._settings.adaptive:
            return needed

        def sure(more: int) -> bool:
            return chance_leads(first + more, second) >= self._settings.stop_confidence

        return 1 + bisect_left(range(1, needed), True, key=sure)
