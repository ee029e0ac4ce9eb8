"""An endpoint that is away for a while, under steady traffic: who is served, how often it is tried, when it is back.

While it is away, its connections are reset as they come, so that every try can be counted; checks of its health too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from open_autoglm.testing.hearing import Heard
from open_autoglm.testing.judge import RESCUED, Verdict
from open_autoglm.testing.upstream import ScriptedUpstream

DOWN: Final = "down"
"""Name of the fault."""
PROBES_MAX: Final = 30
"""Connections to an endpoint that is away for 60 s: one each 2 s, checks of its health included."""
BACK_S: Final = 30.0
"""After its return, the time in which it must serve again."""
_PERIOD_S: Final = 0.25
"""Between two requests; unary and streamed in turns."""
_WARM_S: Final = 3.0
"""Of traffic before it goes away."""

Put = Callable[[bool, int], Awaitable[tuple[str, Heard]]]
"""Asks a question: whether as a stream, and its number. Returns the question and what was heard."""


class Outage:
    """See the module.

    Args:
        upstream: that goes away.
        put: asks the gateway.
        seconds: how long it is away.

    Attributes:
        probes: connections made to it while it was away.
        back_s: from its return to its first request; 0.0 when there was none.
    """

    def __init__(self, upstream: ScriptedUpstream, put: Put, seconds: float) -> None:
        self._upstream = upstream
        self._put = put
        self._seconds = seconds
        self._asking: list[asyncio.Future[tuple[str, Heard]]] = []
        self._used_before = False
        self._came_back = False
        self.probes = 0
        self.back_s = 0.0

    async def run(self) -> list[tuple[str, Heard]]:
        """Run it; return every question with what was heard."""
        loop = asyncio.get_running_loop()
        before = len(self._upstream.asked)
        await self._send_until(loop.time() + _WARM_S)
        # What has begun may end: a break in the middle of an answer is another fault.
        await asyncio.gather(*self._asking)
        self._used_before = len(self._upstream.asked) > before
        self._upstream.down = True
        turned_away = self._upstream.turned_away
        await self._send_until(loop.time() + self._seconds)
        self.probes = self._upstream.turned_away - turned_away
        self._upstream.down = False
        up_s = loop.time()
        asked = len(self._upstream.asked)
        await self._send_until(up_s + BACK_S, lambda: len(self._upstream.asked) > asked)
        self._came_back = len(self._upstream.asked) > asked
        self.back_s = loop.time() - up_s if self._came_back else 0.0
        return list(await asyncio.gather(*self._asking))

    def verdict(self) -> Verdict:
        """Judge what the upstream saw."""
        most = max(PROBES_MAX * self._seconds / 60.0, 1.0)
        if not self._used_before:
            return Verdict("wrong", "the endpoint got no request before it went away")
        if self.probes > most:
            return Verdict("wrong", f"{self.probes} tries while it is away; {most:.0f} are the bound")
        if not self._came_back:
            return Verdict("wrong", f"not used again within {BACK_S:.0f} s of its return")
        return RESCUED

    async def _send_until(self, end_s: float, enough: Callable[[], bool] | None = None) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end_s and not (enough is not None and enough()):
            number = len(self._asking)
            self._asking.append(asyncio.ensure_future(self._put(number % 2 == 1, number)))
            await asyncio.sleep(_PERIOD_S)
