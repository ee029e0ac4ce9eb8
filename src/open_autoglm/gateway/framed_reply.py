"""What stands in a connection's place for one request that came in frames: it is answered as HTTP is.

The request path writes a whole answer, or begins, writes and ends a stream. Invariant: each of these becomes frames of
one stream of the client's connection, the last of which ends the stream; after that, and after the client has left,
nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError
from open_autoglm.gateway.call import Call
from open_autoglm.protocol.frames import HEADER, HEADER_BYTES
from open_autoglm.protocol.opcodes import ERROR, INFER_CHUNK, INFER_RESPONSE
from open_autoglm.transport.http_request import ServerRequest

if TYPE_CHECKING:
    from open_autoglm.gateway.framed_peer import FramedPeer

_ATTEMPTS_AT: Final = 9
"""Where a response's preamble counts the endpoints that were asked."""
_EVENT: Final = b"data: "


class _Asks(msgspec.Struct):
    stream: bool = False


class _Message(msgspec.Struct):
    payload: _Asks = msgspec.field(default_factory=_Asks)


_messages: Final = msgspec.json.Decoder(_Message)


def asks_for_stream(body: bytes) -> bool:
    """Whether a message in JSON asks for an answer in pieces; one that cannot be read asks for nothing."""
    try:
        return _messages.decode(body).payload.stream
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


class Reply:
    """Answers MESSAGE: payloads are bodies or server-sent events, as `McpFace` writes them.

    It has what the request path asks of an `HttpConnection`.

    Attributes:
        memo, peer: see `HttpConnection`; nobody remembers anything of one request.
        request: whose answer it is; set at once by whoever made it.
        stream: of the client's connection.
    """

    __slots__ = ("_client", "_over", "_owed", "memo", "peer", "request", "stream")

    request: ServerRequest

    def __init__(self, client: FramedPeer, stream: int) -> None:
        self._client = client
        self.stream = stream
        self.memo: None = None
        self.peer = client.address
        self._over = False
        self._owed = 0

    # The request path calls these.

    def address(self) -> str:
        """The client's address."""
        return self.peer

    def respond(self, request: ServerRequest, status: int, extra: str, body: bytes) -> None:
        """Write a whole answer."""
        request.answered = True
        self.end(request, body)

    def start(self, request: ServerRequest, status: int, extra: str, content_type: str, payload: bytes) -> None:
        """Begin a stream with its first piece."""
        request.answered = True
        self.write(request, payload)

    def write(self, request: ServerRequest, payload: bytes) -> None:
        """Write one more piece of a stream."""
        if not self._over and payload:
            self._send(payload, last=False)

    def end(self, request: ServerRequest, payload: bytes = b"") -> None:
        """End a stream."""
        request.finished = True
        if not self._over:
            self._over = True
            self._client.forget(self.stream)
            self._send(payload, last=True)

    def cut(self, request: ServerRequest, payload: bytes = b"") -> None:
        """Give a stream up; the last piece says why."""
        self.end(request, payload)

    def abort(self) -> None:
        """The server stops, or failed at this request after its answer had begun: there is no more of it."""
        if not self._over:
            self._over = True
            self._client.forget(self.stream)
            self._client.break_off(self.stream)

    # The client's connection calls these.

    def gone(self) -> None:
        """Nobody wants the answer any more."""
        self._over = True
        if isinstance(self.request.call, Call):
            self.request.call.gone()

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return isinstance(self.request.call, Call) and self.request.call.record.stream

    def drain_cut(self, error: AutoGLMError) -> None:
        """The server stops: whoever has no answer hears why, and a stream ends with an error."""
        call = self.request.call
        if not isinstance(call, Call):
            return
        if self.request.answered:
            call.exchange.drain_cut(clock.monotonic())
        else:
            call.refuse(error)

    def pause(self) -> None:
        """The client does not read: produce no more for now."""
        if not self._over and isinstance(self.request.call, Call):
            self.request.call.pause()

    def resume(self) -> None:
        """The client reads again, and has given credit for all that was written."""
        if not self._over and not self._owed and isinstance(self.request.call, Call):
            self.request.call.resume()

    def credit(self, released: int) -> None:
        """So much of what had to wait has gone out."""
        self._owed = max(0, self._owed - released)
        if not self._client.shell.paused:
            self.resume()

    # Inside.

    def _send(self, payload: bytes, *, last: bool) -> None:
        messages = [piece.removeprefix(_EVENT) for piece in payload.split(b"\n\n") if piece]
        for number, message in enumerate(messages, 1):
            self._client.connection.message(self.stream, message, last=last and number == len(messages))


class TextReply(Reply):
    """Answers a text message of a WebSocket by text messages."""

    __slots__ = ("_send_text",)

    def __init__(self, client: FramedPeer, number: int, send_text: Callable[[bytes], None]) -> None:
        super().__init__(client, number)
        self._send_text = send_text

    def _send(self, payload: bytes, *, last: bool) -> None:
        for piece in payload.split(b"\n\n"):
            if piece:
                self._send_text(piece.removeprefix(_EVENT))


class FrameReply(Reply):
    """Answers INFER_REQUEST: payloads are frames of stream 0, as `framed_face` writes them."""

    __slots__ = ()

    def _send(self, payload: bytes, *, last: bool) -> None:
        connection, stream = self._client.connection, self.stream
        start = 0
        while start < len(payload):
            length, opcode, flags, aux, _, arg = HEADER.unpack_from(payload, start)
            body_at = start + HEADER_BYTES
            start = body_at + length
            body = payload[body_at:start]
            if opcode == INFER_CHUNK:
                self._owe(length - connection.chunk(stream, body, flags, aux))
            elif opcode == INFER_RESPONSE:
                connection.respond(stream, self._counted(body), flags)
            else:
                connection.end(ERROR, stream, body, flags, aux, arg)

    def _owe(self, size: int) -> None:
        if size > 0:
            self._owed += size
            self.pause()

    def _counted(self, body: bytes) -> bytes:
        """The response with the number of endpoints that were asked."""
        call = self.request.call
        attempts = min(len(call.record.attempts), 255) if isinstance(call, Call) else 0
        return body[:_ATTEMPTS_AT] + bytes((attempts,)) + body[_ATTEMPTS_AT + 1 :]
