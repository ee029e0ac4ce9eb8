"""Many members in one process, under virtual time, on a network that loses, delays and cuts.

Invariant: the same seed gives the same run. Messages are written and read as on the wire, without their seals.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from open_autoglm.membership.effects import Changed, Effect, Loaded, Send, Sync
from open_autoglm.membership.member import Member, Record
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.swim import Swim
from open_autoglm.membership.wire import read_message, read_state, write_state

SEAL_BYTES: Final = 25
"""Version, seal and sequence of a datagram."""
PACKET_BYTES: Final = 28
"""Heads of IPv4 and UDP."""


@dataclass(slots=True)
class Site:
    """One member and its surroundings.

    Attributes:
        swim: its machine.
        up: False after a crash.
        sent_bytes: datagrams with all their heads.
        synced_bytes: states sent over TCP.
        deaths: what it took for dead: seconds and name.
    """

    swim: Swim
    up: bool = True
    sent_bytes: int = 0
    synced_bytes: int = 0
    deaths: list[tuple[float, str]] = field(default_factory=list)
    timer_s: float = 0.0


class GossipWorld:
    """See the module.

    Args:
        seed: of everything.
        settings: of all members.
        loss: share of datagrams that are lost.
        delay_s: of a datagram, least and most.

    Attributes:
        now_s: virtual seconds.
        sites: by name.
        cut: pairs of sender and receiver between whom nothing arrives, in this direction.
        on_change: called with the site's name and the change.
    """

    def __init__(
        self,
        seed: int,
        settings: SwimSettings | None = None,
        *,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.0005, 0.02),
    ) -> None:
        self.now_s = 0.0
        self.sites: dict[str, Site] = {}
        self.cut: set[tuple[str, str]] = set()
        self.loss = loss
        self.on_change: Callable[[str, Changed], None] = lambda name, changed: None
        self._settings = settings or SwimSettings()
        self._delay_s = delay_s
        self._rng = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._changed = False

    def start(self, name: str, *, role: str = "node", seeds: tuple[str, ...] = (), models: int = 1) -> Site:
        """Start a member, or start it again after a crash."""
        record = Record(
            id=name,
            role="server" if role == "server" else "node",
            node_class="" if role == "server" else "cpu",
            start=1 + round(self.now_s * 1e6),
            gossip=f"{name}:1",
            address=f"{name}:2",
            models=tuple((f"model-{number}", f"version-{number}") for number in range(models)),
        )
        rng = random.Random(self._rng.getrandbits(64))
        addresses = [f"{seed}:1" for seed in seeds]
        site = Site(Swim(record, self._settings, rng, self.now_s, addresses))
        self.sites[name] = site
        self._arm(name, site)
        return site

    def crash(self, name: str) -> None:
        """Stop a member without a word."""
        self.sites[name].up = False

    def act(self, name: str, action: Callable[[Swim, float], list[Effect]]) -> None:
        """Let a member do something, as `lambda swim, now_s: swim.drain(now_s)`."""
        site = self.sites[name]
        self._carry_out(name, site, action(site.swim, self.now_s))

    def run(self, for_s: float, until: Callable[[], bool] | None = None) -> float | None:
        """Let time pass; return the moment at which `until` held first, or None.

        `until` is asked at first, and after each event that changed what a member knows.
        """
        end_s = self.now_s + for_s
        queue = self._queue
        self._changed = True
        while queue and queue[0][0] <= end_s:
            if self._changed and until is not None:
                self._changed = False
                if until():
                    return self.now_s
            self.now_s, _, action = heapq.heappop(queue)
            action()
        self.now_s = end_s
        return None

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after so many seconds."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, action))

    def view(self, name: str) -> dict[str, Member]:
        """Whom a member knows."""
        return self.sites[name].swim.members

    def _arm(self, name: str, site: Site) -> None:
        deadline_s = site.swim.next_deadline()
        if site.timer_s > self.now_s and site.timer_s <= deadline_s:
            return
        site.timer_s = max(deadline_s, self.now_s)
        self.later(site.timer_s - self.now_s, lambda: self._tick(name, site))

    def _tick(self, name: str, site: Site) -> None:
        if not site.up or self.now_s < site.timer_s:
            return
        site.timer_s = 0.0
        if site.swim.next_deadline() <= self.now_s:
            self._carry_out(name, site, site.swim.handle_timeout(self.now_s))
        else:
            self._arm(name, site)

    def _carry_out(self, name: str, site: Site, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    site.sent_bytes += len(effect.message) + SEAL_BYTES + PACKET_BYTES
                    self._deliver(name, effect.to.partition(":")[0], effect.message)
                case Sync():
                    self._exchange(name, site, effect.to.partition(":")[0])
                case Changed():
                    if effect.member.state == "dead" and effect.former != "dead":
                        site.deaths.append((self.now_s, effect.member.id))
                    self.on_change(name, effect)
                    self._changed = True
                case Loaded():
                    self._changed = True
                case _:
                    pass
        self._arm(name, site)

    def _deliver(self, source: str, name: str, message: bytes) -> None:
        if self._rng.random() < self.loss or (source, name) in self.cut:
            return
        least_s, most_s = self._delay_s
        self.later(least_s + (most_s - least_s) * self._rng.random(), lambda: self._arrive(source, name, message))

    def _arrive(self, source: str, name: str, message: bytes) -> None:
        site = self.sites.get(name)
        if site is None or not site.up:
            return
        self._carry_out(name, site, site.swim.handle(read_message(message), f"{source}:1", self.now_s))

    def _exchange(self, name: str, site: Site, other: str) -> None:
        """Full states over TCP: needs both directions, and two round trips."""
        peer = self.sites.get(other)
        if peer is None or not peer.up or (name, other) in self.cut or (other, name) in self.cut:
            return
        there = write_state(site.swim.roster.entries())
        site.synced_bytes += len(there)

        def ask() -> None:
            if peer.up and site.up:
                back = write_state(peer.swim.roster.entries())
                peer.synced_bytes += len(back)
                self._carry_out(other, peer, peer.swim.merge(read_state(there, 1025), name, self.now_s))
                self.later(self._delay_s[1], lambda: answer(back))

        def answer(back: bytes) -> None:
            if site.up:
                self._carry_out(name, site, site.swim.merge(read_state(back, 1025), other, self.now_s, f"{other}:1"))

        self.later(3 * self._delay_s[1], ask)
