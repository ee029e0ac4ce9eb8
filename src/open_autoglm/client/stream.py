"""An answer that is read as it comes: its text in pieces, and then the whole of it.

The reader does all the work, in its own task: it sends the request when it first reads, and goes on over the next
connection when it has taken what came over the one that was lost. Whoever leaves before the end gives the answer up:
by `aclose`, at the end of `async with`, or by dropping the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from open_autoglm import clock
from open_autoglm.client.answer import Answer
from open_autoglm.client.failures import LostError, late
from open_autoglm.client.pool import Pool, Send
from open_autoglm.client.reception import Reception
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE
from open_autoglm.transport.framed_session import FramedSession

RESENDS_MAX: Final = 2
"""Of a request whose connection was lost before anything of its answer had come."""


class AnswerStream:
    """See the module. Made by `AsyncClient.stream`; iterates over pieces of text.

    Args:
        pool: connections to whoever answers.
        payload, flags, timeout_s: of the request; its time runs from now on.
        trace: its trace id, 16 bytes.
        otherwise: asked when there is an error and no content yet; returns who is to be asked then, or None.
        resends: how often the request may be sent again when its connection was lost and no content has come.

    Attributes:
        trace_id: 32 hexadecimal digits; `autoglm trace` finds the request by it.
    """

    __slots__ = (
        "_answer",
        "_flags",
        "_loop",
        "_otherwise",
        "_payload",
        "_pool",
        "_reception",
        "_resends",
        "_sent",
        "_timeout_s",
        "_trace",
    )

    def __init__(
        self,
        pool: Pool,
        payload: bytes,
        flags: int,
        *,
        timeout_s: float,
        trace: bytes,
        otherwise: Callable[[AutoGLMError], Awaitable[Pool | None]] | None = None,
        resends: int = RESENDS_MAX,
    ) -> None:
        self._pool = pool
        self._otherwise = otherwise
        self._resends = 0 if flags & NO_RETRY else resends
        self._payload = payload
        self._flags = flags
        self._trace = trace
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        until_s = clock.monotonic() + timeout_s
        self._reception = Reception(self._loop, pool.codec, until_s, timeout_s, resumable=bool(flags & RESUMABLE))
        self._sent = False
        self._answer: Answer | None = None

    @property
    def trace_id(self) -> str:
        """See the class."""
        return self._trace.hex()

    @property
    def answer(self) -> Answer:
        """The whole answer, once the last piece was read.

        Raises:
            RequestError: `invalid_request`: it was not.
        """
        if self._answer is None:
            raise RequestError("invalid_request", "the answer is whole when the stream has been read to its end")
        return self._answer

    @property
    def reasoning(self) -> str:
        """The model's thinking so far, where it shows it."""
        return "".join(self._reception.reasoning)

    async def whole(self) -> Answer:
        """Read to the end.

        Raises:
            AutoGLMError: see `__anext__`.
        """
        async for _ in self:
            pass
        return self.answer

    async def aclose(self) -> None:
        """Give up what has not come yet. The server is told."""
        self._give_up()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """All the text that has come since the last piece, at least one character.

        Raises:
            StopAsyncIteration: that was all.
            AutoGLMError: there is no more of the answer, and why; what was read is not the whole.
        """
        reception = self._reception
        try:
            while True:
                text = reception.take()
                if text:
                    return text
                if reception.over:
                    if await self._begins_anew():
                        reception = self._reception
                        continue
                    self._finish()
                    raise StopAsyncIteration
                if not self._sent:
                    await self._begin()
                elif reception.lost:
                    await self._place(self._resume)
                else:
                    await reception.wait()
        except (AutoGLMError, asyncio.CancelledError):
            self._give_up()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up()

    def __del__(self) -> None:
        # Whoever drops a stream in the middle may do so in another thread, or when the loop is gone.
        if self._sent and not self._reception.over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reception.cancel, _left())

    async def _begin(self) -> None:
        """Send the request, elsewhere when it cannot go where it was meant to."""
        try:
            await self._place(self._send)
        except AutoGLMError as error:
            pool = await self._otherwise(error) if self._otherwise is not None else None
            if pool is None:
                raise
            self._otherwise = None
            self._pool = pool
            await self._place(self._send)
        self._sent = True

    async def _begins_anew(self) -> bool:
        """Whether the stream, of which nothing has come yet, begins anew, elsewhere or here."""
        before = self._reception
        error, otherwise = before.error, self._otherwise
        if error is None or before.text or before.reasoning:
            return False
        if otherwise is not None:
            pool = await otherwise(error)
            if pool is None:
                return False
            self._otherwise = None
            self._pool = pool
        elif self._resends and isinstance(error, LostError):
            self._resends -= 1
        else:
            return False
        resumable = bool(self._flags & RESUMABLE)
        self._reception = Reception(self._loop, self._pool.codec, before.until_s, self._timeout_s, resumable=resumable)
        self._sent = False
        return True

    def _finish(self) -> None:
        """Make the answer of what has come."""
        reception = self._reception
        if reception.error is not None:
            raise reception.error
        if self._answer is None and reception.payload is not None:
            text, reasoning = "".join(reception.text), "".join(reception.reasoning)
            self._answer = self._pool.answers.read(reception.payload, self._trace, text, reasoning)
            if self._pool.waiting:
                self._pool.wake()

    def _give_up(self) -> None:
        if not self._reception.over:
            self._reception.cancel(_left())
            self._pool.wake()

    async def _place(self, send: Send) -> None:
        until_s = self._reception.until_s
        session, stream = await self._pool.place(send, until_s)
        self._reception.placed(session, stream)

    def _send(self, session: FramedSession) -> int:
        remaining_s = self._reception.until_s - clock.monotonic()
        if remaining_s <= 0:
            raise late(self._timeout_s)
        return session.request(self._reception, self._payload, self._flags, max(1, int(remaining_s * 1000)))

    def _resume(self, session: FramedSession) -> int:
        reception = self._reception
        token, number = reception.places[-1]
        stream = session.connection.resume(token, number, reception.next_seq)
        if stream:
            session.handlers[stream] = reception
        return stream


def _left() -> RequestError:
    return RequestError("client_closed", "the stream was left before its end")
