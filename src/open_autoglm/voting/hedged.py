"""Hedged: the first member at once, each further one a delay later, and the first valid answer wins.

Dean and Barroso 2013, "The tail at scale": it shortens the tail of latency and pays with a few more questions; it does
not make answers better.

| it is | until |
|---|---|
| asking | an answer counts (`accepted`), or none of the members gave one (`nobody_left`) |
| over | for ever; what is still outstanding is cancelled, or was never sent |

Invariants: all asks are known at the start, the n-th waits n delays; none waits while nothing else is being asked, see
`Ask.after_s`, so a failure costs no delay. Members stand in their own order: put the fastest first.
"""

from __future__ import annotations

from open_autoglm.voting.ballot import Ballot
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing


class Hedged:
    """See the module; of the settings it reads `hedge_delay_s`."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._members = members
        self._delay_s = settings.hedge_delay_s
        self._weighing = Weighing(members, settings, knowledge)
        self._ballot = Ballot(seed)

    def begin(self) -> list[Ask]:
        return [
            self._ballot.ask(member.name, after_s=place * self._delay_s) for place, member in enumerate(self._members)
        ]

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is None:
            self._ballot.take(candidate)
            if candidate.counts:
                self.stop("accepted")
            elif not self._ballot.outstanding:
                self.stop("nobody_left")
        return []

    def stop(self, reason: str) -> None:
        if self.decision is None:
            votes = self._ballot.votes
            chances = [self._weighing.chance(vote) for vote in votes]
            self.decision = self._ballot.decision([1.0] * len(votes), chances[0] if chances else 0.0, reason)
