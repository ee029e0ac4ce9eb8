"""A run decided again from what was written down of it.

The strategy is built from its record, takes the recorded candidates in the order in which they came, and must ask the
same and decide the same, byte for byte (`msgspec.json.encode`). Where answers were not written down, what stands for
them is named so that the names' order is that of the answers: strategies compare answers, and decide the last ties by
the order of their digests, but do not read them.

Invariant: pure; the same recording gives the same result.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec import structs as struct_of

from open_autoglm.voting.candidate import Candidate, Decision, Vote
from open_autoglm.voting.catalog import make_strategy
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.strategy import Strategy


class Asked(Struct, frozen=True):
    """An ask as it is written down, without its text."""

    number: int
    member: str
    purpose: str = "answer"


class Recording(Struct, frozen=True):
    """What a run leaves behind.

    Attributes:
        strategy, members, settings, knowledge, seed: what the strategy was built of.
        asked: whom it asked, in order.
        candidates: what came, in the order of its coming.
        decision: what was decided.
        stopped: why it was told to stop, where it was; a strategy may give another reason for what it decides then.
        answers: all answers as they are written down, in the order of the digests of what they were.
    """

    strategy: str
    members: tuple[Member, ...]
    settings: TeamSettings
    knowledge: Knowledge
    seed: int
    asked: tuple[Asked, ...]
    candidates: tuple[Candidate, ...]
    decision: Decision
    stopped: str = ""
    answers: tuple[str, ...] = ()


class Difference(Struct, frozen=True):
    """The first thing that is not as it was recorded.

    Attributes:
        step: candidates that had been taken by then.
        field: what differs.
        recorded, replayed: both values, as JSON.
    """

    step: int
    field: str
    recorded: str
    replayed: str


def replay(recording: Recording) -> Difference | None:
    """Decide a run again; None when all is as it was recorded.

    Raises:
        ValueError: the strategy cannot be built, as when its name is unknown.
    """
    names = _names(recording.answers)
    strategy = make_strategy(
        recording.strategy, recording.members, recording.settings, recording.knowledge, recording.seed
    )
    asked = {each.number: each for each in recording.asked}
    made: dict[int, Asked] = {}
    difference = _compare_asks(strategy, None, asked, made, 0)
    for step, candidate in enumerate(recording.candidates, 1):
        if difference is not None or strategy.decision is not None:
            break
        if candidate.ask not in made:
            return Difference(step - 1, f"ask {candidate.ask}", _json(asked.get(candidate.ask)), "null")
        named = struct_of.replace(candidate, answer=names.get(candidate.answer, candidate.answer))
        difference = _compare_asks(strategy, named, asked, made, step)
    if difference is not None:
        return difference
    if strategy.decision is None:
        strategy.stop(recording.stopped or recording.decision.reason)
    wanted = _named(recording.decision, names)
    return compare_decisions(len(recording.candidates), wanted, strategy.decision)


def _compare_asks(
    strategy: Strategy, candidate: Candidate | None, asked: dict[int, Asked], made: dict[int, Asked], step: int
) -> Difference | None:
    """Take a step, and compare what it asks with what was asked; an ask that was not carried out is none."""
    asks = strategy.begin() if candidate is None else strategy.take(candidate)
    for ask in asks:
        now = made[ask.number] = Asked(ask.number, ask.member, ask.purpose)
        before = asked.get(ask.number)
        if before is not None and before != now:
            return Difference(step, f"ask {ask.number}", _json(before), _json(now))
    return None


def compare_decisions(step: int, recorded: Decision, replayed: Decision | None) -> Difference | None:
    """Name the first field that differs; None when both are the same bytes."""
    if replayed is None:
        return Difference(step, "decision", _json(recorded), "null")
    if msgspec.json.encode(recorded) == msgspec.json.encode(replayed):
        return None
    for field in struct_of.fields(Decision):
        before, now = getattr(recorded, field.name), getattr(replayed, field.name)
        if _json(before) != _json(now):
            return Difference(step, field.name, _json(before), _json(now))
    return Difference(step, "decision", _json(recorded), _json(replayed))


def _names(answers: tuple[str, ...]) -> dict[str, str]:
    """A name for each answer, which is its own digest, in the same order."""
    return {answer: f"digest:{place:032x}" for place, answer in enumerate(answers)}


def _named(decision: Decision, names: dict[str, str]) -> Decision:
    votes = tuple(Vote(v.ask, v.member, names.get(v.answer, v.answer), v.weight) for v in decision.votes)
    return struct_of.replace(decision, answer=names.get(decision.answer, decision.answer), votes=votes)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
