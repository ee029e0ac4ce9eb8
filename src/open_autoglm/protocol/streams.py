"""What a connection keeps of a stream beside its being open; a plain request and its answer need none of it.

Invariant: `credit` and `room` are never below zero. `ABSENT` stands for every stream that is not open: its figures are
such that no frame is the next one of it, so that whoever has looked a stream up need not ask whether it was there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from open_autoglm.protocol.errors import ProtocolError

if TYPE_CHECKING:
    from open_autoglm.protocol.resume import Ring


class Stream:
    """See the module.

    Args:
        credit: bytes of chunks that the peer takes.
        window: bytes of chunks that we take.

    Attributes:
        asked: the request has come whole.
        seq: number of the next chunk that we send.
        waiting: frames that wait for credit: cost and owed bytes of each, and the frame. None until one had to wait.
        waiting_bytes: chunk bytes in `waiting`.
        ended: nothing is sent after what waits.
        ring: what a resumption may ask for; None when the stream is not resumable.
        room: bytes of chunks that the peer may still send.
        expected: number of the next chunk that the peer sends.
        consumed: bytes of chunks that were taken and are not given back as credit yet.
        fragments: the message that is not whole yet, and the opcode of its frames.
    """

    __slots__ = (
        "asked",
        "consumed",
        "credit",
        "ended",
        "expected",
        "fragments",
        "fragments_opcode",
        "ring",
        "room",
        "seq",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, credit: int, window: int) -> None:
        self.asked = True
        self.credit = credit
        self.seq = 0
        self.waiting: deque[tuple[int, int, bytes]] | None = None
        self.waiting_bytes = 0
        self.ended = False
        self.ring: Ring | None = None
        self.room = window
        self.expected = 0
        self.consumed = 0
        self.fragments: bytearray | None = None
        self.fragments_opcode = 0

    def received(self, seq: int, size: int) -> None:
        """Count a chunk that the peer has sent.

        Raises:
            ProtocolError: `invalid_request`: it is not the next one, or longer than the credit that was given.
        """
        if seq != self.expected:
            raise ProtocolError("invalid_request", f"chunk {seq} came: {self.expected} is the next one")
        if size > self.room:
            raise ProtocolError("invalid_request", f"a chunk of {size} bytes: the credit is {self.room}")
        self.expected = seq + 1
        self.room -= size


ABSENT: Final = Stream(-1, -1)
ABSENT.expected = -1


def pieces_of(text: bytes, size_max: int) -> list[bytes]:
    """Cut UTF-8 into pieces of whole characters.

    Args:
        text: any bytes; what is not UTF-8 is cut somewhere.
        size_max: bytes of a piece, at least 4.
    """
    pieces = []
    start = 0
    while len(text) - start > size_max:
        end = start + size_max
        # At most three bytes of a character follow its first one.
        for back in range(4):
            if text[end - back] & 0xC0 != 0x80:
                end -= back
                break
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces
