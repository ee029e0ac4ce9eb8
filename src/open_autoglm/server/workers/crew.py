"""The workers as the supervisor sees them, and when one that has ended is started again.

| a worker that ended | is started again |
|---|---|
| after a minute or more of service | at once |
| sooner, for the n-th time in a row | at once the first time, then after 1, 2, 4 … 30 s |
| ten times in a row | not: the whole server stops, and its service manager may start it anew |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from open_autoglm.server.options import Started
from open_autoglm.server.workers.channel import Channel

_STEADY_S: Final = 60.0
"""A worker that has served so long has not ended because of how it was started."""
_DELAY_MAX_S: Final = 30.0
FAILURES_MAX: Final = 10


@dataclass(slots=True)
class Worker:
    """One of the workers.

    Attributes:
        index: 0 for the leader.
        pid: of its process; 0 while there is none.
        channel: to it; None while there is none.
        started: what it serves; None until it is ready.
        born_s: when its process began, monotonic seconds.
        heard_s: when it last said something.
        due_s: when it is to be started, monotonic seconds; while `pid` is 0.
        failures: how often in a row it ended too soon.
        was_ready: whether any process in this place has ever been ready.
    """

    index: int
    pid: int = 0
    channel: Channel | None = None
    started: Started | None = None
    born_s: float = 0.0
    heard_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    was_ready: bool = False

    def ended(self, now_s: float, *, well: bool) -> float:
        """Note that its process is gone; return how long it stays so, seconds.

        Args:
            now_s: monotonic seconds.
            well: it has finished what it had begun, as somebody told it to.
        """
        self.failures = 0 if well or now_s - self.born_s >= _STEADY_S else self.failures + 1
        delay_s = 0.0 if self.failures < 2 else min(_DELAY_MAX_S, 2.0 ** (self.failures - 2))
        self.pid = 0
        self.started = None
        self.due_s = now_s + delay_s
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        return delay_s
