"""Simulated models that answer, judge and fail by lot, and runs of strategies among them in virtual time.

What is simulated, all of it stated and none of it learned from real models:

| of | by |
|---|---|
| being right | Gaussian copula: an item is hard for all (`correlation`), for one model (`stubbornness`), or by lot |
| wrong answers | the item's common one (`shared_wrong`), the model's own favourite, or any of the others |
| confidence | the chance that the model has at this item, seen through noise, then bent (`boast`) |
| latency | log-normal, and a share of calls that takes `tail_factor` times as long |
| a judge of two, a writer of one answer | finds the right one shown with `insight`; else the first, or any |
| a judge of many | names the most frequent with `insight`; else the first, or any |
| a second thought | takes over a shown answer by lot with `conformity`, right or wrong: a martingale |

Invariants: an answer depends on the seed, the item, the model and how often the model was asked for that item, and on
nothing else, so two strategies that ask the same are told the same; a model's accuracy is what it is set to.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Final

from msgspec import Struct

from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Member
from open_autoglm.voting.strategy import Strategy

_NORMAL: Final = NormalDist()
_FAVOURITE: Final = 0.6
"""Of a model's wrong answers that are not the common one: its own favourite."""
_FIRST_SHOWN: Final = 0.6
"""Of a judge's blind choices: the first one it was shown."""
_ASKS_MAX: Final = 2000
_KEPT: Final = 1 << 17
"""Answers that need not be drawn again when the next strategy asks the same."""


class SimulatedModel(Struct, frozen=True):
    """One model.

    Attributes:
        name: unique in the zoo.
        accuracy: chance of being right, between 0 and 1, in classes that `by_class` does not name.
        by_class: the same, by class of tasks.
        price: money for an answer.
        latency_s: median.
        latency_spread: standard deviation of its logarithm.
        tail_share, tail_factor: so many of the calls take so many times as long.
        failure_rate: calls that end with an error.
        flaw_rate: answers that are no vote.
        boast: what it says of itself is this much above the truth, in logits.
        haze: standard deviation of the noise in it, in logits.
        insight: as a judge or writer, see the module.
        conformity: chance that it takes over what it is shown.
        domain: see `Member`.
    """

    name: str
    accuracy: float
    by_class: dict[str, float] = {}
    price: float = 1.0
    latency_s: float = 1.0
    latency_spread: float = 0.4
    tail_share: float = 0.03
    tail_factor: float = 8.0
    failure_rate: float = 0.01
    flaw_rate: float = 0.01
    boast: float = 1.0
    haze: float = 0.5
    insight: float = 0.6
    conformity: float = 0.4
    domain: str = ""

    @property
    def member(self) -> Member:
        return Member(self.name, self.domain, self.price)


class Run(Struct, frozen=True):
    """How a strategy fared with one item.

    Attributes:
        decision: what it came to.
        right: whether that is the right answer.
        calls: questions that were sent; those cancelled later are among them, and paid for.
        cost: money.
        latency_s: until the decision.
    """

    decision: Decision
    right: bool
    calls: int
    cost: float
    latency_s: float


Calibrate = Callable[[str, float], float]
"""From a member's name and what it says of itself to the chance that it is right."""


class Zoo:
    """See the module.

    Args:
        models: with different names.
        seed: of everything.
        correlation: of the models' latent strength at an item, 0 to 1.
        stubbornness: of what is left: how much one model's samples share, 0 to 1.
        shared_wrong: chance that a wrong answer is the item's common one.
        answers: possible ones, 3 at least.
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel],
        seed: int,
        *,
        correlation: float = 0.3,
        stubbornness: float = 0.7,
        shared_wrong: float = 0.3,
        answers: int = 10,
    ) -> None:
        if answers < 3:
            raise ValueError(f"an item needs 3 answers at least, not {answers!r}")
        self.models = {model.name: model for model in models}
        self._seed = seed
        self._correlation = correlation
        self._stubbornness = stubbornness
        self._shared_wrong = shared_wrong
        self._answers = answers
        self._names = lru_cache(maxsize=_KEPT)(self._shuffled)
        self._kept = lru_cache(maxsize=_KEPT)(self._drawn)

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(model.member for model in self.models.values())

    def right_answer(self, item: int) -> str:
        """What is right; in no order with the wrong ones, so that no tie favours it."""
        return self._names(item)[0]

    def answer(self, name: str, item: int, turn: int = 0, task_class: str = "") -> Candidate:
        """Return what a model says when it is asked for the `turn`-th time; its ask has number 0."""
        return self._kept(name, item, turn, task_class)

    def run(
        self,
        strategy: Strategy,
        item: int,
        *,
        task_class: str = "",
        deadline_s: float = math.inf,
        calibrate: Calibrate | None = None,
    ) -> Run:
        """Let a strategy that has not begun answer an item, in virtual time."""
        return _Sitting(self, strategy, item, task_class, calibrate).run(deadline_s)

    # Inside.

    def _drawn(self, name: str, item: int, turn: int, task_class: str) -> Candidate:
        model = self.models[name]
        lot = self._lot(item, name, turn)
        latency_s = model.latency_s * math.exp(lot.gauss(0, model.latency_spread))
        if lot.random() < model.tail_share:
            latency_s *= model.tail_factor
        chance = self._chance(model, item, task_class)
        right = lot.random() < chance
        bent = _logit(chance) + model.boast + lot.gauss(0, model.haze)
        answer = self._names(item)[0 if right else self._wrong(name, item, lot)]
        trouble = lot.random()
        if trouble < model.failure_rate:
            return Candidate(0, name, failure="upstream_error", latency_s=latency_s)
        flags = ("truncated",) if trouble < model.failure_rate + model.flaw_rate else ()
        confidence = 1 / (1 + math.exp(-bent))
        return Candidate(0, name, answer, answer, confidence, latency_s, cost=model.price, flags=flags)

    def _shuffled(self, item: int) -> list[str]:
        names = [f"{item}.{place}" for place in range(self._answers)]
        self._lot(item, "names", 0).shuffle(names)
        return names

    def _lot(self, item: int, name: str, turn: int) -> random.Random:
        return random.Random(f"{self._seed}/{item}/{name}/{turn}")

    def _chance(self, model: SimulatedModel, item: int, task_class: str) -> float:
        """Chance of a sample at this item: the mean over items is the model's accuracy."""
        common = self._correlation
        own = (1 - common) * self._stubbornness
        by_lot = 1 - common - own
        hard = math.sqrt(common) * self._lot(item, "hard", 0).gauss(0, 1)
        hard += math.sqrt(own) * self._lot(item, model.name, -1).gauss(0, 1)
        line = _NORMAL.inv_cdf(model.by_class.get(task_class, model.accuracy))
        return _NORMAL.cdf((line - hard) / math.sqrt(max(by_lot, 1e-9)))

    def _wrong(self, name: str, item: int, lot: random.Random) -> int:
        if lot.random() < self._shared_wrong:
            return 1
        if lot.random() < _FAVOURITE:
            return self._lot(item, name, -2).randrange(1, self._answers)
        return lot.randrange(1, self._answers)


