"""Load reports: figures of the engines, told when they change and not more often than ten times a second."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.engines.counting_model import CountingModel, request

from open_autoglm import clock
from open_autoglm.engines.engine import Engine
from open_autoglm.inference.load_watch import INTERVAL_S, LoadWatch
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.membership.load import read_load


class Timers:
    """A loop that only keeps what is to be called."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Any]] = []

    def call_later(self, delay_s: float, callback: Any) -> asyncio.TimerHandle:
        self.due.append((delay_s, callback))
        return None  # type: ignore[return-value]

    def fire(self) -> None:
        delay_s, callback = self.due.pop()
        assert delay_s == INTERVAL_S
        callback()


def watched(engine: Engine) -> tuple[LoadWatch, Timers, list[bytes]]:
    told: list[bytes] = []
    timers = Timers()
    return LoadWatch([ServedModel("count", "", engine)], told.append, timers), timers, told  # type: ignore[arg-type]


def test_a_change_is_told_once() -> None:
    now_s = 100.0
    with clock.drive(lambda: now_s, lambda: now_s):
        engine = Engine(CountingModel("1"), slots=2, memory_max=4000)
        watch, timers, told = watched(engine)
        watch.start()
        assert len(told) == 1
        timers.fire()
        assert len(told) == 1
        for _ in range(3):
            engine.submit(request(3, 1, max_tokens=8), lambda events: None)
        engine.turn()
        timers.fire()
        timers.fire()
        assert len(told) == 2
        load = read_load(told[1])
        assert (load.slots, load.running, load.queue) == (2, 2, 1)
        assert (load.memory_free_bytes, round(load.memory_free, 2)) == (3800, 0.95)
        assert load.number > read_load(told[0]).number


def test_rates_are_taken_over_a_second() -> None:
    now_s = 100.0
    with clock.drive(lambda: now_s, lambda: now_s):
        engine = Engine(CountingModel("1"), slots=2)
        watch, _, _ = watched(engine)
        for _ in range(2):
            engine.submit(request(3, 1, max_tokens=8), lambda events: None)
        while engine.load().running or engine.load().queued:
            engine.turn()
        assert watch.read().tokens_per_s == 0.0
        now_s += 2.0
        load = watch.read()
        assert (load.tokens_per_s, load.batch_fill) == (8.0, 1.0)
        now_s += 2.0
        assert (watch.read().tokens_per_s, watch.read().batch_fill) == (0.0, 0.0)
