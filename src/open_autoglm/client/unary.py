"""A request whose whole answer comes at once."""

from __future__ import annotations

import asyncio

from open_autoglm.client.failures import late, lost, read_failure
from open_autoglm.protocol.codecs import Codec


class PendingAnswer:
    """Waits for one response; see `client.pool.Caller`.

    Args:
        future: gets the response's payload, or the error.
        codec: of bodies.
        until_s: monotonic seconds.
        timeout_s: how long that was, for the error.
    """

    __slots__ = ("_codec", "_timeout_s", "future", "until_s")

    def __init__(self, future: asyncio.Future[bytes], codec: Codec, until_s: float, timeout_s: float) -> None:
        self.future = future
        self._codec = codec
        self.until_s = until_s
        self._timeout_s = timeout_s

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        future = self.future
        if not future.done():
            future.set_result(payload)

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """Nobody asked for chunks; those that come all the same are few, as nothing is consumed."""

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self._fail(read_failure(self._codec, status, flags, retry_after_ms, payload))

    def on_lost(self, detail: str) -> None:
        self._fail(lost(detail))

    def expire(self) -> None:
        self._fail(late(self._timeout_s))

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
