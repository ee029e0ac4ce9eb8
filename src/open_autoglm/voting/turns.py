"""Members asked in turn, over and over, without those that do not answer.

| a member is | until |
|---|---|
| in turn | its last `FAILURES_MAX` asks have failed, as far as they have ended |
| passed over | one that was asked before answers after all |

Invariant: with nobody failing, the n-th ask goes to the n-th member, counted round. What fails here has failed in all
the ways that the member has: its endpoints, retries and fallbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from open_autoglm.voting.candidate import Candidate
from open_autoglm.voting.knowledge import Member

FAILURES_MAX: Final = 2
"""In a row. One may be chance; a run of forty votes must not wait for a dead member forty times."""


class Turns:
    """See the module."""

    __slots__ = ("_failures", "_names", "_place")

    def __init__(self, members: Sequence[Member]) -> None:
        self._names = [member.name for member in members]
        self._failures = dict.fromkeys(self._names, 0)
        self._place = 0

    def next(self) -> str | None:
        """Return who is asked next; None when nobody is left."""
        for _ in self._names:
            name = self._names[self._place]
            self._place = (self._place + 1) % len(self._names)
            if self._failures[name] < FAILURES_MAX:
                return name
        return None

    def take(self, candidate: Candidate) -> None:
        """Note what became of an ask. A reply that is no vote is none of its member's failures."""
        self._failures[candidate.member] = self._failures[candidate.member] + 1 if candidate.failure else 0
