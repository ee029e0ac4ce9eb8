"""Many open connections, looked at in turns: no timer for each, and no turn that holds the loop for long.

Invariant: each member is in one beat, at the place that it remembers; its place takes eight bytes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

BEATS: Final = 100
"""In how many parts a round is taken."""


class Patrolled(Protocol):
    """A member.

    Attributes:
        beat: number of its beat; -1 while it is in none.
        at: its place there.
    """

    beat: int
    at: int


_M = TypeVar("_M", bound=Patrolled)


class PatrolRounds(Generic[_M]):
    """See the module."""

    __slots__ = ("_beats", "_next", "_to_fill")

    def __init__(self) -> None:
        self._beats: list[list[_M]] = [[] for _ in range(BEATS)]
        self._next = 0
        self._to_fill = 0

    def __iter__(self) -> Iterator[_M]:
        for beat in self._beats:
            yield from beat

    def enter(self, member: _M) -> None:
        """Take a member that is in no beat."""
        number = self._to_fill = (self._to_fill + 1) % BEATS
        beat = self._beats[number]
        member.beat = number
        member.at = len(beat)
        beat.append(member)

    def leave(self, member: _M) -> None:
        """Let a member go; one that is in no beat stays so."""
        if member.beat < 0:
            return
        beat = self._beats[member.beat]
        last = beat.pop()
        if last is not member:
            beat[member.at] = last
            last.at = member.at
        member.beat = -1

    def next_beat(self) -> list[_M]:
        """The members whose turn it is; they may leave meanwhile."""
        self._next = (self._next + 1) % BEATS
        return self._beats[self._next].copy()
