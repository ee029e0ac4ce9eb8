"""Brings one other member what it lacks of a map, over datagrams that may be lost, doubled or overtake each other.

Only keys that changed are sent, and of each only what it is now. Every datagram has a number of its own; what was in a
lost one goes, as it is by then, into a new one (as in QUIC, RFC 9002). Invariant: a key that the other side may lack is
either waiting or in a datagram that is under way; at most `window` are.

| a key is | until | then |
|---|---|---|
| waiting | there is room under way | under way |
| under way | the datagram's number is acknowledged | known |
| under way | three later ones are acknowledged, or the timeout | waiting |
| known | it changes | waiting |

The timeout is smoothed round trip + 4 deviations (RFC 6298), doubled while nothing is acknowledged. When the map does
not remember all changes since the last one that was looked at, or the other side has started anew, every key waits.

A datagram, big-endian; then come entries (`entry`) or a parity:

| bytes | what |
|---|---|
| 1 | kind: 1 entries, 2 acknowledgement alone, 3 parity |
| 8 | start of the sender's process |
| 8 | number of the datagram; 0 unless it has entries |
| 8 | start of the receiver's process as the sender knows it; 0: not yet |
| 8 | highest number received; 0: none |
| 8 | the 64 numbers below it as bits, the lowest bit for the one just below |
| 2 | ms since the highest number was received, 65,535 at most: no part of the round trip |
"""

from __future__ import annotations

from math import inf
from struct import Struct as Layout
from typing import Final, NamedTuple

from msgspec import Struct

from open_autoglm.dissemination.entry import DisseminationError, read_entries
from open_autoglm.dissemination.parity import ParityReader, ParityWriter
from open_autoglm.dissemination.replicated_map import ReplicatedMap

_ENTRIES, _ACK, _PARITY = 1, 2, 3
_HEAD: Final = Layout(">BQQQQQH")
_BITS: Final = 64
_HELD_MS_MAX: Final = 65_535
_OVERTAKEN: Final = 3
"""So many later ones that arrived say that one is lost (RFC 9002, 6.1.1)."""
_ENTRIES_MAX: Final = 64
"""In one datagram."""
_WINDOW_MIN: Final = 4
"""Under way however much gets lost: a new change does not wait for an old one."""
_BODY_EXTRA: Final = 11
"""Bytes that a parity has beside the longest body."""


class LinkSettings(Struct, frozen=True):
    """How a link behaves.

    Attributes:
        datagram_bytes: largest datagram that is sent; longer entries are left to exchanges of full states.
        window: datagrams under way at most, 1 to 64.
        parity: one parity for so many datagrams, 2 to 16; 0 for none.
        relay: also pass on what others told; without, only what this member wrote itself.
        timeout_s: before the first round trip is known.
        timeout_min_s, timeout_max_s: what it is kept between.
        ack_delay_s: an acknowledgement waits so long for entries to travel with.
    """

    datagram_bytes: int = 1280
    window: int = 32
    parity: int = 0
    relay: bool = False
    timeout_s: float = 0.25
    timeout_min_s: float = 0.05
    timeout_max_s: float = 1.0
    ack_delay_s: float = 0.02


class _Sent(NamedTuple):
    sent_s: float
    keys: tuple[str, ...]


