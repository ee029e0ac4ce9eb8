"""How long a suspect may contradict: long while one member alone suspects it, shorter with each further one.

The rule is that of Lifeguard (Dadgar, Phillips and Currey, 2018): with `c` of the `k` confirmations that are looked
for, the time is `max - (max - min) * log(c + 1) / log(k + 1)`. Who suspects because it is slow itself stays alone, and
the suspect has time; who suspects because the suspect is gone is soon joined by others.
"""

from __future__ import annotations

from math import log, log10

from open_autoglm.membership.settings import SwimSettings


class Suspicion:
    """One suspicion that runs.

    Args:
        by: who suspects first.
        now_s: monotonic seconds.
        members: known members, this one included.
        settings: factors.

    Attributes:
        deadline_s: when the suspect is taken for dead.
    """

    __slots__ = ("_max_s", "_min_s", "_since_s", "_voices", "_wanted", "deadline_s")

    def __init__(self, by: str, now_s: float, members: int, settings: SwimSettings) -> None:
        self._since_s = now_s
        self._min_s = settings.suspicion_factor * settings.interval_s * max(1.0, log10(max(members, 1)))
        self._max_s = self._min_s * settings.suspicion_spread
        # Suspect and first voice cannot confirm; where too few others are left, nobody is waited for.
        self._wanted = settings.confirmations if members - 2 >= settings.confirmations else 0
        self._voices = {by}
        self.deadline_s = now_s + (self._max_s if self._wanted else self._min_s)

    def confirm(self, by: str) -> bool:
        """Count a voice; return whether it is new and was still looked for."""
        if by in self._voices or len(self._voices) > self._wanted:
            return False
        self._voices.add(by)
        share = log(len(self._voices)) / log(self._wanted + 1)
        self.deadline_s = self._since_s + max(self._min_s, self._max_s - (self._max_s - self._min_s) * share)
        return True

    def put_off(self, by_s: float) -> None:
        """Give the suspect more time, because this process slept."""
        self._since_s += by_s
        self.deadline_s += by_s