class _Sitting:
    """One run."""

    def __init__(self, zoo: Zoo, strategy: Strategy, item: int, task_class: str, calibrate: Calibrate | None) -> None:
        self._zoo = zoo
        self._strategy = strategy
        self._item = item
        self._task_class = task_class
        self._calibrate = calibrate
        self._now_s = 0.0
        self._said: dict[int, str] = {}
        self._turns: Counter[str] = Counter()
        self._delayed: list[tuple[float, int, Ask]] = []
        self._under_way: list[tuple[float, int, Candidate]] = []
        self._calls = 0
        self._cost = 0.0

    def run(self, deadline_s: float) -> Run:
        strategy = self._strategy
        self._ask(strategy.begin())
        while strategy.decision is None:
            if not self._under_way and not self._delayed:
                strategy.stop("nobody_left")
                break
            ends_s = self._under_way[0][0] if self._under_way else self._now_s
            if self._delayed and (not self._under_way or self._delayed[0][0] <= ends_s):
                due_s, _, ask = heapq.heappop(self._delayed)
                self._now_s = min(due_s, deadline_s) if self._under_way else self._now_s
                self._send(ask)
            elif ends_s > deadline_s:
                self._now_s = deadline_s
                strategy.stop("deadline")
            else:
                self._now_s, _, candidate = heapq.heappop(self._under_way)
                self._said[candidate.ask] = candidate.answer
                self._ask(strategy.take(candidate))
        decision = strategy.decision
        assert decision is not None
        right = decision.answer == self._zoo.right_answer(self._item)
        return Run(decision, right, self._calls, self._cost, self._now_s)

    def _ask(self, asks: list[Ask]) -> None:
        for ask in asks:
            if ask.after_s > 0:
                heapq.heappush(self._delayed, (self._now_s + ask.after_s, ask.number, ask))
            else:
                self._send(ask)

    def _send(self, ask: Ask) -> None:
        self._calls += 1
        assert self._calls <= _ASKS_MAX, "a strategy asks without end"
        turn = self._turns[ask.member]
        self._turns[ask.member] += 1
        came = self._zoo.answer(ask.member, self._item, turn, self._task_class)
        answer, confidence = came.answer, came.confidence
        if ask.shown and answer:
            answer, confidence = self._thought(ask, answer), None
        elif confidence is not None and self._calibrate is not None:
            confidence = self._calibrate(ask.member, confidence)
        candidate = Candidate(
            ask.number,
            ask.member,
            answer,
            answer,
            confidence,
            came.latency_s,
            0,
            0,
            came.cost,
            "",
            came.flags,
            came.failure,
        )
        self._cost += candidate.cost
        heapq.heappush(self._under_way, (self._now_s + came.latency_s, ask.number, candidate))

    def _thought(self, ask: Ask, own: str) -> str:
        """What a member makes of what it is shown, see the module."""
        model = self._zoo.models[ask.member]
        lot = random.Random(f"{self._item}/{ask.member}/{ask.number}/{ask.shown}/{self._said[ask.shown[0]]}")
        shown = [self._said[number] for number in ask.shown]
        if ask.purpose == "revise":
            return lot.choice(shown[1:] or shown) if lot.random() < model.conformity else shown[0]
        right = self._zoo.right_answer(self._item)
        if ask.purpose == "combine":
            if right in shown and lot.random() < model.insight:
                return right
            return lot.choice(shown) if lot.random() < model.conformity else own
        place = lot.randrange(len(shown)) if lot.random() >= _FIRST_SHOWN else 0
        if lot.random() < model.insight:
            if len(shown) > 2:
                place = shown.index(Counter(shown).most_common(1)[0][0])
            elif right in shown:
                place = shown.index(right)
        return str(place + 1)


def _logit(chance: float) -> float:
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    return math.log(chance / (1 - chance))
