"""Universal self-consistency: a judge reads all answers, numbered, and names the one that most of them agree with.

Chen et al. 2023 (arXiv 2311.17311): counting for texts that no rule can compare.

| it is | until |
|---|---|
| answering | all have answered; that is the end when they say the same, or fewer than three say anything |
| judging | the judge has seen them in two orders |
| over | for ever |

What decides: the answer that the judge named in both orders; one order's, when the other named none; of two different
ones the one with more answers of its meaning, and a tie is reported. Invariants: the judge sees `SHOWN_MAX` answers at
most, the second time in the reverse order; without a judgement the answers are counted as in any vote.
"""

from __future__ import annotations

import random
from typing import Final

from open_autoglm.voting.ballot import Ballot, Standing, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.judging import bench, choice, chosen, first_asks
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.prompts import consistency_prompt
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing

SHOWN_MAX: Final = 16


class UniversalSelfConsistency:
    """See the module."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._settings = settings
        self._seed = seed
        self._judge, self._answering, self._notes = bench(members, settings)
        self._weighing = Weighing(members, settings, knowledge)
        self._ballot = Ballot(seed)
        self._orders: dict[int, list[Candidate]] = {}
        self._named: list[str] = []

    def begin(self) -> list[Ask]:
        return first_asks(self._ballot, self._answering, self._settings)

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        order = self._orders.get(candidate.ask)
        if order is not None:
            place = choice(candidate, len(order))
            if place is not None:
                self._named.append(order[place].answer)
        if self._ballot.outstanding:
            return []
        if order is None and len({vote.answer for vote in self._ballot.votes}) > 1 and len(self._ballot.votes) > 2:
            return self._ask_judge()
        self.stop("judged" if self._named else "all_in")
        return []

    def stop(self, reason: str) -> None:
        if self.decision is not None:
            return
        weights = [1.0] * len(self._ballot.votes)
        standings = ranked(self._ballot.votes, weights)
        if not standings:
            self.decision = self._ballot.decision([], 0.0, reason, self._notes)
            return
        picks = [standing for standing in standings if standing.answer in self._named] or standings
        pick = picks[0]
        tie = len(set(self._named)) > 1 or (not self._named and self._even(standings))
        posterior = self._weighing.posterior(self._ballot.votes, pick.answer)
        self.decision = chosen(self._ballot, weights, pick, posterior, reason, tie=tie, notes=self._notes)

    # Inside.

    def _ask_judge(self) -> list[Ask]:
        order = list(self._ballot.votes[:SHOWN_MAX])
        random.Random(self._seed).shuffle(order)
        orders = [order, order[::-1]] if self._settings.both_orders else [order]
        asks = []
        for shown in orders:
            prompt = consistency_prompt([vote.text for vote in shown], self._seed, self._settings.shown_chars_max)
            numbers = tuple(vote.ask for vote in shown)
            ask = self._ballot.ask(self._judge, purpose="judge", prompt=prompt, shown=numbers, temperature=0.0)
            self._orders[ask.number] = shown
            asks.append(ask)
        return asks

    @staticmethod
    def _even(standings: list[Standing]) -> bool:
        return len(standings) > 1 and standings[0].votes == standings[1].votes
