"""An event loop whose time is virtual: it never sleeps, it jumps to the next timer.

An hour takes as long as the work in it. Invariants: what runs, and in which order, is decided by the program and the
seed alone; time stands still while callbacks run; a program that waits for what can never come, or that never lets
time pass, is told so by an error instead of hanging.

The usual order of asyncio holds (ready callbacks first in, first out); timers that are due at the same moment run in
an order that the seed chooses, since a real loop promises none.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from open_autoglm import clock

if TYPE_CHECKING:
    from open_autoglm.testing.network import Network

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
START_S = 1000.0
"""Monotonic time at the start; not 0.0, which often stands for "not yet"."""
START_WALL_S = 1_767_225_600.0
"""Wall time at the start: 2026-01-01T00:00:00Z."""
_TURNS_MAX = 100_000
"""Turns of the loop at one moment; more is a program that does not let time pass."""


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: what is waited for can never come."""


class LivelockError(RuntimeError):
    """Callbacks make callbacks without end, and time cannot pass."""


class TimeLimitError(RuntimeError):
    """The program did not end within the virtual time it was given."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module.

    Args:
        seed: of everything that is left to chance.
        limit_s: virtual seconds after which `TimeLimitError` is raised.

    Attributes:
        rng: drawn from by whatever in this world is left to chance.
        network: what `create_server` and `create_connection` use; None for none.
        failures: contexts of what `call_exception_handler` was told, in order.
    """

    def __init__(self, seed: int = 0, *, limit_s: float = 3600.0) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.network: Network | None = None
        self.failures: list[dict[str, Any]] = []
        self._now_s = START_S
        self._limit_s = START_S + limit_s
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._turns = 0
        self._ties = random.Random(seed + 1).random
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run a program to its end in virtual time, cancel what it left running, and close the loop.

        Raises:
            DeadlockError: it waits for what can never come.
            LivelockError: it does not let time pass.
            TimeLimitError: it takes longer than `limit_s`.
        """
        with clock.drive(self.time, self.wall):
            try:
                return self.run_until_complete(main)
            finally:
                try:
                    self._cancel_leftovers()
                finally:
                    self.close()

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._now_s

    def wall(self) -> float:
        """Virtual seconds since 1970-01-01 UTC."""
        return START_WALL_S + self._now_s - START_S

    def elapsed_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s - START_S

    # What asyncio asks of a loop.

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._ties(), self._timers_made, timer))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """As asyncio's, on the virtual network; options of sockets have no meaning here."""
        return self._network().listen(protocol_factory, host, port)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any) -> Any:
        """As asyncio's, on the virtual network, without TLS."""
        if how.get("ssl"):
            raise NotImplementedError("the virtual network speaks no TLS")
        return await self._network().connect(protocol_factory, host, port)

    def _network(self) -> Network:
        if self.network is None:
            raise OSError("this virtual loop has no network; make one with `Network(loop)`")
        return self.network

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when its time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""

    def _process_events(self, event_list: object) -> None:
        """There is no selector whose events could come."""

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._jump(ready)
        self._turns += 1
        if self._turns > _TURNS_MAX:
            raise LivelockError(f"{_TURNS_MAX} turns at {self.elapsed_s():.6f} s; next is {ready[0]!r}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self, ready: Any) -> None:
        """Go to the next timer, and make all that are due then ready."""
        timers = self._timers
        while timers and timers[0][3].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise DeadlockError(f"nothing can happen any more at {self.elapsed_s():.6f} s")
        when = timers[0][0]
        if when > self._now_s:
            if when > self._limit_s:
                raise TimeLimitError(f"not done at {self.elapsed_s():.3f} s")
            self._now_s = when
            self._turns = 0
        while timers and timers[0][0] <= self._now_s:
            timer = heapq.heappop(timers)[3]
            if not timer.cancelled():
                ready.append(timer)

    def _cancel_leftovers(self) -> None:
        self._turns = 0
        leftovers = asyncio.all_tasks(self)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._limit_s += 60.0
            self.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        self.run_until_complete(self.shutdown_asyncgens())
