"""Streams that outlive their connection: a ring of the last chunks of each, and the store that finds it by its token.

A ring keeps the last 64 KiB of chunks and how the stream ended. It is kept while the stream runs on a connection, and
for 60 s after it has lost that or has ended; whoever resumes must be the one who asked. Invariant: the chunks in a ring
are those from `first` to `next` without a gap; the store never holds more bytes than its limit.
Source: `docs/protocol.md`, "Resume".
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from open_autoglm.protocol.resuming_connection import ResumingConnection

RING_BYTES_MAX: Final = 64 * 1024
END_BYTES_MAX: Final = 256 * 1024
"""An answer whose end is longer is not kept."""
KEPT_S: Final = 60.0

_Chunk = tuple[int, int, bytes]
_End = tuple[int, int, int, int, bytes]
Carrier = tuple["ResumingConnection", int]


class Ring:
    """See the module. Made by `ResumeStore.open`.

    Attributes:
        owner: whoever asked, as the role calls them.
        key: token of the connection that carries the stream, and its number there.
        producer: connection and stream number whose role writes it.
        carrier: connection and stream number that it goes out on; None while it has none.
        codec: of the bodies.
        chunks: flags, choice and text of each, oldest first.
        first: number of the oldest chunk that is kept.
        next: number of the next chunk.
        end: opcode, flags, aux, arg and payload of what ended it.
        ended: nothing more will come.
        expires_s: from when on it is forgotten; infinite until the store has seen that it has ended or been lost.
        forgotten: nothing is kept any more.
    """

    __slots__ = (
        "_store",
        "carrier",
        "chunks",
        "codec",
        "end",
        "ended",
        "expires_s",
        "first",
        "forgotten",
        "key",
        "next",
        "owner",
        "producer",
        "size",
    )

    def __init__(self, store: ResumeStore, key: tuple[str, int], owner: str, producer: Carrier) -> None:
        self._store = store
        self.key = key
        self.owner = owner
        self.producer = producer
        self.carrier: Carrier | None = producer
        self.codec = ""
        self.chunks: deque[_Chunk] = deque()
        self.first = 0
        self.next = 0
        self.end: _End | None = None
        self.ended = False
        self.forgotten = False
        self.expires_s = inf
        self.size = 0

    def append(self, flags: int, choice: int, text: bytes) -> None:
        """Keep a chunk; the oldest go where there is no room."""
        if self.forgotten:
            return
        self.chunks.append((flags, choice, text))
        self.next += 1
        self._grow(len(text))
        while self.chunks and (self.size > RING_BYTES_MAX or self._store.size > self._store.bytes_max):
            self.first += 1
            self._grow(-len(self.chunks.popleft()[2]))

    def close(self, end: _End) -> None:
        """Keep how the stream ended, unless that is too long: then nothing is left to go on with."""
        self.ended = True
        size = len(end[4])
        if self.forgotten:
            return
        if size > END_BYTES_MAX or self._store.size + size > self._store.bytes_max:
            self._store.forget(self)
            return
        self.end = end
        self._grow(size)

    def since(self, seq: int) -> list[_Chunk] | None:
        """Chunks from a number on; None when one of them is gone or none has that number yet."""
        if not self.first <= seq <= self.next:
            return None
        return list(self.chunks)[seq - self.first :]

    def _grow(self, size: int) -> None:
        self.size += size
        self._store.size += size


class ResumeStore:
    """Finds the rings of a server's connections.

    Args:
        streams_max: how many streams are kept; the others are ordinary ones.
        bytes_max: of all chunks and ends together.

    Attributes:
        size: bytes that are kept.
    """

    def __init__(self, streams_max: int = 4096, bytes_max: int = 64 << 20) -> None:
        self.streams_max = streams_max
        self.bytes_max = bytes_max
        self.size = 0
        self._rings: dict[tuple[str, int], Ring] = {}

    def __len__(self) -> int:
        return len(self._rings)

    def open(self, key: tuple[str, int], owner: str, producer: Carrier) -> Ring | None:
        """A ring for a new stream, or None where there are too many."""
        if len(self._rings) >= self.streams_max:
            return None
        ring = self._rings[key] = Ring(self, key, owner, producer)
        return ring

    def find(self, key: tuple[str, int], owner: str) -> Ring | None:
        """The ring of a stream, for whoever asked for it."""
        ring = self._rings.get(key)
        return ring if ring is not None and ring.owner == owner else None

    def move(self, ring: Ring, key: tuple[str, int]) -> None:
        """Another connection goes on with a stream."""
        self._rings.pop(ring.key, None)
        ring.key = key
        self._rings[key] = ring

    def forget(self, ring: Ring) -> None:
        """Drop a ring."""
        if self._rings.get(ring.key) is ring:
            del self._rings[ring.key]
            self.size -= ring.size
            ring.size = 0
            ring.chunks.clear()
            ring.end = None
            ring.forgotten = True

    def expire(self, now_s: float) -> int:
        """Forget what was not asked for in time, cancel what still runs for nobody, and say how many these were.

        Call it about once a second: the time that is left to a stream begins with the first call after its end or loss.
        """
        for ring in self._rings.values():
            if ring.expires_s == inf and (ring.ended or ring.carrier is None):
                ring.expires_s = now_s + KEPT_S
        due = [ring for ring in self._rings.values() if ring.expires_s <= now_s]
        for ring in due:
            self.forget(ring)
            if not ring.ended:
                connection, stream = ring.producer
                connection.abandon(stream)
        return len(due)
