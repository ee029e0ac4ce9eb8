"""Whether a line is a burst, which passes if one waits, or congestion, which does not.

| a line is | until | meanwhile |
|---|---|---|
| calm | it refuses somebody after not being empty for `burst_s` | all wait that fit, up to the full age |
| congested | it has refused nobody for `burst_s` | one more waits only if served within `congested_wait_s` |

The idea is CoDel's (Nichols, Jacobson 2012): a queue that never empties only adds delay. Where CoDel ages what waits,
this looks at the measured rate of service and refuses at once whom it would not reach in time, so that a refusal is
told when it still helps and those who wait are served. Invariant: a congested line still lets one wait, so that no
room stays unused.
"""

from __future__ import annotations

from typing import Final

from open_autoglm.admission.settings import AdmissionSettings

_WINDOW_S: Final = 1.0
"""Over which the rate of service is measured."""
_WINDOW_MIN_S: Final = 0.1
"""A rate measured over less than this says nothing."""
_GAPS: Final = 4.0
"""In congestion the only one that waits does so for so many mean gaps between two services, and is served in 98 of
100 cases."""
_PATIENCE: Final = 3.0
"""Several that wait do so for so many times what is expected, and are served in 999 of 1,000 cases."""


class Congestion:
    """The state of one line; see the module.

    Attributes:
        settings: may be changed at any time.
    """

    __slots__ = ("_before", "_congested_until_s", "_filled_s", "_now", "_since_s", "settings")

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self._filled_s = 0.0
        self._congested_until_s = 0.0
        self._since_s = 0.0
        self._now = 0
        self._before = -1.0

    def filled(self, now_s: float) -> None:
        """The line was empty and now is not."""
        self._filled_s = now_s
        if now_s - self._since_s >= 2 * _WINDOW_S:
            self._since_s, self._now, self._before = now_s, 0, -1.0

    def served(self, now_s: float) -> None:
        """One of the line has got room."""
        self._turn(now_s)
        self._now += 1

    def refused(self, now_s: float) -> None:
        """One of the line, or one that wanted to join it, was refused."""
        if now_s < self._congested_until_s or now_s - self._filled_s >= self.settings.burst_s:
            self._congested_until_s = now_s + self.settings.burst_s

    def congested(self, now_s: float) -> bool:
        """Whether only a short wait is worth while."""
        return now_s < self._congested_until_s

    def rate(self, now_s: float) -> float:
        """How many of the line are served in a second, while it is not empty."""
        self._turn(now_s)
        passed_s = now_s - self._since_s
        if self._before < 0.0:
            return self._now / max(passed_s, _WINDOW_MIN_S)
        return self._now + self._before * (1.0 - passed_s / _WINDOW_S)

    def room(self, now_s: float) -> int:
        """How many may wait in congestion."""
        return max(1, int(self.rate(now_s) * self.settings.congested_wait_s))

    def age_s(self, now_s: float) -> float:
        """How long one waits in congestion."""
        settings = self.settings
        rate = self.rate(now_s)
        wanted_s = _GAPS / rate if rate > 0.0 else settings.queue_age_s
        return min(settings.queue_age_s, max(_PATIENCE * settings.congested_wait_s, wanted_s))

    def _turn(self, now_s: float) -> None:
        """Begin a new window when the last one is over."""
        passed_s = now_s - self._since_s
        if passed_s >= _WINDOW_S:
            self._before = float(self._now) if passed_s < 2 * _WINDOW_S else 0.0
            self._now = 0
            self._since_s = now_s - passed_s % _WINDOW_S
