"""Requests of one key that wait for the key's rate instead of being refused: in order, bounded by number and age.

Invariant: at most `capacity` wait; each that joined is let in, expired or discarded once, in the order of its coming.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from open_autoglm.admission.settings import AdmissionSettings

T = TypeVar("T")


class KeyLine(Generic[T]):
    """See the module.

    Args:
        settings: number and age.

    Attributes:
        settings: may be changed at any time.
        waiting: how many wait.
    """

    __slots__ = ("_expires", "settings", "waiting")

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self._expires: OrderedDict[T, float] = OrderedDict()
        self.waiting = 0

    def __iter__(self) -> Iterator[T]:
        """Those who wait, the next one first."""
        return iter(self._expires)

    def join(self, item: T, now_s: float, deadline_s: float) -> int:
        """Wait behind the others; return the position, 1 for the next, or 0 when too many wait already."""
        if self.waiting >= self.settings.key_queue:
            return 0
        self._expires[item] = now_s + min(self.settings.key_age_s, (deadline_s - now_s) / 2)
        self.waiting += 1
        return self.waiting

    def pump(self, now_s: float, admit: Callable[[float], float]) -> tuple[list[T], list[T]]:
        """Let in who may come in; return them, and those who have waited too long.

        Args:
            now_s: monotonic seconds.
            admit: lets one in and returns 0.0, or the seconds after which to try again.
        """
        expired = [item for item, expires_s in self._expires.items() if expires_s <= now_s]
        for item in expired:
            del self._expires[item]
        admitted: list[T] = []
        while self._expires and not admit(now_s):
            admitted.append(self._expires.popitem(last=False)[0])
        self.waiting = len(self._expires)
        return admitted, expired

    def discard(self, item: T) -> None:
        """One has left."""
        if self._expires.pop(item, None) is not None:
            self.waiting -= 1
