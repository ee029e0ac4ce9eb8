"""A transport without a socket: it keeps what is written, and the far end does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class FakeTransport(asyncio.Transport):
    """The near end of a connection.

    Args:
        protocol: told of everything, as asyncio would.
        window: bytes that the far end takes unasked; what is written beyond waits in the buffer.
        address: of the far end.
        half_close: whether one side can be closed alone, as TCP can and TLS cannot.

    Attributes:
        sent: what has reached the far end.
        closing, aborted, eof_sent: what the protocol has asked for.
        reading: the protocol wants to be fed.
        lost: `connection_lost` was called.
    """

    def __init__(
        self, protocol: asyncio.Protocol, *, window: int = 1 << 60, half_close: bool = True, address: str = "192.0.2.7"
    ) -> None:
        super().__init__()
        self._address = address
        self.protocol = protocol
        self.sent = bytearray()
        self.closing = self.aborted = self.eof_sent = self.lost = False
        self.reading = True
        self._window = window
        self._half_close = half_close
        self._buffer = bytearray()
        self._high = 64 * 1024
        self._paused = False

    # The protocol calls these.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.eof_sent, "nothing can be written after the end"
        if self.closing:
            return
        self._buffer += data
        self._flow()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._half_close

    def write_eof(self) -> None:
        self.eof_sent = True

    def close(self) -> None:
        self.closing = True
        self.reading = False

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.reading = False
        self._buffer.clear()

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._address, 5000) if name == "peername" else default

    # A test calls these.

    def feed(self, data: bytes) -> bool:
        """Let bytes arrive; False when the protocol does not read."""
        if not self.reading or self.lost:
            return False
        self.protocol.data_received(data)
        return True

    def take(self, size: int) -> None:
        """The far end reads so many bytes more."""
        self._window += size
        self._flow()

    def end(self) -> None:
        """The far end closes its side; the protocol's transport closes itself."""
        if self.reading and not self.lost:
            self.protocol.eof_received()
            self.closing = True

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = self.closing = True
            self.reading = False
            self.protocol.connection_lost(error)

    def settle(self) -> None:
        """Do what a loop does next: a closed transport whose buffer is empty is lost."""
        if self.closing and not self._buffer:
            self.lose()

    def _flow(self) -> None:
        if self.aborted:
            return
        size = min(self._window, len(self._buffer))
        self.sent += self._buffer[:size]
        del self._buffer[:size]
        self._window -= size
        if not self._paused and len(self._buffer) > self._high:
            self._paused = True
            self.protocol.pause_writing()
        elif self._paused and len(self._buffer) <= self._high // 4:
            self._paused = False
            self.protocol.resume_writing()
