"""How much of a group's work a node gets, by what it says of itself and by what is seen of it.

The weight of its endpoints is `slots / 4`, so that a node of four slots, which is the usual one, counts as much as a
configured endpoint of weight 1, times these factors:

| what | factor |
|---|---|
| processors | the share that is idle, 0.1 at least |
| memory | 1 while a tenth is free; below, the share of that tenth, 0.05 at least |
| waiting requests | 1 / (1 + waiting / slots) |
| first tokens | the group's fastest over its own, 0.25 at least |
| suspected | 0.05: it is likely gone, but somebody must take the work when all are suspected |

Every strategy that knows weights follows them. Classes of requests are looked after by each endpoint's limit.
"""

from __future__ import annotations

from typing import Final

from open_autoglm.membership.load import LoadReport

_SLOTS_USUAL: Final = 4
_IDLE_MIN: Final = 0.1
_MEMORY_LOW: Final = 0.1
_MEMORY_MIN: Final = 0.05
_LATENCY_MIN: Final = 0.25
_SUSPECT: Final = 0.05


def placement_weight(load: LoadReport | None, latency_s: float, fastest_s: float, *, suspect: bool) -> float:
    """Return the weight of a node's endpoint, above 0.

    Args:
        load: its newest report; None while there was none.
        latency_s: its time to first tokens; 0.0 while unknown.
        fastest_s: the least of its group; 0.0 while unknown.
        suspect: whether it is suspected.
    """
    weight = _SUSPECT if suspect else 1.0
    if latency_s > 0.0 and fastest_s > 0.0:
        weight *= min(1.0, max(fastest_s / latency_s, _LATENCY_MIN))
    if load is None:
        return weight
    slots = load.slots or _SLOTS_USUAL
    weight *= slots / _SLOTS_USUAL
    weight *= max(1.0 - load.cpu, _IDLE_MIN)
    weight *= min(1.0, max(load.memory_free / _MEMORY_LOW, _MEMORY_MIN))
    return weight / (1.0 + load.queue / slots)
