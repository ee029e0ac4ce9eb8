"""Deadlines in one coarse timer wheel, instead of a timer per request.

The wheel has a slot per tick; an item sits in one slot and is looked at when its slot comes round. Moving a deadline
back, which a busy connection does all the time, leaves the item where it sits: it is armed anew when that slot comes
(lazy re-arming). A deadline beyond the wheel's span waits in the farthest slot for its later rounds. All operations
are O(1) in the number of items; items due come in a fixed order, so runs can be repeated.
Source: Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

_Item = TypeVar("_Item", bound=Hashable)


class DeadlineWheel(Generic[_Item]):
    """Tells which items' deadlines have passed.

    An item is due at or after its deadline, and at most one tick late, given that `due` is called every tick.

    Args:
        tick_s: coarseness, seconds > 0.
        slots: size of the wheel, a power of two; its span is `tick_s * slots`.

    Raises:
        ValueError: `slots` is not a power of two.
    """

    __slots__ = ("_armed", "_mask", "_per_s", "_slots", "_tick", "_tick_s")

    def __init__(self, tick_s: float = 0.05, slots: int = 512) -> None:
        if slots < 2 or slots & (slots - 1):
            raise ValueError(f"a wheel of {slots!r} slots cannot be built; use a power of two, at least 2")
        self._tick_s = tick_s
        self._per_s = 1.0 / tick_s
        self._mask = slots - 1
        # Slot: item -> deadline. The tick in whose slot an item sits is kept beside it.
        self._slots: list[dict[_Item, float]] = [{} for _ in range(slots)]
        self._armed: dict[_Item, int] = {}
        # The last tick that was looked at.
        self._tick = 0

    def __len__(self) -> int:
        return len(self._armed)

    def __contains__(self, item: _Item) -> bool:
        return item in self._armed

    def add(self, item: _Item, deadline_s: float) -> None:
        """Set the deadline of an item, whether it has one or not. Monotonic seconds, finite."""
        armed = self._armed.get(item)
        if armed is not None:
            slot = self._slots[armed & self._mask]
            if deadline_s >= armed * self._tick_s:
                slot[item] = deadline_s
                return
            del slot[item]
        self._arm(item, deadline_s)

    def discard(self, item: _Item) -> None:
        """Forget an item, if it is there."""
        armed = self._armed.pop(item, None)
        if armed is not None:
            del self._slots[armed & self._mask][item]

    def due(self, now_s: float) -> list[_Item]:
        """Take out the items whose deadlines have passed."""
        now_tick = int(now_s * self._per_s)
        first = self._tick + 1
        if first > now_tick:
            return []
        self._tick = now_tick
        found: list[_Item] = []
        # After a long pause one round meets every slot.
        for tick in range(max(first, now_tick - self._mask), now_tick + 1):
            slot = self._slots[tick & self._mask]
            if slot:
                self._slots[tick & self._mask] = {}
                self._sort_out(slot, now_s, found)
        return found

    def next_due_s(self) -> float | None:
        """When to call `due` next: no deadline is before that. None when there is none at all."""
        if not self._armed:
            return None
        tick = self._tick + 1
        while not self._slots[tick & self._mask]:
            tick += 1
        return tick * self._tick_s

    def _sort_out(self, slot: dict[_Item, float], now_s: float, found: list[_Item]) -> None:
        for item, deadline_s in slot.items():
            if deadline_s <= now_s:
                del self._armed[item]
                found.append(item)
            else:
                self._arm(item, deadline_s)

    def _arm(self, item: _Item, deadline_s: float) -> None:
        # The first tick after the deadline, but one that is still to come and within one round.
        tick = min(max(int(deadline_s * self._per_s) + 1, self._tick + 1), self._tick + self._mask)
        self._armed[item] = tick
        self._slots[tick & self._mask][item] = deadline_s
