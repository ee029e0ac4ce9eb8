"""Takes away what a limit has beyond use: while it is used to the full, fewer in flight, if as many answers come.

How many answers come a second is never counted: it is those in flight over the time that one takes (Little), and only
whether it changes matters. So a queue at an endpoint moves to where it can be put in order, whether the endpoint's
time grows with its load by a queue or by its nature.

| state | a measurement shows | then |
|---|---|---|
| off | a queue (`_VISIBLE`) | a step down |
| down | as many answers as at the start, `_KEPT` of them at least | another step down |
| down | fewer | two steps up: rest; when this was the first step, one up, and off for `_OFF_S` if it was off before |
| rest | anything, `_REST_S` later | a step up, the next time one down |
| up | more answers | a step up, twice as large |
| up | as many | a step down: rest |
| any | that the limit is not used to the full, or nothing, as times differ too much | off |
| any but off | (the limit is below `cap` without it) | off |

Invariants: a measurement is of requests sent under one limit, and known to `_ERROR`; `cap` is infinite while off, else
no less than the floor; memory is constant.
"""

from __future__ import annotations

from math import inf
from typing import Final, Literal

_VISIBLE: Final = 1.1
"""Of the expected time: less is no queue that anybody would want to see elsewhere."""
_FULL: Final = 0.85
"""Of the limit, in flight on average: who waits for room fills it at once."""
_STEP: Final = 0.05
_KEPT: Final = 0.97
_REST_S: Final = 5.0
_OFF_S: Final = 30.0
_ERROR: Final = 0.01
"""Standard error of the mean time."""
_LOOK_EVERY: Final = 50
_SAMPLES_MAX: Final = 1200


class Trim:
    """See the module.

    Args:
        floor: `cap` never falls below it.

    Attributes:
        cap: what the limit may be at most. Read only.
    """

    __slots__ = (
        "_before",
        "_count",
        "_floor",
        "_from_s",
        "_in_flight",
        "_limit",
        "_rest_s",
        "_start",
        "_state",
        "_step",
        "_sum",
        "_sum_squares",
        "_up_next",
        "_was_off",
        "cap",
    )

    def __init__(self, floor: int) -> None:
        self.cap = inf
        self._floor = floor
        self._state: Literal["off", "down", "rest", "up"] = "off"
        self._before = 0.0
        self._step = 1
        self._start = 0
        self._was_off = True
        self._up_next = False
        self._rest_s = -inf
        self._limit = -1
        self._restart(-inf)

    @property
    def compares(self) -> bool:
        """Whether times are being compared under different limits."""
        return self._state in ("down", "up")

    def note(self, now_s: float, sent_s: float, ratio: float, in_flight: int, limit: int) -> bool:
        """Take an answer into account; true when `cap` has changed.

        Args:
            now_s: monotonic seconds.
            sent_s: when the request was sent.
            ratio: the time that the answer took, over what was expected.
            in_flight: running now, this one among them.
            limit: how many may be.
        """
        if limit != self._limit:
            self._limit = limit
            self._restart(now_s)
            if self._state != "off" and limit < self.cap:
                self.forget()
        if sent_s < self._from_s:
            return False
        self._count += 1
        self._sum += ratio
        self._sum_squares += ratio * ratio
        self._in_flight += in_flight
        count = self._count
        if count % _LOOK_EVERY:
            return False
        mean = self._sum / count
        known = self._sum_squares / count - mean * mean <= count * (_ERROR * mean) ** 2
        if not known and count < _SAMPLES_MAX:
            return False
        mean_in_flight = self._in_flight / count
        self._restart(now_s)
        cap = self.cap
        if known and mean_in_flight >= _FULL * limit:
            self._go_on(now_s, mean, mean_in_flight / mean, limit)
        else:
            self._state, self.cap = "off", inf
        return self.cap != cap

    def forget(self) -> None:
        """Begin anew."""
        self._state, self.cap = "off", inf
        self._rest_s = -inf
        self._limit = -1

    def _restart(self, now_s: float) -> None:
        self._from_s = now_s
        self._count = self._in_flight = 0
        self._sum = self._sum_squares = 0.0

    def _go_on(self, now_s: float, ratio: float, throughput: float, limit: int) -> None:
        state = self._state
        if state == "off":
            if ratio >= _VISIBLE and now_s >= self._rest_s:
                self._begin_down(throughput, limit, was_off=True)
        elif state == "down":
            self._go_down(now_s, throughput)
        elif state == "up":
            if throughput > self._before * (1.0 + self._step / limit / 2.0):
                self._before = throughput
                self._step *= 2
                self.cap += self._step
            else:
                self._rest(now_s, self.cap - self._step)
        elif now_s >= self._rest_s:
            # By turns, for noise lets a step up pass now and then.
            self._up_next = not self._up_next
            if self._up_next:
                self._begin(throughput, limit)
                self._state, self.cap = "up", self.cap + self._step
            elif ratio >= _VISIBLE:
                self._begin_down(throughput, limit, was_off=False)

    def _go_down(self, now_s: float, throughput: float) -> None:
        if throughput >= _KEPT * self._before and self.cap > self._floor:
            self.cap = max(self._floor, self.cap - self._step)
        elif self.cap + self._step < self._start:
            self._rest(now_s, self.cap + 2 * self._step)
        elif self._was_off:
            # Not even one step: there is no queue.
            self._state, self.cap = "off", inf
            self._rest_s = now_s + _OFF_S
        else:
            self._rest(now_s, self._start)

    def _begin_down(self, throughput: float, limit: int, *, was_off: bool) -> None:
        self._begin(throughput, limit)
        self._start, self._was_off = limit, was_off
        self._state, self.cap = "down", max(self._floor, limit - self._step)

    def _begin(self, throughput: float, limit: int) -> None:
        self._before = throughput
        self._step = max(1, int(_STEP * limit))

    def _rest(self, now_s: float, cap: float) -> None:
        self._state, self.cap = "rest", cap
        self._rest_s = now_s + _REST_S
