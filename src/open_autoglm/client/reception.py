"""One answer as it comes in: text that its reader has not taken yet, and where to go on when the connection is lost.

| state | until | then |
|---|---|---|
| running | the response, an error | over |
| running | the connection is lost | lost |
| lost | the reader has resumed it, or cannot | running, over |

A resumption that was sent and not answered may have been carried out or not: the stream is then looked for where it
would be now, and after that where it was. Invariant: chunks are taken in order and once; text that waits is bounded by
the window, because credit is given back when it is taken, and nothing is resumed before everything was.
"""

from __future__ import annotations

import asyncio
from typing import Final

from open_autoglm.client.failures import late, lost, read_failure
from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.opcodes import REASONING
from open_autoglm.transport.framed_session import FramedSession

ANSWER_BYTES_MAX: Final = 64 << 20
"""A stream that is longer is given up; all of its text is kept for the answer."""
_LOSSES_MAX: Final = 16
"""Connections that a stream may lose without one more chunk between them."""


class Reception:
    """See the module; a `client.pool.Caller`.

    Args:
        loop: of the reader.
        codec: of bodies.
        until_s: monotonic seconds.
        timeout_s: how long that was, for the error.
        resumable: whether the server was asked to keep the stream.

    Attributes:
        lost: the connection is lost; see the table.
        places: token and number under which the server may know the stream, the likeliest last.
        next_seq: number of the chunk that comes next.
        payload: of the response.
        error: why there is none.
        text, reasoning: pieces that have come, all of them.
    """

    __slots__ = (
        "_codec",
        "_loop",
        "_losses",
        "_resumable",
        "_session",
        "_size",
        "_stream",
        "_taken",
        "_timeout_s",
        "_untaken_bytes",
        "_waiter",
        "error",
        "lost",
        "next_seq",
        "payload",
        "places",
        "reasoning",
        "text",
        "until_s",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, codec: Codec, until_s: float, timeout_s: float, *, resumable: bool
    ) -> None:
        self._loop = loop
        self._codec = codec
        self.until_s = until_s
        self._timeout_s = timeout_s
        self._resumable = resumable
        self._session: FramedSession | None = None
        self._stream = 0
        self._waiter: asyncio.Future[None] | None = None
        self._taken = 0  # of the pieces of text
        self._untaken_bytes = 0
        self._size = 0
        self._losses = 0
        self.lost = False
        self.places: list[tuple[str, int]] = []
        self.next_seq = 0
        self.payload: bytes | None = None
        self.error: AutoGLMError | None = None
        self.text: list[str] = []
        self.reasoning: list[str] = []

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.payload is not None or self.error is not None

    # The reader calls these.

    def placed(self, session: FramedSession, stream: int) -> None:
        """The request, or its resumption, was sent."""
        self._session = session
        self._stream = stream
        self.lost = False
        welcome = session.connection.welcome
        self.places.append((welcome.resume if welcome is not None else "", stream))

    def take(self) -> str:
        """All the text that has come since the last call; the server may send as much again."""
        if self._taken == len(self.text):
            return ""
        pieces = self.text[self._taken :]
        self._taken = len(self.text)
        size, self._untaken_bytes = self._untaken_bytes, 0
        if self._session is not None and not self.over and not self.lost:
            self._session.consume(self._stream, size)
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    async def wait(self) -> None:
        """Wait until something has come or happened."""
        if self._waiter is not None:
            raise RuntimeError("one reader at a time")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def cancel(self, error: AutoGLMError) -> None:
        """Nobody wants the rest, nor what waits to be taken."""
        if not self.over:
            self._taken = len(self.text)
            session, self._session = self._session, None
            if session is not None:
                session.cancel(self._stream)
            self._end(error)

    # The connection calls these.

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        self.payload = payload
        self._session = None
        self._wake()

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        self.next_seq = seq + 1
        if len(self.places) > 1:
            del self.places[:-1]
        self._losses = 0
        size = len(payload)
        self._size += size
        if self._size > ANSWER_BYTES_MAX:
            self.cancel(UpstreamError("upstream_error", f"the answer is longer than {ANSWER_BYTES_MAX} bytes"))
        elif flags & REASONING or choice:
            if not choice:
                self.reasoning.append(payload.decode("utf-8", "replace"))
            if self._session is not None:
                self._session.consume(self._stream, size)
        else:
            self.text.append(payload.decode("utf-8", "replace"))
            self._untaken_bytes += size
            self._wake()

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        error = read_failure(self._codec, status, flags, retry_after_ms, payload)
        if len(self.places) > 1 and error.code == "not_found":
            # Neither under the number of this resumption nor under the one that it named is there anything.
            del self.places[-2:]
            if self.places:
                self._lose()
                return
            error = lost(f"the server cannot go on with it: {error.message}")
        self._end(error)

    def on_lost(self, detail: str) -> None:
        self._losses += 1
        if self._resumable and self._losses <= _LOSSES_MAX and self.places[-1][0] and self._session is not None:
            self._lose()
        else:
            self._end(lost(detail))

    def expire(self) -> None:
        self._end(late(self._timeout_s))

    def _lose(self) -> None:
        self._session = None
        self.lost = True
        self._wake()

    def _end(self, error: AutoGLMError) -> None:
        self.error = error
        self._session = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
