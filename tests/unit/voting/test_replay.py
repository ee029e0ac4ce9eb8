"""A run decided again: every strategy, from its record with and without texts; and what a changed record gives."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs as struct_of

from open_autoglm.telemetry.audit import AuditTrail
from open_autoglm.telemetry.run_record import RunRecord, recording_of
from open_autoglm.voting.candidate import Ask, Candidate
from open_autoglm.voting.catalog import STRATEGIES, make_strategy
from open_autoglm.voting.knowledge import Knowledge, Member, Skill
from open_autoglm.voting.replay import Asked, Recording, replay
from open_autoglm.voting.settings import TeamSettings

MEMBERS = (Member("a", "north", 1.0), Member("b", "north", 2.0), Member("c", "south", 5.0))
SKILLS = (("a", 9.0), ("b", 3.0), ("c", 1.0))
KNOWLEDGE = Knowledge(skills=tuple(Skill(name, None, right, 2.0) for name, right in SKILLS))
ASKS_MAX = 400


def answered(ask: Ask, lots: random.Random) -> Candidate:
    """What becomes of an ask: few answers and equal costs, so that ties come."""
    if lots.random() < 0.1:
        return Candidate(ask.number, ask.member, failure="deadline_exceeded", latency_s=1.0)
    answer = str(lots.randint(1, 3)) if ask.purpose == "judge" else lots.choice(["seven", "eight", "neun", "十"])
    flags = ("truncated",) if lots.random() < 0.1 else ()
    confidence = lots.choice([None, 0.5, 0.9])
    return Candidate(ask.number, ask.member, answer, f"It is {answer}.", confidence, 0.1, 9, 3, 0.25, "v1", flags)


def run(name: str, settings: TeamSettings, seed: int, *, texts: bool = False, stop: int = ASKS_MAX) -> RunRecord:
    """Carry a run out, as the executor does: answers come in any order; it is stopped after `stop` of them."""
    lots = random.Random(seed)
    strategy = make_strategy(name, MEMBERS, settings, KNOWLEDGE, seed)
    trail = AuditTrail(None, texts=texts).begin(
        "req-1",
        {"strategy": name, "members": MEMBERS, "settings": settings, "knowledge": KNOWLEDGE, "seed": seed},
    )
    open_asks = strategy.begin()
    for ask in open_asks:
        trail.event("asked", ask)
    taken = 0
    while strategy.decision is None and open_asks and taken < stop:
        candidate = answered(open_asks.pop(lots.randrange(len(open_asks))), lots)
        trail.event("candidate", candidate)
        more = strategy.take(candidate)
        for ask in more:
            trail.event("asked", ask)
        open_asks += more
        taken += 1
    stopped = "" if strategy.decision is not None else "deadline"
    if stopped:
        strategy.stop(stopped)
    trail.end(strategy.decision)
    return trail.record


def recorded(record: RunRecord) -> Recording:
    """As it comes back from the file."""
    return recording_of(msgspec.json.decode(msgspec.json.encode(record), type=RunRecord))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(seed=st.integers(0, 2**31 - 1), texts=st.booleans(), stop=st.sampled_from([0, 1, 2, ASKS_MAX]))
def test_every_strategy_decides_the_same_again(name: str, seed: int, texts: bool, stop: int) -> None:
    settings = TeamSettings(quorum=1 + seed % 2, samples=3 + seed % 4, adaptive=seed % 3 > 0)
    assert replay(recorded(run(name, settings, seed, texts=texts, stop=stop))) is None


def voted() -> Recording:
    for seed in range(1000):
        recording = recorded(run("dynamic_voting", TeamSettings(early_exit="none"), seed))
        decision = recording.decision
        if len(decision.votes) == 3 and len({vote.answer for vote in decision.votes}) == 2:
            return recording
    raise AssertionError("no such run")


def changed(recording: Recording, **fields: Any) -> str:
    difference = replay(struct_of.replace(recording, **fields))
    return "" if difference is None else difference.field


def test_what_was_changed_is_found() -> None:
    recording = voted()
    first, *rest = recording.candidates
    other = next(c.answer for c in recording.candidates if c.answer != first.answer)
    assert changed(recording) == ""
    assert changed(recording, candidates=(struct_of.replace(first, answer=other), *rest)) in (
        "answer",
        "agreement",
        "votes",
    )
    assert changed(recording, decision=struct_of.replace(recording.decision, posterior=0.123)) == "posterior"
    assert changed(recording, knowledge=Knowledge()) in ("posterior", "answer", "candidate")
    assert changed(recording, asked=(Asked(0, "nobody"), *recording.asked[1:])) == "ask 0"
    assert changed(recording, candidates=(struct_of.replace(first, ask=77), *rest)) == "ask 77"
    assert changed(recording, candidates=recording.candidates[:1]) != ""


def test_what_is_no_run_of_a_strategy_says_so() -> None:
    trail = AuditTrail(None)
    with pytest.raises(ValueError, match="nothing was decided"):
        recording_of(trail.begin("req-1", {}).record)
    record = run("dynamic_voting", TeamSettings(), 1)
    del record.header["seed"]
    with pytest.raises(ValueError, match="'seed'"):
        recording_of(record)
    record = run("dynamic_voting", TeamSettings(), 1)
    record.header["strategy"] = "no such"
    with pytest.raises(ValueError, match="'no such'"):
        replay(recording_of(record))
