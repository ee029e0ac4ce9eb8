"""Cascade: ask the cheapest first, and go on to the next step only while the answer is not sure enough.

Chen et al. 2023, "FrugalGPT" (arXiv 2305.05176), with calibrated confidences and chosen thresholds, see `thresholds`.

| a step is | its confidence | its answer is taken |
|---|---|---|
| one member, once | the answer's own, else its member's record | from the step's threshold on |
| one member, `cascade_samples` times (never the last) | share of the samples that agree, by its curve | the same |
| several members | chance by a vote of all that came so far, earlier steps too | the same |
| the last one | as above | in any case, or from its threshold on where it may abstain (`unsure`) |

A member may be a tool: it is not asked the question, but given the answer that the steps before came to last, to
compute it anew; while there is none, it is left out. It may abstain, and then it is as if it had failed. Invariants:
nobody is asked twice, apart from samples; a step of which nothing counts is passed over; stopped, it gives the answer
of the surest step so far, or abstains where it may.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from open_autoglm.voting.ballot import Ballot, Standing, ranked
from open_autoglm.voting.calibration import agreement_of, chance
from open_autoglm.voting.candidate import Ask, Candidate, Decision, Vote
from open_autoglm.voting.judging import chosen
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing


class _Outcome(Struct, frozen=True):
    """What a step came to: its answer, and the chance that it is right."""

    pick: Standing
    confidence: float
    tie: bool


class Cascade:
    """See the module.

    Raises:
        ValueError: a step is empty, names a member twice or none of the team; the first has a tool.
    """

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._settings = settings
        self._steps = cascade_steps(members, settings)
        self._tools = {member.name for member in members if member.kind == "tool"}
        self._weighing = Weighing(members, settings, knowledge)
        self._curves = {
            curve.member: curve for curve in knowledge.calibration if curve.task_class == settings.task_class
        }
        self._ballot = Ballot(seed)
        self._step = -1
        self._step_asks: range = range(0)
        self._outcomes: list[_Outcome] = []
        self._voters: list[Candidate] = []  # one for each member that counts so far

    def begin(self) -> list[Ask]:
        return self._next_step()

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        if self._ballot.outstanding:
            return []
        outcome = self._outcome()
        if outcome is not None:
            self._outcomes.append(outcome)
            if outcome.confidence >= self._threshold():
                self._decide(outcome, "accepted")
                return []
        while self._step + 1 < len(self._steps):
            if asks := self._next_step():
                return asks
        if not self._outcomes:
            self.stop("nobody_left")
        elif self._settings.cascade_abstain:
            self._abstain("unsure")
        else:  # the last step that said anything had the last word, sure or not
            self._decide(self._outcomes[-1], "all_in")
        return []

    def stop(self, reason: str) -> None:
        if self.decision is not None:
            return
        outcome = self._outcome() if self._ballot.outstanding else None
        outcomes = [*self._outcomes, outcome] if outcome is not None else self._outcomes
        if self._settings.cascade_abstain:
            self._abstain(reason)
        elif outcomes:
            self._decide(max(outcomes, key=lambda each: each.confidence), reason)
        else:
            self.decision = self._ballot.decision([], 0.0, reason)

    # Inside.

    def _next_step(self) -> list[Ask]:
        """Go on; nobody is asked where the step has tools only and there is nothing to compute anew."""
        self._step += 1
        names = self._steps[self._step]
        first = self._ballot.asked
        if len(names) == 1 and self._samples() > 1:
            temperature = self._settings.temperature
            asks = [self._ballot.ask(names[0], temperature=temperature, seeded=True) for _ in range(self._samples())]
        else:
            asks = [self._ask(name) for name in names if name not in self._tools or self._outcomes]
        self._step_asks = range(first, self._ballot.asked)
        return asks

    def _ask(self, name: str) -> Ask:
        if name not in self._tools:
            return self._ballot.ask(name)
        return self._ballot.ask(name, purpose="compute", shown=(self._outcomes[-1].pick.candidate,))

    def _samples(self) -> int:
        """How often a lone member of this step is asked."""
        is_once = self._step + 1 == len(self._steps) or self._steps[self._step][0] in self._tools
        return 1 if is_once else self._settings.cascade_samples

    def _threshold(self) -> float:
        settings = self._settings
        return settings.thresholds[self._step] if self._step < len(settings.thresholds) else settings.threshold

    def _outcome(self) -> _Outcome | None:
        """Of this step, as far as it has come; None when nothing of it counts."""
        votes = [vote for vote in self._ballot.votes if vote.ask in self._step_asks]
        if not votes:
            return None
        if len(self._steps[self._step]) > 1:
            self._voters = [voter for voter in self._voters if voter.ask not in self._step_asks] + votes
            weights = self._weighing.weights(self._voters)
            standings = ranked(self._voters, weights)
            confidence = self._weighing.posterior(self._voters, standings[0].answer)
            return _Outcome(standings[0], confidence, _even(standings))
        standings = ranked(votes, [1.0] * len(votes))
        pick = standings[0]
        confidence = self._weighing.chance(votes[0])
        if len(self._step_asks) > 1:
            confidence = pick.votes / len(self._step_asks)  # a sample that failed agrees with nobody
            curve = self._curves.get(agreement_of(votes[0].member))
            confidence = confidence if curve is None else chance(curve, confidence)
        shown = next(vote for vote in votes if vote.ask == pick.candidate)
        self._voters.append(replace(shown, confidence=confidence))
        return _Outcome(pick, confidence, _even(standings))

    def _decide(self, outcome: _Outcome, reason: str) -> None:
        weights = self._weighing.weights(self._ballot.votes)
        self.decision = chosen(
            self._ballot, weights, outcome.pick, outcome.confidence, reason, tie=outcome.tie, notes=self._notes()
        )

    def _abstain(self, reason: str) -> None:
        votes = self._ballot.votes
        pairs = zip(votes, self._weighing.weights(votes), strict=True)
        rows = tuple(Vote(vote.ask, vote.member, vote.answer, weight) for vote, weight in pairs)
        self.decision = Decision("", -1, 0.0, 0.0, rows, reason, notes=self._notes())

    def _notes(self) -> tuple[str, ...]:
        return (f"step={self._step + 1}",)


def cascade_steps(members: Sequence[Member], settings: TeamSettings) -> tuple[tuple[str, ...], ...]:
    """Return the members of each step.

    Raises:
        ValueError: as `Cascade`.
    """
    tools = {member.name for member in members if member.kind == "tool"}
    if not settings.cascade_steps:
        ordered = sorted(members, key=lambda member: (member.name in tools, member.price))
        if ordered[0].name in tools:
            raise ValueError(f"there is no model whose answers {ordered[0].name!r} could compute anew")
        return tuple((member.name,) for member in ordered)
    names = [name for step in settings.cascade_steps for name in step]
    known = {member.name for member in members}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"cascade_steps names {unknown}, the members are {sorted(known)}")
    if len(set(names)) < len(names) or not all(settings.cascade_steps):
        raise ValueError(f"cascade_steps must name each member once at most, and one in each step: {names}")
    if early := tools.intersection(settings.cascade_steps[0]):
        raise ValueError(f"cascade_steps begins with {sorted(early)}: a tool computes anew what a step before it said")
    return tuple(tuple(step) for step in settings.cascade_steps)


def _even(standings: Sequence[Standing]) -> bool:
    return len(standings) > 1 and standings[0].score == standings[1].score
