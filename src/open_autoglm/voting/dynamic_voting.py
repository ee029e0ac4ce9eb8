"""Dynamic voting: every member once, each vote weighed by what its member has been right about.

| it is | until |
|---|---|
| asking | nothing outstanding can change the answer (`decided`), it is likely enough (`confident`), the quorum is out |
|        | of reach (`no_quorum`), or all have answered or failed (`all_in`, `nobody_left`) |
| over | for ever |

Invariants: nothing is decided unless members of `quorum` failure domains have voted; with `early_exit: certain` the
answer is that of the full vote; with equal weights it is the answer of a plain majority; the order in which the votes
come changes nothing but their order. Weights: Nitzan and Paroush 1982; see `voting.weights`.

Notes of its decisions: `correlated` (members share weight), `shadow_majority` (the weights were put aside),
`majority_differs` (a plain majority says otherwise), and with `no_quorum` what ended it, when that was no member.
"""

from __future__ import annotations

from open_autoglm.voting.ballot import Ballot, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weights import Weights


class DynamicVoting:
    """See the module; of the knowledge it needs the members' records, joint errors and losses.

    Raises:
        ValueError: the members have fewer failure domains than the quorum.
    """

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self._domains = {member.name: member.failure_domain for member in members}
        domains = len(set(self._domains.values()))
        if domains < settings.quorum:
            raise ValueError(f"quorum {settings.quorum} needs as many failure domains; the members have {domains}")
        self.decision: Decision | None = None
        self._settings = settings
        self._ballot = Ballot(seed)
        self._weights = Weights(members, settings, knowledge)

    def begin(self) -> list[Ask]:
        return [self._ballot.ask(member) for member in self._domains]

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is None:
            self._ballot.take(candidate)
            reason = self._over()
            if reason:
                self._decide(reason)
        return []

    def stop(self, reason: str) -> None:
        if self.decision is None:
            self._decide(reason)

    # Inside.

    def _over(self) -> str:
        """Why no more need be awaited; empty when it must."""
        ballot, weights = self._ballot, self._weights
        outstanding = [ask.member for ask in ballot.outstanding.values()]
        answered = self._answered()
        if len(answered) < self._settings.quorum:
            within_reach = answered | {self._domains[member] for member in outstanding}
            return "" if len(within_reach) >= self._settings.quorum else "no_quorum"
        if not outstanding:
            return "all_in"
        if self._settings.early_exit == "none":
            return ""
        if weights.decided(ballot.votes, outstanding):
            return "decided"
        if self._settings.early_exit == "probable":
            posterior = weights.posterior(ballot.votes, weights.of(ballot.votes))
            return "confident" if posterior >= self._settings.stop_confidence else ""
        return ""

    def _answered(self) -> set[str]:
        return {self._domains[vote.member] for vote in self._ballot.votes}

    def _decide(self, reason: str) -> None:
        ballot, votes = self._ballot, self._ballot.votes
        weights = self._weights.of(votes)
        decision = ballot.decision(weights, self._weights.posterior(votes, weights), reason, self._notes(weights))
        if votes and len(self._answered()) < self._settings.quorum:
            notes = () if reason == "no_quorum" else (reason,)
            decision = Decision("", -1, 0.0, 0.0, decision.votes, "no_quorum", notes=notes)
        self.decision = decision

    def _notes(self, weights: list[float]) -> list[str]:
        votes = self._ballot.votes
        notes = []
        if self._weights.correlated:
            notes.append("correlated")
        if self._weights.put_aside:
            notes.append("shadow_majority")
        if votes and ranked(votes, weights)[0].answer != ranked(votes, [1.0] * len(votes))[0].answer:
            notes.append("majority_differs")
        return notes
