"""The line before a group: requests that wait because its endpoints have no room.

Invariant: whoever is taken from the queue is granted, or put back where it was; whoever aged out in it is told.
While it stands, those in it go one by one instead of in bunches (`admission.pacing`).
A line belongs to the name of a group and outlives the groups of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from open_autoglm.admission.pacing import Pacing
from open_autoglm.admission.settings import AdmissionSettings
from open_autoglm.admission.wait_queue import WaitQueue


class Waiter(Protocol):
    """What stands in a line: an exchange."""

    def granted(self, now_s: float) -> bool:
        """It is your turn. False when there is no room after all; then nothing has changed."""

    def shed(self, now_s: float) -> None:
        """You have waited long enough; you are out of the line."""


def _nobody() -> None:
    """Whom a line wakes until it is told."""


class Line:
    """See the module.

    Attributes:
        queue: who waits.
        wake: called when there may be room for who is next; the composition root lets it arrange for `pump` soon.

    Args:
        queue: of this line alone; an unsettled one when left out.
    """

    __slots__ = ("_pacing", "queue", "wake")

    def __init__(self, queue: WaitQueue[Waiter] | None = None) -> None:
        self.queue: WaitQueue[Waiter] = WaitQueue(AdmissionSettings()) if queue is None else queue
        self.wake: Callable[[], None] = _nobody
        self._pacing = Pacing()

    def join(self, waiter: Waiter, tenant: str, priority: int, now_s: float, deadline_s: float) -> int:
        """Let one wait; see `WaitQueue.offer`."""
        position = self.queue.offer(waiter, tenant, priority, now_s, deadline_s)
        if position == 1 and self.queue.waiting > 1:
            # There may be room that is none for those who came before, of a lower class.
            self.wake()
        return position

    def pump(self, now_s: float) -> float:
        """Send away those who waited too long, then let in as many as there is room for and the pace allows.

        Returns:
            Seconds after which it is the next one's time; 0.0 when no time has to pass.
        """
        queue, pacing = self.queue, self._pacing
        for waiter in queue.expire(now_s):
            waiter.shed(now_s)
        while (hold_s := pacing.hold_s(now_s)) == 0.0:
            first = queue.take(now_s)
            if first is None:
                pacing.emptied()
                break
            if not first.granted(now_s):
                queue.put_back(first)
                break
            pacing.granted(now_s)
        return hold_s
