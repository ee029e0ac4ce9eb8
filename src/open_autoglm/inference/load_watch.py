"""How busy a node is: looked at ten times a second, told when it changed.

Invariant: a report goes out at most every 100 ms, and only when `membership.load.is_news` says so; what is told is at
most that old.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from open_autoglm import clock
from open_autoglm.cluster.machine import Machine
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.membership.load import LoadReport, is_news, write_load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

INTERVAL_S: Final = 0.1
_RATES_S: Final = 1.0
"""CPU, memory and tokens per second are taken over so long."""


class LoadWatch:
    """See the module.

    Args:
        models: whose engines are asked.
        tell: takes the payload of LOAD.
        loop: for the timer.
    """

    def __init__(
        self, models: Sequence[ServedModel], tell: Callable[[bytes], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._models = models
        self._tell = tell
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._told = LoadReport()
        self._taken_s = clock.monotonic()
        self._tokens = 0
        self._passes = 0
        self._rates = (0.0, 0.0)
        self._machine = Machine()
        self._figures = self._machine.read()
        self._number = 0

    def start(self) -> None:
        """Look now, and from now on."""
        self._told = self.read()
        self._tell(write_load(self._told))
        self._timer = self._loop.call_later(INTERVAL_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def read(self) -> LoadReport:
        """The load of this moment."""
        loads = [model.engine.load() for model in self._models]
        now_s = clock.monotonic()
        if now_s - self._taken_s >= _RATES_S:
            self._take_rates(now_s, sum(load.tokens_total for load in loads), sum(load.passes_total for load in loads))
        tokens_per_s, tokens_per_pass = self._rates
        slots = sum(load.slots for load in loads)
        machine = self._figures
        free, free_bytes = machine.memory_free, machine.memory_free_bytes
        bounded = [load for load in loads if load.memory_max]
        if bounded:
            most = sum(load.memory_max for load in bounded)
            left = most - sum(load.memory_bytes for load in bounded)
            if left < free_bytes or not free_bytes:
                free, free_bytes = left / most, left
        self._number += 1
        return LoadReport(
            cpu=machine.cpu,
            memory_free=free,
            memory_free_bytes=free_bytes,
            batch_fill=min(tokens_per_pass / slots, 1.0) if slots else 0.0,
            slots=slots,
            running=sum(load.running for load in loads),
            queue=sum(load.queued for load in loads),
            tokens_per_s=tokens_per_s,
            number=self._number,
        )

    def _take_rates(self, now_s: float, tokens: int, passes: int) -> None:
        passed_s = now_s - self._taken_s
        fresh_tokens, fresh_passes = tokens - self._tokens, passes - self._passes
        self._rates = (fresh_tokens / passed_s, fresh_tokens / fresh_passes if fresh_passes else 0.0)
        self._taken_s, self._tokens, self._passes = now_s, tokens, passes
        self._figures = self._machine.read()

    def _look(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_S, self._look)
        load = self.read()
        if is_news(self._told, load):
            self._told = load
            self._tell(write_load(load))
