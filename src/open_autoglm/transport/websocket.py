"""WebSocket on the data listener: binary messages are pieces of a framed connection, text messages are JSON.

The core of `websockets` reads and writes WebSocket's own frames, without a socket; the upgrade's head was read by our
HTTP shell. Imported when the first client asks for an upgrade. Source: RFC 6455; `docs/protocol.md`, "WebSocket".

| a connection is | after | it is ended by |
|---|---|---|
| new | the upgrade | a message within 10 s that does not come |
| framed | a binary message | the framed protocol's own timers |
| text | a text message | silence after a ping |

Invariant: no message of a client is kept that is longer than the limits of this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from open_autoglm import clock
from open_autoglm.transport.framed_server import FramedServer, ServedShell

if TYPE_CHECKING:
    from open_autoglm.transport.http_connection import HttpConnection
    from open_autoglm.transport.http_request import ServerRequest

SUBPROTOCOL: Final = Subprotocol("mcp.v1")
_MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of a binary message that we send."""
_FRAME_BYTES_MAX: Final = _MESSAGE_BYTES_MAX + 1024
"""Of one WebSocket frame that we take: a whole frame of ours with its header fits in."""
_FIRST_MESSAGE_S: Final = 10.0
_SILENCE_S: Final = 15.0
"""Until a client of text messages is asked whether it is there; after twice that it is closed."""
_quiet: Final = logging.getLogger("open_autoglm.websocket")
_quiet.setLevel(logging.CRITICAL)
_HANDSHAKE_HEADERS: Final = ("host", "origin", "sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version")


class TextOwner(Protocol):
    """Who takes text messages."""

    def show(self, key: str | None) -> None:
        """The upgrade's head showed a key, or none."""

    def running(self) -> tuple[int, int]:
        """How many requests are answered in one piece, and how many in pieces."""

    def on_text(self, payload: bytes, send_text: Callable[[bytes], None]) -> None:
        """One message in JSON; its answers go to `send_text`."""


def upgrade(server: FramedServer, connection: HttpConnection, request: ServerRequest, rest: bytes) -> bool:
    """Make a WebSocket of a connection whose head asks for one, or refuse that.

    Args:
        server: of framed connections.
        connection, request: what has come.
        rest: bytes that followed the head.

    Returns:
        True: the connection is no longer HTTP's.
    """
    headers = {name: request.headers.get(name, b"").decode("latin-1") for name in _HANDSHAKE_HEADERS}
    asked = Headers({name: value for name, value in headers.items() if value})
    asked["connection"] = asked["upgrade"] = "websocket"
    asked["connection"] = "upgrade"
    host = headers["host"]
    # Browsers say where a page came from; only our own pages may speak for whoever looks at them.
    own = [None, Origin(f"http://{host}"), Origin(f"https://{host}")]
    handshake = ServerProtocol(origins=own, subprotocols=[SUBPROTOCOL], logger=_quiet)
    response = handshake.accept(Request(request.target.decode("latin-1"), asked))
    key = request.headers.get("authorization", b"").decode("latin-1").strip()
    shell = WebSocketShell(server, connection.client)
    server.adopt(shell, connection)
    cast(TextOwner, shell.owner).show(key.partition(" ")[2].strip() if key else None)
    shell.begin(response.serialize(), accepted=response.status_code == 101, rest=rest)
    return True


class WebSocketShell(ServedShell):
    """A client's connection; see `FramedShell`."""

    __slots__ = ("_draining", "_heard_s", "_kind", "_message", "_pinged_s", "_size_max", "_socket", "_text")

    def __init__(self, server: FramedServer, client: str) -> None:
        super().__init__(server, client)
        self._size_max = server.http.limits.body_bytes
        self._socket = ServerProtocol(
            state=State.OPEN, max_size=(self._size_max, _FRAME_BYTES_MAX), logger=_quiet, subprotocols=[SUBPROTOCOL]
        )
        self._kind = ""
        self._message: list[bytes] = []
        self._text = False
        self._heard_s = clock.monotonic()
        self._pinged_s = 0.0
        self._draining = False

    def begin(self, answer: bytes, *, accepted: bool, rest: bytes) -> None:
        """Answer the upgrade."""
        transport = self._transport
        if transport is None:
            return
        transport.write(answer)
        if not accepted:
            transport.close()
        elif rest:
            self.data_received(rest)

    def send_text(self, message: bytes) -> None:
        """Send a message in JSON."""
        if self._socket.state is State.OPEN:
            self._socket.send_text(message)
            self._pass_on()

    # asyncio and the patrol call these.

    def data_received(self, data: bytes) -> None:
        self._heard_s = clock.monotonic()
        socket = self._socket
        socket.receive_data(data)
        for event in socket.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
        self._pass_on()

    def eof_received(self) -> None:
        self._socket.receive_eof()

    def patrol(self, now_s: float, write_timeout_s: float) -> None:
        if self._kind == "binary":
            super().patrol(now_s, write_timeout_s)
            return
        self.patrol_unsent(now_s, write_timeout_s)
        silence_s = now_s - self._heard_s
        if not self._kind:
            if silence_s > _FIRST_MESSAGE_S:
                self._end(CloseCode.POLICY_VIOLATION, f"no message within {_FIRST_MESSAGE_S:g} s")
        elif silence_s > 2 * _SILENCE_S:
            self.abort()
        elif silence_s > _SILENCE_S and self._pinged_s < self._heard_s:
            self._pinged_s = now_s
            self._socket.send_ping(b"")
            self._pass_on()

    def drain(self, grace_ms: int, alternatives: Sequence[str], now_s: float) -> None:
        if self._kind == "binary":
            super().drain(grace_ms, alternatives, now_s)
        self._draining = True

    def close_drained(self, now_s: float) -> None:
        if self._kind == "binary":
            super().close_drained(now_s)
        elif self._draining and not any(cast(TextOwner, self.owner).running()):
            self._end(CloseCode.GOING_AWAY, "the server stops")

    def flush(self) -> None:
        connection = self.connection
        out = connection.take()
        socket = self._socket
        # A client of text messages knows nothing of frames, nor of an end that is told in one.
        if out and self._kind != "text" and socket.state is State.OPEN:
            data = b"".join(out)
            for start in range(0, len(data), _MESSAGE_BYTES_MAX):
                socket.send_binary(data[start : start + _MESSAGE_BYTES_MAX])
        if connection.finished:
            self._end(CloseCode.NORMAL_CLOSURE, "")
        self._pass_on()

    # Inside.

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.BINARY, Opcode.TEXT):
            self._text = frame.opcode is Opcode.TEXT
            self._message = []
        elif frame.opcode is not Opcode.CONT:
            return
        self._message.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._message = b"".join(self._message), []
        kind = "text" if self._text else "binary"
        if self._kind not in ("", kind):
            self._end(CloseCode.UNSUPPORTED_DATA, f"this connection is one of {self._kind} messages")
            return
        self._kind = kind
        if self._text:
            cast(TextOwner, self.owner).on_text(message, self.send_text)
        else:
            self.connection.receive(message, self._heard_s)

    def _end(self, code: CloseCode, reason: str) -> None:
        if self._socket.state is State.OPEN:
            self._socket.send_close(code, reason)
            self._pass_on()
        self.close()

    def _pass_on(self) -> None:
        transport = self._transport
        if transport is None:
            return
        data = b"".join(self._socket.data_to_send())
        if data:
            transport.write(data)
        if self._socket.close_expected() or self._socket.state is State.CLOSED:
            transport.close()
