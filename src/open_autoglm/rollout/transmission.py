"""The sending half of a parameter update: what to send next, and when.

| state | means | next |
|---|---|---|
| offering | the offer is out, no state came back yet | sending, ended |
| sending | chunks flow, no more of them on the way than the receiver allows | verifying, offering (line cut), ended |
| verifying | the receiver has everything | offering (line cut), ended |
| ended | `outcome` says how | – |

Invariant: at most `window` chunks are on their way, and in any time t no more than `burst + rate * t` bytes leave. The
receiver's word is what counts: a chunk that it calls missing is sent again, one that it has never is. Silence is
answered by the offer, again and again up to a limit; a receiver that knows the update answers with what it lacks. While
the throttle alone holds the next chunk up, and none is on its way, there is nothing to be heard and no silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from open_autoglm.rollout.chunks import Range
from open_autoglm.rollout.delta import ChunkSource

SILENCE_S: Final = 5.0
"""How long nothing may be heard before the offer is repeated, seconds."""

TRIES_MAX: Final = 10
"""Offers in a row without any progress after which an update ends as `lost`."""

WINDOW_MAX: Final = 64

State = Literal["offering", "sending", "verifying", "ended"]


class Throttle(Protocol):
    """Limits bytes per second; `resilience.token_bucket.TokenBucket` is one."""

    def take(self, now_s: float, cost: float) -> float:
        """0.0 when `cost` bytes may leave now, else the seconds until they may."""
        ...


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What UPDATE_STATE carries.

    Attributes:
        received: chunks that are there.
        missing: the first 64 ranges of those that are not; empty when all are there.
        window: chunks that may be on their way.
        damaged: chunks that came damaged so far.
    """

    received: int
    missing: list[Range]
    window: int
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class SendOffer:
    """Effect: send UPDATE_BEGIN."""


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Effect: send UPDATE_CHUNK."""

    index: int
    codec: int
    payload: bytes


Effect = SendOffer | SendChunk


class Transmission:
    """See the module.

    Args:
        source: the chunks.
        throttle: what limits the bytes; its burst holds the largest chunk.
    """

    def __init__(self, source: ChunkSource, throttle: Throttle) -> None:
        self._source = source
        self._throttle = throttle
        self.state: State = "offering"
        self.outcome = ""
        self.bytes_sent = 0
        self.chunks_sent = 0
        self._queue: deque[int] = deque()
        self._on_way: dict[int, None] = {}  # in the order in which they left
        self._window = 1
        self._received = -1
        self._damaged = 0
        self._tries = 0
        self._heard_s = 0.0
        self._ready_s = 0.0
        self._next: SendChunk | None = None

    def start(self, now_s: float) -> list[Effect]:
        """Begin, or begin again after the line was cut."""
        if self.state == "ended":
            return []
        self.state = "offering"
        self._on_way.clear()
        self._queue.clear()
        self._next = None
        return self._offer(now_s)

    def progress(self, told: Progress, now_s: float) -> list[Effect]:
        """The receiver says what it has."""
        if self.state == "ended" or (self.state != "offering" and told.received < self._received):
            return []  # over, or overtaken by a newer word
        if told.received > self._received:
            self._received = told.received
            self._tries = 0
        self._heard_s = now_s
        self._window = max(1, min(told.window, WINDOW_MAX))
        wanted = self._wanted(told.missing)
        if not wanted:
            self.state = "verifying"
            self._on_way.clear()
            self._queue.clear()
            self._next = None
            return []
        if self.state == "offering":
            self._on_way.clear()
        self.state = "sending"
        for _ in range(min(told.damaged - self._damaged, len(self._on_way))):
            del self._on_way[next(iter(self._on_way))]  # on a line that keeps the order it is the oldest
        self._damaged = told.damaged
        still = set(wanted)
        self._on_way = {index: None for index in self._on_way if index in still}
        self._queue = deque(index for index in wanted if index not in self._on_way)
        if self._next is not None and self._next.index not in still:
            self._next = None
        return self._send(now_s)

    def end(self, outcome: str) -> None:
        """The receiver said how it ended, or the owner gives up."""
        if self.state != "ended":
            self.state = "ended"
            self.outcome = outcome

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is due, monotonic seconds; None when never."""
        if self.state == "ended":
            return None
        silence_s = self._heard_s + SILENCE_S
        if not self._has_room():
            return silence_s
        return min(silence_s, self._ready_s) if self._on_way else self._ready_s

    def handle_timeout(self, now_s: float) -> list[Effect]:
        """Due work: what the throttle held up, or the offer once more."""
        if self.state == "ended":
            return []
        if now_s >= self._heard_s + SILENCE_S and (self._on_way or not self._has_room()):
            return self._offer(now_s)
        return self._send(now_s)

    def _has_room(self) -> bool:
        more = self._next is not None or bool(self._queue)
        return self.state == "sending" and more and len(self._on_way) < self._window

    def _wanted(self, missing: Collection[Range]) -> list[int]:
        """Missing chunks, each checked against what there is."""
        count = self._source.plan.count
        return [index for first, size in missing for index in range(max(first, 0), min(first + size, count))]

    def _offer(self, now_s: float) -> list[Effect]:
        self._heard_s = now_s
        self._tries += 1
        if self._tries > TRIES_MAX:
            self.end("lost")
            return []
        self.state = "offering"
        return [SendOffer()]

    def _send(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._has_room() and now_s >= self._ready_s:
            chunk = self._next
            if chunk is None:
                index = self._queue.popleft()
                chunk = self._next = SendChunk(index, *self._source.encoded(index))
            wait_s = self._throttle.take(now_s, len(chunk.payload))
            if wait_s > 0.0:
                self._ready_s = now_s + wait_s
                break
            self._next = None
            if not self._on_way:
                self._heard_s = now_s  # from now on an answer is due
            self._on_way[chunk.index] = None
            self.bytes_sent += len(chunk.payload)
            self.chunks_sent += 1
            effects.append(chunk)
        return effects
