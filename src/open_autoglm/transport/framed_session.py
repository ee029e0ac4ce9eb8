"""One outgoing framed connection: its streams and who hears of them.

Invariant: each request that was sent is told its end once: a response, an error, or that it was lost; unless whoever
sent it has cancelled it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.handshake import Hello, Welcome
from open_autoglm.protocol.opcodes import INFER_REQUEST, LAST, NODE_RESULT, TENSOR, TENSORS, TICKET
from open_autoglm.protocol.proof import Prover
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_shell import Flusher, FramedShell
from open_autoglm.transport.tensor_handler import TensorHandler

_log = logging.getLogger(__name__)
ALTERNATIVES_MAX: Final = 8
"""Addresses of one DRAIN that are looked at."""

OtherFrame = Callable[[int, int, int, int, int, bytes], None]
"""Takes opcode, flags, aux, stream, arg and payload of a message that has no callback of its own."""


class StreamHandler(Protocol):
    """Who hears of one stream. None of these may raise or block."""

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        """The answer, or what ends it after so many chunks."""

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """More text. Call `FramedSession.consume` when it has been taken on."""

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        """There will be no (more) answer, and why."""

    def on_lost(self, detail: str) -> None:
        """The connection was lost with the stream."""


class FramedSession:
    """See the module.

    Args:
        hello: who we are.
        flusher: of the loop.
        settings: our own limits.
        now_s: monotonic seconds.
        other: takes messages of stream 0 that have no callback of their own (LOAD, USAGE_REPORT).
        key: that `hello` says it is signed with; None where it is not.
        over: told once, when nothing more can be sent: the peer drains, or the connection has ended.

    Attributes:
        connection, shell: the protocol's side and the socket's.
        handlers: by stream.
        codec: of bodies; empty until the peer's WELCOME.
        welcomed: done with whether the peer has let us in.
        ending: code and message that the connection has ended with; empty before.
        alternatives: addresses that the peer named when it began to drain, as it wrote them.
    """

    __slots__ = ("_other", "_over", "alternatives", "codec", "connection", "ending", "handlers", "shell", "welcomed")

    def __init__(
        self,
        hello: Hello,
        flusher: Flusher,
        settings: ConnectionSettings,
        now_s: float,
        *,
        other: OtherFrame,
        over: Callable[[FramedSession], None],
        welcomed: asyncio.Future[bool],
        key: Prover | None = None,
    ) -> None:
        self._other = other
        self._over: Callable[[FramedSession], None] | None = over
        self.welcomed = welcomed
        self.handlers: dict[int, StreamHandler] = {}
        self.codec = ""
        self.ending = ("", "")
        self.alternatives: list[str] = []
        self.shell = FramedShell(flusher, reads_while_paused=True)
        self.connection = ClientConnection(hello, self, self.shell.wake, settings, now_s, key)
        self.shell.connection, self.shell.owner = self.connection, self

    # Who uses it.

    def request(self, handler: StreamHandler, payload: bytes, flags: int, remaining_ms: int) -> int:
        """Send INFER_REQUEST.

        Returns:
            Its stream; 0 when there is no room on this connection, or it takes no more.
        """
        stream = self.connection.request(payload, flags, remaining_ms)
        if stream:
            self.handlers[stream] = handler
        return stream

    def request_in_tensors(
        self, handler: StreamHandler, tensors: Sequence[bytes], payload: bytes, remaining_ms: int, flags: int = 0
    ) -> int:
        """Send tensors, and the INFER_REQUEST that they belong to.

        Args:
            handler: of the answer; a `TensorHandler` hears of its tensors too.
            tensors: payloads of TENSOR, at least one.
            payload: of INFER_REQUEST.
            remaining_ms: until the deadline.
            flags: of INFER_REQUEST, beside TENSORS.

        Raises:
            ProtocolError: `request_too_large`: one of them is longer than the peer takes; nothing was sent.

        Returns:
            The stream; see `request`.
        """
        connection = self.connection
        welcome = connection.welcome
        longest = max(len(payload), *map(len, tensors))
        if welcome is not None and longest > welcome.message_bytes_max:
            limit = welcome.message_bytes_max
            raise ProtocolError("request_too_large", f"a message of {longest} bytes: {limit} are taken there")
        last = len(tensors) - 1
        stream = connection.open(TENSOR, tensors[0], 0 if last else LAST)
        if stream:
            self.handlers[stream] = handler
            for place in range(1, len(tensors)):
                connection.send(TENSOR, stream, tensors[place], LAST if place == last else 0)
            connection.send(INFER_REQUEST, stream, payload, flags | TENSORS, 0, remaining_ms)
        return stream

    def consume(self, stream: int, size: int) -> None:
        """So many bytes of chunks were taken on."""
        self.connection.consume(stream, size)

    def cancel(self, stream: int) -> None:
        """Nobody wants the answer any more."""
        if self.handlers.pop(stream, None) is not None:
            self.connection.cancel(stream)

    def lose(self, now_s: float, message: str) -> None:
        """The peer is known to be gone, though the transport does not know it yet: all that runs is lost, and why."""
        self.connection.lose(now_s, message)
        self.shell.abort()

    def leave(self) -> None:
        """Close as soon as nothing runs any more."""
        if not self.handlers:
            self.shell.close()

    # The protocol calls these; see `protocol.sinks.ClientSink`.

    def on_welcome(self, welcome: Welcome) -> None:
        self.codec = welcome.codec
        if not self.welcomed.done():
            self.welcomed.set_result(True)

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        handler = self.handlers.pop(stream, None)
        if handler is not None:
            try:
                handler.on_response(flags, chunks, payload)
            except Exception:  # one request's defect must not end the others of this connection
                _log.exception("a response failed")
        if self._over is None:
            self.leave()

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        handler = self.handlers.get(stream)
        if handler is not None:
            try:
                handler.on_chunk(flags, choice, seq, payload)
            except Exception:  # as above
                _log.exception("a chunk failed")
                self.cancel(stream)

    def on_error(self, stream: int, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        handler = self.handlers.pop(stream, None)
        if handler is not None:
            try:
                handler.on_error(status, flags, retry_after_ms, payload)
            except Exception:  # as above
                _log.exception("an error failed")
        if self._over is None:
            self.leave()

    def on_message(self, stream: int, flags: int, payload: bytes) -> None:
        """Nobody asks in JSON over such a connection."""

    def on_drain(self, grace_ms: int, payload: bytes) -> None:
        try:
            named = self.connection.codec.decode(payload).get("alternatives")
        except ProtocolError:
            named = None
        if isinstance(named, list):
            self.alternatives = [each for each in named[:ALTERNATIVES_MAX] if isinstance(each, str)]
        self.end()

    def on_credit(self, stream: int, released: int) -> None:
        """Only chunks wait for credit, and none are sent here."""

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if opcode in (NODE_RESULT, TICKET):
            self.on_response(stream, flags, 0, payload)
        elif opcode == TENSOR:
            handler: object = self.handlers.get(stream)
            if isinstance(handler, TensorHandler):
                handler.on_tensor(payload)
        else:
            self._other(opcode, flags, aux, stream, arg, payload)

    def on_closed(self, code: str, message: str) -> None:
        self.ending = (code, message)
        if not self.welcomed.done():
            self.welcomed.set_result(False)
        self.shell.wake()
        handlers, self.handlers = self.handlers, {}
        self.end()
        for handler in handlers.values():
            try:
                handler.on_lost(f"the connection ended: {message[:200] or code}")
            except Exception:  # as above
                _log.exception("the end of a connection failed")

    # The shell calls these.

    def on_pause(self) -> None:
        """Requests have places on the connection; what cannot be written waits."""

    def on_resume(self) -> None:
        """See `on_pause`."""

    def on_gone(self) -> None:
        """`on_closed` has said it."""

    def end(self) -> None:
        """Send nothing new; what runs goes on."""
        over, self._over = self._over, None
        if over is not None:
            over(self)
        if not self.connection.finished:
            self.leave()
