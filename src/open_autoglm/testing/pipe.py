"""One end of a connection on the virtual network: a transport of asyncio.

What is written is cut into pieces, each of which arrives at the other end after a delay of its own, never before the
one that was written earlier. Invariants: what the other end has not read counts against its window, and what does not
fit there stays in the writer's buffer, which pauses the protocol above its high mark; `connection_lost` comes once,
and nothing after it.

| an end is | it reads | it writes |
|---|---|---|
| open | bytes, then perhaps the end of the other's | bytes |
| half closed (`write_eof`) | bytes | nothing more |
| closing (`close`) | nothing more | what is in its buffer |
| lost | nothing: bytes that still come are answered with a reset | nothing |
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from open_autoglm.testing.network import Host, Network

_HIGH_BYTES = 65_536
_LEAST_S = 1e-6
"""Between two pieces of one connection: they must not change places."""

_Mark = Literal["eof", "reset"]


class PipeEnd(asyncio.Transport):
    """See the module.

    Attributes:
        host, port: where it is.
        peer: the other end.
        lost: whether `connection_lost` was or is about to be called.
        sent_bytes: handed to the network so far.
    """

    def __init__(self, network: Network, host: Host, port: int, context: Context) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self.peer: PipeEnd
        self.lost = False
        self.sent_bytes = 0
        self._network = network
        self._loop = network.loop
        self._context = context
        self._protocol: asyncio.Protocol | None = None
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None
        self._inbox: deque[bytes | _Mark] = deque()
        self._outbox: deque[bytes] = deque()
        self._unsent = 0
        self._unread = 0
        self._arrives_s = 0.0
        self._reading = True
        self._closing = self._eof_written = self._eof_sent = self._broken = False
        self._write_paused = False
        self.set_write_buffer_limits()

    def __repr__(self) -> str:
        return f"<PipeEnd {self.host.name}:{self.port} to {self.peer.host.name}:{self.peer.port}>"

    # Beginning.

    def adopt(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the end its protocol, which hears of it at once."""
        self._protocol = protocol  # type: ignore[assignment]  # as asyncio's own transports: whatever was made
        protocol.connection_made(self)
        self.wake()

    def accept_later(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Make the protocol as soon as the host's processes run."""
        self._factory = factory
        self._loop.call_later(self._network.delay_s(), self._accept, context=self._context)

    def _accept(self) -> None:
        if self._factory is not None and not self.host.frozen and not self.lost:
            factory, self._factory = self._factory, None
            self.adopt(factory())

    # What the network calls.

    def wake(self) -> None:
        """Something that held bytes back may be over."""
        if not self.lost:
            self._loop.call_soon(self._go_on, context=self._context)

    def break_off(self) -> None:
        """Reset the connection: both ends lose it."""
        self._lose(ConnectionResetError(104, "connection reset"), "reset")

    def _go_on(self) -> None:
        if self._factory is not None:
            self._accept()
        self._send()
        self._deliver()

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("write after write_eof")
        if not data or self._closing or self.lost:
            return
        if self._broken:
            self._lose(ConnectionResetError(104, "connection reset"), None)
            return
        self._outbox.append(bytes(data))
        self._unsent += len(data)
        self._send()
        if self._unsent > self._high and not self._write_paused:
            self._write_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._eof_written and not self._closing and not self.lost:
            self._eof_written = True
            self._send()

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else (4 * low if low is not None else _HIGH_BYTES)
        self._low = low if low is not None else self._high // 4

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def _send(self) -> None:
        """Hand to the network what the other side's window takes."""
        if self.host.frozen or self.lost:
            return
        outbox, peer = self._outbox, self.peer
        window = self._network.link.window_bytes
        while outbox and peer._unread < window:
            data = outbox.popleft()
            room = window - peer._unread
            if len(data) > room:
                outbox.appendleft(data[room:])
                data = data[:room]
            self._unsent -= len(data)
            peer._unread += len(data)
            self.sent_bytes += len(data)
            for piece in self._network.pieces(data):
                self._post(piece)
        if not outbox:
            if self._closing:
                self._lose(None, "reset" if self._inbox and isinstance(self._inbox[0], bytes) else "eof")
            elif self._eof_written and not self._eof_sent:
                self._eof_sent = True
                self._post("eof")

    def _post(self, item: bytes | _Mark) -> None:
        loop = self._loop
        self._arrives_s = max(self._arrives_s + _LEAST_S, loop.time() + self._network.delay_s())
        loop.call_at(self._arrives_s, self.peer._arrive, item, context=self.peer._context)

    def _window_opened(self) -> None:
        self._send()
        if self._write_paused and self._unsent <= self._low and not self.lost:
            self._write_paused = False
            assert self._protocol is not None
            self._protocol.resume_writing()

    # Reading.

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.wake()

    def _arrive(self, item: bytes | _Mark) -> None:
        if self.lost:
            if isinstance(item, bytes) and not self.peer.lost:
                self._post("reset")
            return
        self._inbox.append(item)
        if item == "reset":
            self._broken = True
            if self._closing:
                self._lose(ConnectionResetError(104, "connection reset by peer"), None)
        self._deliver()

    def _deliver(self) -> None:
        """Give the protocol what has arrived."""
        inbox = self._inbox
        while inbox and self._reading and not self._closing and self._protocol is not None and not self.lost:
            if self.host.frozen or self._network.blocked(self.peer.host, self.host):
                return
            item = inbox.popleft()
            if item == "reset":
                self._lose(ConnectionResetError(104, "connection reset by peer"), None)
            elif item == "eof":
                if not self._protocol.eof_received():
                    self.close()
            else:
                assert isinstance(item, bytes)
                self._unread -= len(item)
                self._protocol.data_received(item)
                if self.peer._outbox or self.peer._write_paused:
                    self._loop.call_soon(self.peer._window_opened, context=self.peer._context)

    # Ending.

    def is_closing(self) -> bool:
        return self._closing or self.lost

    def close(self) -> None:
        if not self._closing and not self.lost:
            self._closing = True
            self._send()

    def abort(self) -> None:
        self._closing = True
        self._lose(None, "reset")

    def _lose(self, error: Exception | None, told: _Mark | None) -> None:
        """End this side; the other one is told, unless it knows."""
        if self.lost:
            return
        self.lost = True
        self.host.ends.pop(self, None)
        self._outbox.clear()
        self._inbox.clear()
        self._unsent = 0
        if told is not None and not (told == "eof" and self._eof_sent):
            self._post(told)
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)

    # Facts.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self.peer.host.address, self.peer.port
        if name == "sockname":
            return self.host.address, self.port
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol


def join(one: PipeEnd, other: PipeEnd) -> None:
    """Make two ends one connection."""
    one.peer, other.peer = other, one
    one.host.ends[one] = other.host.ends[other] = None
