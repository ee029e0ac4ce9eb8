"""A framed connection within a WebSocket, for networks that let nothing else through.

| state | until | then |
|---|---|---|
| upgrading | the server's answer to the upgrade | open, or closed |
| open | a close frame, or the end of the transport | closed |

The framed shell is given a transport whose writes become binary messages. Invariant: it hears of its transport once,
and of its end once, also when the upgrade is refused. The core of `websockets` is used, without a socket. Imported when
an address asks for it. Source: RFC 6455; `docs/protocol.md`, "WebSocket".
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

_SUBPROTOCOL: Final = Subprotocol("mcp.v1")
_MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of a binary message that we send; the server sends none that is longer."""
_FRAME_BYTES_MAX: Final = 2 * _MESSAGE_BYTES_MAX
_quiet: Final = logging.getLogger("open_autoglm.websocket_client")
_quiet.setLevel(logging.CRITICAL)


class WebSocketProtocol(asyncio.Protocol):
    """The socket's side of one connection.

    Args:
        inner: the framed shell, or another protocol that takes bytes.
        uri: `ws://host:port/path` or `wss://…`.
    """

    def __init__(self, inner: asyncio.Protocol, uri: str) -> None:
        self._inner = inner
        self.socket = ClientProtocol(
            parse_uri(uri), subprotocols=[_SUBPROTOCOL], max_size=_FRAME_BYTES_MAX, logger=_quiet
        )
        self._transport: asyncio.Transport | None = None
        self._message: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.socket.send_request(self.socket.connect())
        self.pass_on()

    def data_received(self, data: bytes) -> None:
        self.socket.receive_data(data)
        for event in self.socket.events_received():
            if isinstance(event, Response):
                self._upgraded()
            elif isinstance(event, Frame):
                self._take(event)
        self.pass_on()

    def eof_received(self) -> None:
        self.socket.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def pass_on(self) -> None:
        """Write what the WebSocket has to say; close where nothing more will be said."""
        transport = self._transport
        if transport is None:
            return
        if data := b"".join(self.socket.data_to_send()):
            transport.write(data)
        if self.socket.state is State.CLOSED or self.socket.handshake_exc is not None:
            transport.close()

    def _upgraded(self) -> None:
        if self.socket.state is State.OPEN and self._transport is not None:
            self._inner.connection_made(WebSocketTransport(self, self._transport))

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self._message = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._message.append(bytes(frame.data))
        else:
            return
        if frame.fin:
            message, self._message = b"".join(self._message), []
            self._inner.data_received(message)


class WebSocketTransport(asyncio.Transport):
    """Where the framed shell writes: each write is a binary message."""

    def __init__(self, protocol: WebSocketProtocol, transport: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        socket = self._protocol.socket
        if socket.state is State.OPEN:
            for start in range(0, len(data), _MESSAGE_BYTES_MAX):
                socket.send_binary(bytes(data[start : start + _MESSAGE_BYTES_MAX]))
            self._protocol.pass_on()

    def close(self) -> None:
        socket = self._protocol.socket
        if socket.state is State.OPEN:
            socket.send_close()
            self._protocol.pass_on()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
