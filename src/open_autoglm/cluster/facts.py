"""Small facts that all members share, beside who is there: a map on the member's own datagrams and exchanges of state.

Invariant: what this member writes goes at once, as a delta, to every member that is there; what a delta did not bring,
and what was written before a member came, comes with the next exchange of full states. The links are touched on the
event loop only.

A datagram of a link is kind 6 of the messages between members: kind u8, sender (text), start u64, then what
`dissemination.delta_link` says. In an exchange, facts follow the members' state, which its length (u32) goes before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from struct import Struct as Layout
from typing import Final

from open_autoglm import clock
from open_autoglm.dissemination import DeltaLink, DisseminationError, LinkSettings, ReplicatedMap
from open_autoglm.dissemination.entry import Entry, Told, read_all, write_all, write_told
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.member import ID_BYTES_MAX, Member, Record, is_id

_log = logging.getLogger(__name__)

FACTS: Final = 6
FACTS_BYTES_MAX: Final = 2 * 2**20
"""Of facts in one exchange of states: 1,024 of the largest fit. What conflicts add beyond comes by deltas."""
ENTRIES_MAX: Final = 32_768
_TICK_S: Final = 0.001
_LINK: Final = LinkSettings()
_START: Final = Layout(">Q")
_LENGTH: Final = Layout(">I")

SendTo = Callable[[str, bytes], None]
FactCallback = Callable[[str], None]


class ClusterFacts:
    """See the module.

    Args:
        me: what this member says of itself.
        send: sends a message to `HOST:PORT`, sealed.
        loop: for timers.

    Attributes:
        on_change: called with each key of which something new is known, or that expired.
        sent_bytes: told to others, without seals and heads of packets: `delta`, `state`.
    """

    def __init__(self, me: Record, send: SendTo, loop: asyncio.AbstractEventLoop) -> None:
        self.on_change: list[FactCallback] = []
        self.sent_bytes = {"delta": 0, "state": 0}
        self._lost = 0
        self._map = ReplicatedMap(me.id, me.start)
        self._start = me.start
        name = me.id.encode()
        self._head = bytes((FACTS, len(name))) + name + _START.pack(me.start)
        self._send = send
        self._loop = loop
        self._links: dict[str, tuple[int, DeltaLink]] = {}
        self._addresses: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def map(self) -> ReplicatedMap:
        """What is known; change it by `write` only."""
        return self._map

    @property
    def lost(self) -> int:
        """Datagrams that were taken for lost; what was in them was told again."""
        return self._lost + sum(link.lost for _, link in self._links.values())

    def kinds(self) -> dict[str, int]:
        """Facts by what is before the slash of their keys; those that were removed by themselves, as `removed`."""
        counted: dict[str, int] = {"removed": 0}
        for key in self._map.keys():  # noqa: SIM118 - it is no dict
            live = any(entry.value is not None for entry in self._map.read(key).entries)
            kind = (key.partition("/")[0] if "/" in key else "other") if live else "removed"
            counted[kind] = counted.get(kind, 0) + 1
        return counted

    def write(self, key: str, value: bytes | None, expected: dict[str, int], *, ttl_ms: int | None = None) -> Entry:
        """Write a fact, or remove it with None, and tell everybody; see `ReplicatedMap.write`.

        Raises:
            WriteConflict: there is something that `expected` does not know.
            ValueError: key, value or time to live are out of range, or there are too many keys.
        """
        entry = self._map.write(key, value, expected, clock.monotonic(), ttl_ms=ttl_ms)
        self._say([key])
        self._serve()
        return entry

    def close(self) -> None:
        """Tell nothing more; idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # Members.

    def note(self, member: Member) -> None:
        """Take note of a member that came, changed or went."""
        record = member.record
        if not member.present:
            self._drop(record.id)
            self._addresses.pop(record.id, None)
            self._map.set_gone(record.id)
            return
        self._map.set_present(record.id)
        self._addresses[record.id] = record.gossip
        known = self._links.get(record.id)
        if known is None or known[0] != record.start:
            self._drop(record.id)
            # What there was before comes to it with an exchange of states.
            self._links[record.id] = (record.start, DeltaLink(self._map, record.id, self._start, _LINK, synced=True))

    def _drop(self, name: str) -> None:
        """Forget a link, but for its figures."""
        known = self._links.pop(name, None)
        if known is not None:
            self._lost += known[1].lost

    # Datagrams.

    def hear(self, sender: str, start: int, datagram: bytes) -> None:
        """Take a datagram in; one of a member that is not known here is dropped, and told again later.

        Raises:
            GossipError: it is not as it should be.
        """
        known = self._links.get(sender)
        if known is None or known[0] != start:
            return
        try:
            changed = known[1].receive(datagram, clock.monotonic())
        except DisseminationError as error:
            raise GossipError(str(error)) from error
        self._say(changed)
        self._plan()

    def _serve(self) -> None:
        now_s = clock.monotonic()
        self._say(self._map.expire(now_s))
        for name, (_, link) in self._links.items():
            if link.next_deadline() <= now_s:
                for datagram in link.send(now_s):
                    message = self._head + datagram
                    self.sent_bytes["delta"] += len(message)
                    self._send(self._addresses[name], message)
        self._plan()

    def _plan(self) -> None:
        """Wake up when a link or the map has something to do."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = min((link.next_deadline() for _, link in self._links.values()), default=float("inf"))
        due_s = min(due_s, self._map.next_deadline())
        if due_s < float("inf") and not self._closed:
            self._timer = self._loop.call_later(max(due_s - clock.monotonic(), 0.0) + _TICK_S, self._serve)

    def _say(self, keys: list[str]) -> None:
        for key in keys:
            for callback in self.on_change:
                callback(key)

    # Exchanges of state.

    def give(self, members: bytes) -> bytes:
        """Return a state: the members' and the facts, as far as there is room."""
        told: list[Told] = []
        room = FACTS_BYTES_MAX
        for each in self._map.everything(clock.monotonic()):
            room -= len(write_told(each))
            if room < 0:
                break
            told.append(each)
        facts = write_all(told)
        self.sent_bytes["state"] += len(facts)
        return join_state(members, facts)

    def take(self, facts: bytes, peer: str) -> None:
        """Take another member's facts in.

        Raises:
            GossipError: they are not as they should be.
        """
        try:
            told = read_all(facts, ENTRIES_MAX)
        except DisseminationError as error:
            raise GossipError(str(error)) from error
        self._say(self._map.merge(told, clock.monotonic(), peer))
        self._plan()


def join_state(members: bytes, facts: bytes) -> bytes:
    """Return a state: the members' part, with its length before it, and the facts."""
    return _LENGTH.pack(len(members)) + members + facts


def split_state(state: bytes) -> tuple[bytes, bytes]:
    """Return the members' part and the facts of a state.

    Raises:
        GossipError: it ends too early.
    """
    if len(state) < _LENGTH.size:
        raise GossipError("a state ends too early")
    end = _LENGTH.size + int(_LENGTH.unpack_from(state)[0])
    if end > len(state):
        raise GossipError("a state ends too early")
    return state[_LENGTH.size : end], state[end:]


def read_facts(body: bytes) -> tuple[str, int, bytes]:
    """Return sender, start and the link's datagram of a message of kind 6.

    Raises:
        GossipError: it ends too early, or its sender's name is none.
    """
    size = body[1] if len(body) > 1 else 0
    at = 2 + size
    if not 0 < size <= ID_BYTES_MAX or len(body) < at + _START.size:
        raise GossipError("a message of facts ends too early")
    sender = body[2:at].decode("ascii", "replace")
    if not is_id(sender):
        raise GossipError("a member's name is none")
    return sender, int(_START.unpack_from(body, at)[0]), body[at + _START.size :]
