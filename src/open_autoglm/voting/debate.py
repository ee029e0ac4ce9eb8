"""Debate: all answer, then look at some others' answers and may think again; both rounds are counted in the end.

Du et al. 2023 (arXiv 2305.14325). Without a judge the rounds are a martingale: they move answers, but on the average
not towards the right one (Choi et al. 2025, arXiv 2508.17536), so most of the gain is that of the vote, and a decision
says whether the debate changed anything. Nothing debates unless it is named in the configuration.

| it is | until |
|---|---|
| answering | all have answered |
| in round 1, at most `ROUNDS_MAX` | all who take part have answered again |
| over | all say the same, nobody changed their mind, or there is no further round |

Invariants: whoever did not answer at first takes no part; each sees its own answer and those of the `peers` next
members in a ring, without names or counts; who fails in a round keeps its answer. In the count a member's first and
last answer have half of its weight each.
"""

from __future__ import annotations

from typing import Final

from open_autoglm.voting.ballot import Ballot, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision, Vote
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.prompts import revise_prompt
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing

ROUNDS_MAX: Final = 2


class Debate:
    """See the module."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._settings = settings
        self._seed = seed
        self._members = members
        self._weighing = Weighing(members, settings, knowledge)
        self._ballot = Ballot(seed)
        self._round = 0
        self._rounds_max = min(settings.rounds, ROUNDS_MAX)
        self._first: dict[str, Candidate] = {}
        self._last: dict[str, Candidate] = {}
        self._before: dict[str, str] = {}

    def begin(self) -> list[Ask]:
        return [self._ballot.ask(member.name) for member in self._members]

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        if candidate.counts:
            self._last[candidate.member] = candidate
            if not self._round:
                self._first[candidate.member] = candidate
        if self._ballot.outstanding:
            return []
        answers = {member: vote.answer for member, vote in self._last.items()}
        settled = len(set(answers.values())) < 2 or (self._round > 0 and answers == self._before)
        if settled or self._round >= self._rounds_max:
            self.stop("all_in")
            return []
        self._before = answers
        self._round += 1
        return [self._revise(member.name) for member in self._members if member.name in self._last]

    def stop(self, reason: str) -> None:
        if self.decision is not None:
            return
        firsts = [self._first[member.name] for member in self._members if member.name in self._first]
        lasts = [self._last[member.name] for member in self._members if member.name in self._last]
        if not firsts:
            self.decision = self._ballot.decision([], 0.0, reason)
            return
        both = firsts + lasts
        weights = [weight / 2 for weight in self._weighing.weights(both)]
        standings = ranked(both, weights)
        pick = standings[0]
        alone = ranked(firsts, self._weighing.weights(firsts))[0]
        changed = sum(first.answer != last.answer for first, last in zip(firsts, lasts, strict=True))
        outcome = "debate_changed_it" if alone.answer != pick.answer else "debate_changed_nothing"
        votes = tuple(
            Vote(vote.ask, vote.member, vote.answer, weight) for vote, weight in zip(both, weights, strict=True)
        )
        agreement = sum(vote.answer == pick.answer for vote in both) / len(both)
        tie = len(standings) > 1 and standings[1].score == pick.score
        posterior = self._weighing.posterior(both, pick.answer, share=0.5)
        notes = (f"rounds={self._round}", f"minds_changed={changed}", outcome)
        self.decision = Decision(pick.answer, pick.candidate, posterior, agreement, votes, reason, tie, notes)

    # Inside.

    def _revise(self, name: str) -> Ask:
        ring = [member.name for member in self._members if member.name in self._last]
        place = ring.index(name)
        peers = [ring[(place + step) % len(ring)] for step in range(1, min(self._settings.peers, len(ring) - 1) + 1)]
        own, others = self._last[name], [self._last[peer] for peer in peers]
        prompt = revise_prompt(own.text, [other.text for other in others], self._seed, self._settings.shown_chars_max)
        shown = (own.ask, *(other.ask for other in others))
        return self._ballot.ask(name, purpose="revise", prompt=prompt, shown=shown)