class DeltaLink:
    """See the module.

    Args:
        facts: the map, shared by all links.
        peer: the other member's name.
        start: of this process; of two processes of one name the later one has the higher.
        synced: the other side knows all that is in the map now.

    Attributes:
        lost: datagrams that were taken for lost; it only grows.
        recovered: datagrams that came back out of a parity.
        oversize: entries that no datagram has room for.
    """

    def __init__(
        self, facts: ReplicatedMap, peer: str, start: int, settings: LinkSettings, *, synced: bool = False
    ) -> None:
        self.lost = self.recovered = self.oversize = 0
        self._facts = facts
        self._peer = peer
        self._start = start
        self._settings = settings
        self._looked = facts.change
        self._waiting: dict[str, None] = {} if synced else dict.fromkeys(facts.keys())
        self._number = 0
        self._under_way: dict[int, _Sent] = {}
        self._window = settings.window
        self._smoothed_s: float | None = None
        self._deviation_s = 0.0
        self._silent = 0
        self._peer_start = 0
        self._highest = 0
        self._highest_s = 0.0
        self._bits = 0
        self._ack_s = inf
        self._writer = ParityWriter(settings.parity) if settings.parity else None
        self._reader = ParityReader()

    @property
    def idle(self) -> bool:
        """Whether the other side has acknowledged everything."""
        self._look()
        return not self._waiting and not self._under_way

    @property
    def timeout_s(self) -> float:
        """What is not acknowledged for so long is taken for lost."""
        settings = self._settings
        base_s = (
            settings.timeout_s
            if self._smoothed_s is None
            else self._smoothed_s + 4 * self._deviation_s + settings.ack_delay_s
        )
        patience = float(1 << self._silent)
        return min(max(base_s, settings.timeout_min_s) * patience, settings.timeout_max_s)

    def resync(self) -> None:
        """Tell the other side everything again."""
        self._looked = self._facts.change
        self._waiting.update(dict.fromkeys(self._facts.keys()))

    # Time.

    def next_deadline(self) -> float:
        """When `send` has something to do, monotonic seconds; 0 for at once, infinity for never."""
        self._look()
        if self._waiting and len(self._under_way) < self._window:
            return 0.0
        return min(self._ack_s, self._oldest_s() + self.timeout_s)

    def _oldest_s(self) -> float:
        return next(iter(self._under_way.values())).sent_s if self._under_way else inf

    # Sending.

    def send(self, now_s: float) -> list[bytes]:
        """Return the datagrams that are to be sent now."""
        self._give_up(now_s)
        self._look()
        datagrams = []
        while self._waiting and len(self._under_way) < self._window:
            body, keys = self._fill(now_s)
            if not keys:
                break
            self._number += 1
            self._under_way[self._number] = _Sent(now_s, keys)
            datagrams.append(self._head(_ENTRIES, self._number, now_s) + body)
            if self._writer is not None:
                self._add_parity(datagrams, self._writer.add(self._number, body), now_s)
        if datagrams and self._writer is not None:
            self._add_parity(datagrams, self._writer.close(), now_s)
        if not datagrams and self._ack_s <= now_s:
            datagrams.append(self._head(_ACK, 0, now_s))
        if datagrams:
            self._ack_s = inf
        return datagrams

    def _add_parity(self, datagrams: list[bytes], parity: bytes | None, now_s: float) -> None:
        if parity is not None:
            datagrams.append(self._head(_PARITY, 0, now_s) + parity)

    def _head(self, kind: int, number: int, now_s: float) -> bytes:
        held_ms = min(int((now_s - self._highest_s) * 1000), _HELD_MS_MAX) if self._highest else 0
        return _HEAD.pack(kind, self._start, number, self._peer_start, self._highest, self._bits, max(held_ms, 0))

    def _look(self) -> None:
        """Let keys wait that changed since the last time."""
        facts = self._facts
        if self._looked == facts.change:
            return
        changes = facts.changes_since(self._looked)
        if changes is None:
            self.resync()
            return
        self._looked = facts.change
        for key, change in reversed(changes.items()):
            if not change.source or (self._settings.relay and change.source != self._peer):
                self._waiting[key] = None

    def _fill(self, now_s: float) -> tuple[bytes, tuple[str, ...]]:
        """Take from what waits as much as a datagram has room for."""
        room = self._settings.datagram_bytes - _HEAD.size - (_BODY_EXTRA if self._writer is not None else 0)
        parts: list[bytes] = []
        keys: list[str] = []
        for key in list(self._waiting):
            told = self._facts.told(key, now_s)
            if parts and (sum(map(len, told)) > room or len(parts) + len(told) > _ENTRIES_MAX):
                break
            del self._waiting[key]
            told = self._cut(told, room)
            room -= sum(map(len, told))
            parts += told
            if told:
                keys.append(key)
        return b"".join(parts), tuple(keys)

    def _cut(self, entries: list[bytes], room: int) -> list[bytes]:
        """Leave out, of a key's entries, what does not fit a datagram; count it."""
        kept = []
        for written in entries:
            if len(written) > room:
                self.oversize += 1
            else:
                room -= len(written)
                kept.append(written)
        return kept

    def _give_up(self, now_s: float) -> None:
        """Take for lost what is not acknowledged in time."""
        timeout_s = self.timeout_s
        late = [number for number, sent in self._under_way.items() if sent.sent_s + timeout_s <= now_s]
        if not late:
            return
        for number in late:
            self._lose(number)
        self._silent = min(self._silent + 1, 8)
        self._window = max(self._window // 2, min(_WINDOW_MIN, self._settings.window))

    def _lose(self, number: int) -> None:
        self.lost += 1
        for key in self._under_way.pop(number).keys:
            self._waiting[key] = None

    # Receiving.

    def receive(self, datagram: bytes, now_s: float) -> list[str]:
        """Take a datagram of the other side in; return the keys of which something new is known.

        Raises:
            DisseminationError: it is not as it should be; nothing was taken in.
        """
        if len(datagram) < _HEAD.size:
            raise DisseminationError("a datagram ends too early")
        kind, start, number, our_start, highest, bits, held_ms = _HEAD.unpack_from(datagram)
        if not _ENTRIES <= kind <= _PARITY or (kind == _ENTRIES) is (number == 0) or start == 0:
            raise DisseminationError("a datagram's kind, number or start is none")
        if start < self._peer_start:
            return []  # of a process that is no more
        body = datagram[_HEAD.size :]
        told = read_entries(body, _ENTRIES_MAX) if kind == _ENTRIES else []
        if start > self._peer_start:
            self._meet(start)
        if our_start == self._start:
            self._acknowledged(highest, bits, now_s - held_ms / 1000)
        if kind == _ENTRIES:
            if self._settings.parity:
                self._reader.add(number, body)
            self._received(number, now_s)
        elif kind == _PARITY:
            recovered = self._reader.recover(body)
            if recovered is not None:
                number, body = recovered
                told = read_entries(body, _ENTRIES_MAX)
                self.recovered += 1
                self._received(number, now_s)
        return self._facts.merge(told, now_s, self._peer)

    def _meet(self, start: int) -> None:
        """Begin anew with another process under the other side's name."""
        if self._peer_start:
            # It knows nothing of what was told to the one before.
            self._under_way.clear()
            self.resync()
        self._peer_start = start
        self._highest = self._bits = 0
        self._reader = ParityReader()

    def _received(self, number: int, now_s: float) -> None:
        ahead = number - self._highest
        if ahead > _BITS:
            self._bits, self._highest, self._highest_s = 0, number, now_s
        elif ahead > 0:
            former = 1 << (ahead - 1) if self._highest else 0
            self._bits = ((self._bits << ahead) | former) & (2**_BITS - 1)
            self._highest, self._highest_s = number, now_s
        elif -_BITS <= ahead < 0:
            self._bits |= 1 << (-ahead - 1)
        self._ack_s = min(self._ack_s, now_s + self._settings.ack_delay_s)

    def _acknowledged(self, highest: int, bits: int, answered_s: float) -> None:
        arrived = [
            number
            for number in self._under_way
            if number == highest or (0 < highest - number <= _BITS and bits >> (highest - number - 1) & 1)
        ]
        for number in arrived:
            sent = self._under_way.pop(number)
            if number == highest:
                self._measure(max(answered_s - sent.sent_s, 0.0))
        if not arrived:
            return
        self._silent = 0
        self._window = min(self._window + len(arrived), self._settings.window)
        newest = max(arrived)
        for number in [number for number in self._under_way if number <= newest - _OVERTAKEN]:
            self._lose(number)

    def _measure(self, trip_s: float) -> None:
        if self._smoothed_s is None:
            self._smoothed_s, self._deviation_s = trip_s, trip_s / 2
            return
        self._deviation_s += (abs(self._smoothed_s - trip_s) - self._deviation_s) / 4
        self._smoothed_s += (trip_s - self._smoothed_s) / 8
