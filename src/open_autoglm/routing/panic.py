"""When so few endpoints are left that it is better to use those of which one only suspects that they are unwell.

A level is a group of endpoints; those after it take over what it cannot carry. A level is believed to carry all of the
load while no more than 28 % of its endpoints are away (overprovisioning of 1.4). As long as all levels together carry
everything, nobody panics; below that a level panics when less than half of it is available. Whole per cents, rounded
down, as in Envoy, whose published tables are this module's tests.
"""

from collections.abc import Sequence
from typing import Final

PANIC_BELOW_PERCENT: Final = 50
_OVERPROVISIONING_PERCENT: Final = 140


def level_health(available: int, total: int) -> int:
    """How much of the whole load a level carries, per cent, 0 to 100."""
    return min(100, _OVERPROVISIONING_PERCENT * available // total)


def total_health(levels: Sequence[tuple[int, int]]) -> int:
    """How much of the load all levels carry together, per cent, 0 to 100.

    Args:
        levels: endpoints available and in all, for each level; each has at least one endpoint.
    """
    return min(100, sum(level_health(available, total) for available, total in levels))


def panics(levels: Sequence[tuple[int, int]]) -> list[bool]:
    """Which levels panic. Arguments as for `total_health`."""
    carried = total_health(levels) == 100
    return [not carried and 100 * available < PANIC_BELOW_PERCENT * total for available, total in levels]
