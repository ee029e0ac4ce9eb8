"""A run of a strategy with scripted members, in an order of coming that a seed draws."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.knowledge import Member
from open_autoglm.voting.strategy import Strategy

ASKS_MAX = 500
ABC = (Member("a", price=1.0), Member("b", price=2.0), Member("c", price=3.0))

Answering = Callable[[Ask], Candidate]


def said(ask: Ask, answer: str, confidence: float | None = None, cost: float = 1.0) -> Candidate:
    """A candidate that counts."""
    return Candidate(ask.number, ask.member, answer, f"I say {answer}.", confidence, cost=cost)


def failed(ask: Ask) -> Candidate:
    return Candidate(ask.number, ask.member, failure="upstream_error")


def flagged(ask: Ask) -> Candidate:
    return Candidate(ask.number, ask.member, text="…", cost=1.0, flags=("truncated",))


def scripted(**answers: str) -> Answering:
    """Each member gives its one answer; a judge, unless it is scripted, chooses the first; "!" is a failure."""

    def answering(ask: Ask) -> Candidate:
        answer = answers.get(f"{ask.member}_{ask.purpose}", answers.get(ask.member, "1"))
        return failed(ask) if answer == "!" else said(ask, answer)

    return answering


def play(
    strategy: Strategy, answering: Answering, *, seed: int = 0, stop_after: int | None = None
) -> tuple[list[Ask], list[Candidate]]:
    """Drive it to its end, or stop it after so many candidates; return what was asked and taken."""
    rng = random.Random(seed)
    waiting = strategy.begin()
    asks, taken = list(waiting), []
    while strategy.decision is None:
        if len(taken) == stop_after:
            strategy.stop("deadline")
            break
        assert waiting, "it asks nothing, and does not decide"
        ask = waiting.pop(rng.randrange(len(waiting)))
        candidate = answering(ask)
        taken.append(candidate)
        new = strategy.take(candidate)
        asks += new
        waiting += new
        assert len(asks) <= ASKS_MAX
    assert [ask.number for ask in asks] == list(range(len(asks)))
    return asks, taken


def replayed(strategy: Strategy, candidates: list[Candidate], reason: str, rename: Callable[[str], str]) -> Decision:
    """Feed candidates as they were written down: without texts, under other names of the answers."""
    strategy.begin()
    for candidate in candidates:
        strategy.take(replace(candidate, answer=rename(candidate.answer) if candidate.answer else "", text=""))
    strategy.stop(reason)
    assert strategy.decision is not None
    return strategy.decision


def encoded(decision: Decision | None) -> bytes:
    assert decision is not None
    return msgspec.json.encode(decision)
