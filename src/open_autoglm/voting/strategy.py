"""The form of every strategy: a machine that says whom to ask, is told the candidates, and decides.

| a strategy is | until |
|---|---|
| asking | `decision` is set: what is still outstanding need not be awaited, and is cancelled |
| over | for ever; `take` and `stop` change nothing any more |

Invariants: no ask before `begin`; each ask is answered by one `take` at most; a decision, once made, stays; the same
members, settings, knowledge and candidates in the same order give the same decision, byte for byte.
"""

from __future__ import annotations

from typing import Protocol

from open_autoglm.voting.candidate import Ask, Candidate, Decision


class Strategy(Protocol):
    """See the module.

    Attributes:
        decision: None while it is asking.
    """

    decision: Decision | None

    def begin(self) -> list[Ask]:
        """The first questions, to be asked at once."""

    def take(self, candidate: Candidate) -> list[Ask]:
        """Take what became of an ask, failures too; return further questions, to be asked at once."""

    def stop(self, reason: str) -> None:
        """Time or budget is at its end: decide by what is there."""
