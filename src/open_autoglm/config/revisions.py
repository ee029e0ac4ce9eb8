"""The configurations that a server has used, newest last.

Invariant: numbers only grow and are never used twice; going back to an old configuration is a new revision with the old
content. Content that is already active makes no revision.
"""

from collections import deque
from dataclasses import dataclass

from open_autoglm.config.loading import Loaded

REVISIONS_MAX = 32
"""Kept by default; beyond that nobody goes back."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration that was put to use.

    Attributes:
        number: counted from 1.
        digest: SHA-256 of its text, hex.
        by: who put it to use, as `file`, `sighup`, `api` or `rollback to 3`.
        since_wall_s: wall seconds since when.
        loaded: the configuration.
    """

    number: int
    digest: str
    by: str
    since_wall_s: float
    loaded: Loaded


class Revisions:
    """The history.

    Args:
        limit: revisions that are kept, at least 1; the oldest goes first.
    """

    __slots__ = ("_kept", "_next")

    def __init__(self, limit: int = REVISIONS_MAX) -> None:
        self._kept: deque[Revision] = deque(maxlen=max(1, limit))
        self._next = 1

    def propose(self, loaded: Loaded, by: str, wall_s: float) -> Revision:
        """Make a configuration the active one.

        Returns:
            The new revision, or the active one when its content, secrets included, is the same.
        """
        if self._kept and self._kept[-1].loaded.config == loaded.config:
            return self._kept[-1]
        revision = Revision(self._next, loaded.digest, by, wall_s, loaded)
        self._next += 1
        self._kept.append(revision)
        return revision

    @property
    def next_number(self) -> int:
        """The number that the next new revision will have."""
        return self._next

    @property
    def active(self) -> Revision | None:
        """The newest; None before the first."""
        return self._kept[-1] if self._kept else None

    def list(self) -> list[Revision]:
        """All that are kept, oldest first."""
        return list(self._kept)

    def get(self, number: int) -> Revision | None:
        """The revision of a number; None when it never was, or is no longer kept."""
        return next((revision for revision in self._kept if revision.number == number), None)

    def rollback_target(self) -> Revision | None:
        """The revision before the active one, which has other content; None when there is none.

        To go back, propose its `loaded`. Going back twice returns to where one was, since each step is a revision.
        """
        return self._kept[-2] if len(self._kept) > 1 else None
