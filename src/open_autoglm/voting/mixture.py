"""Mixture of agents: proposals, layers that improve on those before them, and one member that writes the answer.

Wang et al. 2024 (arXiv 2406.04692). The default asks one and the same member, the best by its record, for all
proposals: that beat mixed members (Li et al. 2025, arXiv 2502.00674), for one weak proposal spoils more than variety
gives.

| it is | until |
|---|---|
| in layer 1, 2, … `layers` | all of the layer are there; a layer of which nothing counts is skipped |
| writing | the aggregator has answered |
| over | for ever |

Invariants: a layer has `samples` asks (`self_mixture`), or one for each member; proposals are shown with those of the
best record first, cut to `shown_chars_max` together; when the aggregator fails the best proposal of the last layer is
the answer, and a note says so. The aggregator's answer is no vote: votes and agreement tell who proposed it.
"""

from __future__ import annotations

from collections.abc import Sequence

from open_autoglm.voting.ballot import Ballot, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision, Vote
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.prompts import combine_prompt
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing


class Mixture:
    """See the module."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._settings = settings
        self._seed = seed
        self._weighing = Weighing(members, settings, knowledge)
        best = max(members, key=lambda member: self._weighing.record(member.name)).name
        self._aggregator = settings.aggregator or best
        self._agents = [best] * settings.samples if settings.self_mixture else [member.name for member in members]
        self._ballot = Ballot(seed)
        self._layer = 0
        self._came: list[Candidate] = []
        self._proposals: list[Candidate] = []  # of the last layer of which something counts
        self._writing = -1

    def begin(self) -> list[Ask]:
        self._layer = 1
        return [self._ask_agent(name, ()) for name in self._agents]

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        if candidate.ask == self._writing:
            self._end(candidate)
            return []
        if candidate.counts:
            self._came.append(candidate)
        return [] if self._ballot.outstanding else self._next_layer()

    def stop(self, reason: str) -> None:
        if self.decision is None:
            self._end_layer()
            self._fall_back(reason, ())

    # Inside.

    def _next_layer(self) -> list[Ask]:
        self._end_layer()
        if not self._proposals:
            self.stop("nobody_left")
            return []
        shown = sorted(self._proposals, key=lambda vote: (-self._weighing.chance(vote), vote.ask))
        self._layer += 1
        if self._layer <= self._settings.layers:
            return [self._ask_agent(name, shown) for name in self._agents]
        prompt = combine_prompt([vote.text for vote in shown], self._seed, self._settings.shown_chars_max)
        numbers = tuple(vote.ask for vote in shown)
        ask = self._ballot.ask(self._aggregator, purpose="combine", prompt=prompt, shown=numbers, temperature=0.0)
        self._writing = ask.number
        return [ask]

    def _ask_agent(self, name: str, shown: Sequence[Candidate]) -> Ask:
        again = self._settings.self_mixture
        temperature = self._settings.temperature if again else None
        if not shown:
            return self._ballot.ask(name, temperature=temperature, seeded=again)
        prompt = combine_prompt([vote.text for vote in shown], self._seed, self._settings.shown_chars_max)
        numbers = tuple(vote.ask for vote in shown)
        return self._ballot.ask(
            name, purpose="combine", prompt=prompt, shown=numbers, temperature=temperature, seeded=again
        )

    def _end_layer(self) -> None:
        if self._came:
            self._proposals, self._came = self._came, []

    def _end(self, written: Candidate) -> None:
        if not written.counts:
            self._fall_back("all_in", ("aggregator_failed",))
            return
        votes = self._votes()
        agreement = sum(vote.answer == written.answer for vote in votes) / len(votes)
        posterior = self._weighing.chance(written)
        self.decision = Decision(written.answer, written.ask, posterior, agreement, votes, "combined")

    def _fall_back(self, reason: str, notes: tuple[str, ...]) -> None:
        if not self._proposals:
            self.decision = Decision("", -1, 0.0, 0.0, (), reason, notes=notes)
            return
        standings = ranked(self._proposals, self._weighing.weights(self._proposals))
        pick = standings[0]
        votes = self._votes()
        posterior = self._weighing.posterior(self._proposals, pick.answer)
        tie = len(standings) > 1 and standings[1].score == pick.score
        agreement = pick.votes / len(votes)
        self.decision = Decision(pick.answer, pick.candidate, posterior, agreement, votes, reason, tie, notes)

    def _votes(self) -> tuple[Vote, ...]:
        weights = self._weighing.weights(self._proposals)
        pairs = zip(self._proposals, weights, strict=True)
        return tuple(Vote(vote.ask, vote.member, vote.answer, weight) for vote, weight in pairs)
