"""Plays a strategy of `voting` on kept answers, in virtual time: no model, no network, no chance.

What an answer is, how sure it is and what it costs comes from the table; when it comes, from latencies that are given.
Answers are taken in the order in which they would come; what is outstanding at the decision has been paid for.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.cooperation.table import Answers, Item, behind_the_network_s, price
from open_autoglm.cli.evaluate.figures import busy_of
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.strategy import Strategy

ASKS_MAX: Final = 256
Latency = Callable[[Item, str, int, float], float]
"""Seconds from a question to its answer: item, member, number of the question, seconds of computation."""


@dataclass(slots=True)
class Played:
    """How a run ended: the decision, when, and what was asked.

    Attributes:
        seconds: from the beginning to the decision.
        calls: by member; one that the decision cancelled counts.
        busy: by member the seconds that its calls took, until the decision at most, and how many of them were under way
            at once at most.
    """

    decision: Decision
    seconds: float
    calls: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    busy: dict[str, tuple[float, int]] = field(default_factory=dict)


def here(item: Item, member: str, number: int, computed_s: float) -> float:
    """Every member on a core of its own, no network."""
    return computed_s


def behind_network(item: Item, member: str, number: int, computed_s: float) -> float:
    """Every member on a core of its own, behind the imagined network."""
    return computed_s + behind_the_network_s(item, member, number)


class Game:
    """One run.

    Args:
        item: the task.
        answers: the table.
        latency: see `Latency`.
        sure: whether answers come with a confidence.
    """

    def __init__(self, item: Item, answers: Answers, latency: Latency, *, sure: bool = True) -> None:
        self._item, self._answers, self._latency, self._sure = item, answers, latency, sure
        self._now_s = 0.0
        self._calls: Counter[str] = Counter()
        self._samples: Counter[str] = Counter()
        self._cost = 0.0
        self._spans: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._under_way: list[tuple[float, int, Candidate]] = []
        self._delayed: list[tuple[float, int, Ask]] = []

    def play(self, strategy: Strategy) -> Played:
        """Run a strategy to its decision."""
        self._launch(strategy.begin())
        while strategy.decision is None:
            self._begin_due()
            if not self._under_way:
                strategy.stop("nobody_left")
                break
            self._now_s, _, candidate = heapq.heappop(self._under_way)
            self._launch(strategy.take(candidate))
        assert strategy.decision is not None
        busy = {
            name: busy_of((begin, min(end, self._now_s)) for begin, end in told) for name, told in self._spans.items()
        }
        return Played(strategy.decision, self._now_s, self._calls, self._cost, busy)

    def _launch(self, asks: list[Ask]) -> None:
        for ask in asks:
            heapq.heappush(self._delayed, (self._now_s + ask.after_s, ask.number, ask))

    def _begin_due(self) -> None:
        """Begin what is to begin before the next answer comes, and the next question where nothing is under way."""
        while self._delayed and (not self._under_way or self._delayed[0][0] <= self._under_way[0][0]):
            due_s, _, ask = heapq.heappop(self._delayed)
            self._ask(ask, due_s if self._under_way else min(due_s, self._now_s))

    def _ask(self, ask: Ask, now_s: float) -> None:
        assert ask.purpose == "answer", "these models read no others' answers"
        assert self._calls.total() < ASKS_MAX
        item, member = self._item, ask.member
        sample = self._samples[member] if ask.temperature else None
        self._samples[member] += 1
        said = self._answers.said(item, member, sample)
        paid = price(member, said.tokens)
        took_s = self._latency(item, member, ask.number, said.seconds)
        self._calls[member] += 1
        self._cost += paid
        self._spans[member].append((now_s, now_s + took_s))
        candidate = Candidate(
            ask.number,
            member,
            answer=said.text,
            text=said.text,
            confidence=self._answers.confidence(item, member, said) if self._sure else None,
            latency_s=took_s,
            completion_tokens=said.tokens,
            cost=paid,
            flags=() if said.text else ("empty",),
        )
        heapq.heappush(self._under_way, (now_s + took_s, ask.number, candidate))
