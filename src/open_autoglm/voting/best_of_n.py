"""Best of n: several answers, and the best of them by a score or by a judge, among those that come often enough.

| it is | until |
|---|---|
| answering | all have answered |
| judging (`scorer: judge`) | one answer is left of a knock-out; each pair is shown in both orders, a round at once |
| over | for ever |

A scorer that errs is fooled the more, the more answers it sees; so only answers with `frequency_min` of the votes are
scored (best of majority), and of those `FINALISTS_MAX` at most. A pair that the judge sees differently in the two
orders goes to the more frequent answer. Invariants: with one answer nothing is judged; at most
`2 · (FINALISTS_MAX - 1)` questions go to the judge; a judge that fails leaves the frequencies to decide.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from open_autoglm.voting.ballot import Ballot, Standing, ranked
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.judging import bench, choice, chosen, first_asks
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.prompts import pair_prompt
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weighing import Weighing

FINALISTS_MAX: Final = 8


class BestOfN:
    """See the module."""

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int) -> None:
        self.decision: Decision | None = None
        self._settings = settings
        self._seed = seed
        judged = settings.scorer == "judge"
        self._judge, self._answering, self._notes = bench(members, settings) if judged else ("", members, ())
        self._weighing = Weighing(members, settings, knowledge)
        self._ballot = Ballot(seed)
        self._left: list[Standing] = []  # of the knock-out, the most frequent first
        self._matches: dict[int, tuple[Standing, Standing]] = {}  # by ask, as shown
        self._won: Counter[tuple[str, str]] = Counter()  # (winner, loser) -> judgements
        self._torn = False

    def begin(self) -> list[Ask]:
        return first_asks(self._ballot, self._answering, self._settings)

    def take(self, candidate: Candidate) -> list[Ask]:
        if self.decision is not None:
            return []
        self._ballot.take(candidate)
        match = self._matches.get(candidate.ask)
        if match is not None:
            place = choice(candidate, 2)
            if place is not None:
                self._won[match[place].answer, match[1 - place].answer] += 1
        if self._ballot.outstanding:
            return []
        if match is None:
            if self._settings.scorer == "judge":
                self._left = self._finalists()
        else:
            self._end_round()
        if len(self._left) > 1:
            return self._next_round()
        self.stop("judged" if self._matches or self._scored() else "all_in")
        return []

    def stop(self, reason: str) -> None:
        if self.decision is not None:
            return
        votes = self._ballot.votes
        weights = [self._weighing.chance(vote) if self._settings.scorer == "confidence" else 1.0 for vote in votes]
        finalists = self._left or self._finalists()
        if not finalists:
            self.decision = self._ballot.decision([], 0.0, reason, self._notes)
            return
        if self._settings.scorer == "confidence":
            scores = {vote.ask: weight for vote, weight in zip(votes, weights, strict=True)}
            pick = max(finalists, key=lambda standing: scores[standing.candidate])  # of equal ones the more frequent
            posterior = scores[pick.candidate]
            tie = sum(scores[standing.candidate] == posterior for standing in finalists) > 1
        else:
            pick, tie = finalists[0], self._torn
            posterior = self._weighing.posterior(votes, pick.answer)
        self.decision = chosen(self._ballot, weights, pick, posterior, reason, tie=tie, notes=self._notes)

    # Inside.

    def _scored(self) -> bool:
        return self._settings.scorer == "confidence" and len({vote.answer for vote in self._ballot.votes}) > 1

    def _finalists(self) -> list[Standing]:
        """The answers that come often enough, the most frequent first; each shown by its best candidate."""
        votes = self._ballot.votes
        best = {
            standing.answer: standing for standing in ranked(votes, [self._weighing.chance(vote) for vote in votes])
        }
        standings = ranked(votes, [1.0] * len(votes))
        often = [s for s in standings if s.votes >= self._settings.frequency_min * len(votes)] or standings[:1]
        return [best[standing.answer] for standing in often[:FINALISTS_MAX]]

    def _next_round(self) -> list[Ask]:
        """The most frequent against the least, and so on; of an odd number the middle one rests."""
        asks = []
        for place in range(len(self._left) // 2):
            pair = self._left[place], self._left[-1 - place]
            for shown in (pair, pair[::-1]) if self._settings.both_orders else (pair,):
                numbers = tuple(standing.candidate for standing in shown)
                texts = [vote.text for number in numbers for vote in self._ballot.votes if vote.ask == number]
                prompt = pair_prompt(texts, self._seed, self._settings.shown_chars_max)
                ask = self._ballot.ask(self._judge, purpose="judge", prompt=prompt, shown=numbers, temperature=0.0)
                self._matches[ask.number] = shown
                asks.append(ask)
        return asks

    def _end_round(self) -> None:
        beaten = set()
        self._torn = False
        for place in range(len(self._left) // 2):
            first, second = self._left[place], self._left[-1 - place]
            for_second = self._won[second.answer, first.answer] - self._won[first.answer, second.answer]
            self._torn |= not for_second
            beaten.add((first if for_second > 0 else second).answer)
        self._left = [standing for standing in self._left if standing.answer not in beaten]
