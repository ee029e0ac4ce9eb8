"""One end of a socket pair between the supervisor and a worker: whole messages in both directions.

Invariant: messages come in the order in which they were sent, each once; what waits to be sent has a limit, beyond
which the other end counts as lost. A length of four bytes, big-endian, stands before each message.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from open_autoglm.server.workers.messages import Message

_LENGTH: Final = struct.Struct(">I")
_READ_BYTES: Final = 256 * 1024
WAITING_BYTES_MAX: Final = 64 << 20
"""More than all that is ever said at once: a configuration, or the answers to a few questions."""


class Channel:
    """See the module.

    Args:
        sock: one end of a stream socket pair; this object's from now on.
        loop: where it is read.
        on_message: called with each message.
        on_lost: called once when the other end is gone, not by `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._on_message = on_message
        self._on_lost = on_lost
        self._kept = bytearray()
        self._waiting = bytearray()
        self.closed = False
        loop.add_reader(sock, self._read)

    def send(self, message: Message) -> None:
        """Send a message; to an end that is lost nothing is sent."""
        if self.closed:
            return
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        was_empty = not self._waiting
        self._waiting += _LENGTH.pack(len(data)) + data
        if was_empty:
            self._write()
            if self._waiting and not self.closed:
                self._loop.add_writer(self._sock, self._write)
        elif len(self._waiting) > WAITING_BYTES_MAX:
            self._lose()

    def close(self) -> None:
        """Hear and say nothing more."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._waiting)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        del self._waiting[:sent]
        if not self._waiting:
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        kept = self._kept
        kept += data
        while not self.closed and len(kept) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(kept)[0]
            if len(kept) < end:
                return
            data = bytes(kept[_LENGTH.size : end])
            del kept[:end]
            # Written by this program, at the other end of a pair that it has made itself.
            self._on_message(cast(Message, pickle.loads(data)))  # noqa: S301

    def _lose(self) -> None:
        self.close()
        self._on_lost()
