"""What virtual models have learned of their members, kept over reloads and restarts.

Each virtual model has a book, which lives as long as the process; a reload that does not change its members leaves it
as it is. Books are written into one file, whole or not at all, when something was learned. Invariant: a file that
cannot be read, or is not ours, is put aside with a word in the log, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Final

import msgspec

from open_autoglm.voting.calibration import curves_of
from open_autoglm.voting.candidate import Decision
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.reliability import Reliability
from open_autoglm.voting.settings import TeamSettings

FILE_BYTES_MAX: Final = 64 * 2**20
"""A larger file is not ours."""
_NAME: Final = "cooperation.json"

_log = logging.getLogger(__name__)


class Book:
    """What one virtual model knows of its members.

    Args:
        members, settings: of the virtual model.
        knowledge: what was known before.
    """

    __slots__ = ("_curves", "_reliability", "changed", "members", "settings")

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge) -> None:
        self.members = members
        self.settings = settings
        self._reliability = Reliability(members, settings, knowledge)
        self._curves = curves_of(settings, (member.name for member in members))
        self.changed = False

    def knowledge(self) -> Knowledge:
        """All that is known now; of calibration what the settings say."""
        return msgspec.structs.replace(self._reliability.knowledge(), calibration=self._curves)

    def decided(self, decision: Decision) -> None:
        """Learn from a decision where nobody says what is right; nothing, unless the settings say so."""
        if self._reliability.learn_from_vote(decision.votes, self.settings.task_class):
            self.changed = True

    def label(self, decision: Decision, answer: str) -> None:
        """Learn from the right answer of a decision.

        Args:
            decision: as it was made.
            answer: the right one, as it is compared.
        """
        self._reliability.learn(decision.votes, answer, self.settings.task_class)
        self.changed = True


class Library:
    """The books of all virtual models of one process.

    Args:
        folder: where they are kept; None keeps them in memory only.
        writes: whether this process writes them; of several one does.
    """

    def __init__(self, folder: str | None, *, writes: bool = True) -> None:
        self._path = None if folder is None else os.path.join(folder, _NAME)
        self._writes = writes
        self._books: dict[str, Book] = {}
        self._known = self._read()

    def book(self, model: str, members: tuple[Member, ...], settings: TeamSettings) -> Book:
        """The book of a virtual model, with what is known of those members that stay."""
        old = self._books.get(model)
        if old is not None and (old.members, old.settings) == (members, settings):
            return old
        known = old.knowledge() if old is not None else self._known.pop(model, Knowledge())
        made = Book(members, settings, known)
        made.changed = old is not None and old.changed
        self._books[model] = made
        return made

    def find(self, model: str) -> Book | None:
        """The book of a virtual model that is served."""
        return self._books.get(model)

    def keep(self, models: set[str]) -> None:
        """Virtual models beyond these are served no more; what is known of them goes."""
        for model in set(self._books) - models:
            del self._books[model]

    def changes(self) -> bytes | None:
        """All books as they are to be written, if something was learned since this was last asked; else None."""
        if self._path is None or not self._writes or not any(book.changed for book in self._books.values()):
            return None
        for book in self._books.values():
            book.changed = False
        return msgspec.json.encode({model: book.knowledge() for model, book in self._books.items()})

    def write(self, content: bytes) -> None:
        """Write what `changes` gave; in any thread, one at a time. What cannot be written is said in the log."""
        assert self._path is not None
        beside = f"{self._path}.new"
        try:
            os.makedirs(os.path.dirname(self._path) or ".", mode=0o700, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        except OSError as error:
            _log.error("what virtual models learned cannot be kept: %s: %s", beside, error.strerror)
            with contextlib.suppress(OSError):
                os.unlink(beside)

    def _read(self) -> dict[str, Knowledge]:
        if self._path is None:
            return {}
        try:
            with open(self._path, "rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
            if len(content) > FILE_BYTES_MAX:
                raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
            return msgspec.json.decode(content, type=dict[str, Knowledge])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _log.error("what virtual models learned is lost: %s: %s", self._path, str(error)[:200])
            if self._writes:
                with contextlib.suppress(OSError):
                    os.replace(self._path, f"{self._path}.unreadable")
            return {}
