"""Who is looked at when, whoever comes and goes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.transport.patrol_rounds import BEATS, PatrolRounds


@dataclass(eq=False)
class Member:
    beat: int = -1
    at: int = 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=400))
def test_every_member_is_looked_at_once_in_a_round(steps: list[tuple[bool, int]]) -> None:
    rounds: PatrolRounds[Member] = PatrolRounds()
    members: list[Member] = []
    for comes, choice in steps:
        if comes or not members:
            members.append(Member())
            rounds.enter(members[-1])
        else:
            gone = members.pop(choice % len(members))
            rounds.leave(gone)
            assert gone.beat == -1
            rounds.leave(gone)  # changes nothing
    seen = [member for _ in range(BEATS) for member in rounds.next_beat()]
    assert len(seen) == len(members)
    assert set(map(id, seen)) == set(map(id, members)) == set(map(id, rounds))


def test_members_that_come_together_have_different_turns() -> None:
    rounds: PatrolRounds[Member] = PatrolRounds()
    for _ in range(3 * BEATS):
        rounds.enter(Member())
    assert {len(rounds.next_beat()) for _ in range(BEATS)} == {3}


def test_members_may_leave_while_they_are_looked_at() -> None:
    rounds: PatrolRounds[Member] = PatrolRounds()
    for _ in range(BEATS * 2):
        rounds.enter(Member())
    looked = 0
    for _ in range(BEATS):
        for member in rounds.next_beat():
            rounds.leave(member)
            looked += 1
    assert looked == 2 * BEATS
    assert not list(rounds)
