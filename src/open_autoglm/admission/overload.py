"""How overloaded the whole server is: one stage from memory, descriptors and the event loop's lag.

| stage | memory, descriptors | lag | what is given up |
|---|---|---|---|
| 0 | below 80 % | below 50 ms | nothing |
| 1 | 80 % | 50 ms | half of the caches; for memory and descriptors also connections that are kept alive |
| 2 | 90 % | 250 ms, twice in a row | requests below class critical |
| 3 | 95 % | 1 s, twice in a row | new connections |

A resource's stage rises with one look and falls one at a time, after four looks in a row below nine tenths of what
raised it, so that it does not flutter. Lag tells of what was and not of what is: one long stall is over when it is
seen, so it turns nobody away, and only what two looks in a row have seen counts beyond stage 1. Nor are connections
given up for lag: opening them anew would cost the loop more than keeping them. The server's stage is the highest of
its resources'.
"""

from __future__ import annotations

from typing import Final

from open_autoglm.admission.settings import OverloadSettings

DESCRIPTORS_RESERVED: Final = 32
"""Of the process's limit: for the admin listener, for logs, and for upstream connections of what runs."""
_FALL_LOOKS: Final = 4
_FALL_SHARE: Final = 0.9


class _Resource:
    """The stage of one resource."""

    __slots__ = ("_before", "_calm", "_twice", "stage", "thresholds")

    def __init__(self, thresholds: tuple[float, float, float], *, twice: bool = False) -> None:
        self.thresholds = thresholds
        self._twice = twice
        self._before = 0
        self._calm = 0
        self.stage = 0

    def look(self, value: float) -> None:
        thresholds = self.thresholds
        reached = sum(value >= threshold for threshold in thresholds)
        if self._twice:
            reached, self._before = min(reached, max(self._before, 1)), reached
        if reached > self.stage:
            self.stage = reached
            self._calm = 0
        elif self.stage and value < thresholds[self.stage - 1] * _FALL_SHARE:
            self._calm += 1
            if self._calm >= _FALL_LOOKS:
                self.stage -= 1
                self._calm = 0
        else:
            self._calm = 0


class Overload:
    """See the module.

    Args:
        settings: thresholds.

    Attributes:
        stage: 0 to 3.
        keep_alive: whether connections are kept between requests.
        cause: the resource that is worst off; empty at stage 0.
    """

    __slots__ = ("_descriptors", "_lag", "_memory", "cause", "keep_alive", "stage")

    def __init__(self, settings: OverloadSettings) -> None:
        shares = (settings.soft, settings.hard, settings.full)
        self._memory = _Resource(shares)
        self._descriptors = _Resource(shares)
        self._lag = _Resource((settings.lag_soft_s, settings.lag_hard_s, settings.lag_full_s), twice=True)
        self.stage = 0
        self.keep_alive = True
        self.cause = ""

    def look(self, memory: float, descriptors: float, lag_s: float) -> bool:
        """Take a look; return whether the stage has changed.

        Args:
            memory: what is used of it, as a share of what may be used.
            descriptors: likewise, of the limit less `DESCRIPTORS_RESERVED`.
            lag_s: how late the event loop was, seconds.
        """
        self._memory.look(memory)
        self._descriptors.look(descriptors)
        self._lag.look(lag_s)
        stages = {"memory": self._memory.stage, "descriptors": self._descriptors.stage, "lag": self._lag.stage}
        cause = max(stages, key=lambda name: stages[name])
        before, self.stage = self.stage, stages[cause]
        self.cause = cause if self.stage else ""
        self.keep_alive = not self._memory.stage and not self._descriptors.stage
        return self.stage != before

    def reconfigure(self, settings: OverloadSettings) -> None:
        """Use other thresholds from the next look on."""
        self._memory.thresholds = self._descriptors.thresholds = (settings.soft, settings.hard, settings.full)
        self._lag.thresholds = (settings.lag_soft_s, settings.lag_hard_s, settings.lag_full_s)
