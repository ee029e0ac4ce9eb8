"""What stands in a connection's place for one request that came over gRPC: it is answered as HTTP is.

The request path writes a whole answer, or begins, writes and ends a stream, as frames of stream 0; each frame becomes
one gRPC message, which waits here until the RPC takes it. Invariant: beyond 256 KiB that wait, the model is not read;
after the end, and after the client has left, nothing is added.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from open_autoglm.gateway.call import Call
from open_autoglm.gateway.framed_peer import FramedPeer
from open_autoglm.gateway.framed_reply import Reply
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.frames import HEADER, HEADER_BYTES
from open_autoglm.protocol.grpc_messages import write_chunk_part, write_response_message
from open_autoglm.protocol.opcodes import INFER_CHUNK, INFER_RESPONSE
from open_autoglm.protocol.wire_error import WireError, read_error
from open_autoglm.transport.grpc_listener import Failure, Metadata
from open_autoglm.transport.http_request import ServerRequest

_WINDOW_BYTES: Final = 256 * 2**10
_ATTEMPTS_MAX: Final = 255
_codec: Final = CODECS["protobuf"]


class GrpcAnswer(Reply):
    """See the module; implements `transport.grpc_listener.Answer`.

    Args:
        address: of the client.
        in_parts: whether it asked for a stream.
    """

    __slots__ = ("_chunks", "_error", "_extra", "_in_parts", "_messages", "_waiter", "_waiting_bytes")

    def __init__(self, address: str, *, in_parts: bool) -> None:
        # One RPC has no connection of ours, and no stream of it: whatever would use them is done otherwise below.
        self._client = cast(FramedPeer, None)
        self.stream = 0
        self.memo = None
        self.peer = address
        self._over = False
        self._owed = 0
        self._in_parts = in_parts
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._chunks = 0
        self._extra = ""
        self._error: WireError | None = None

    # The RPC calls these.

    async def next(self) -> bytes | None:
        """See `Answer.next`."""
        while not self._messages and not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        if self._owed and not self._messages:
            self._owed = 0
            self.resume()
        return message

    def metadata(self) -> Metadata:
        """See `Answer.metadata`."""
        lines = [line.partition(": ") for line in self._extra.split("\r\n") if line]
        return tuple((name, value) for name, _, value in lines if name != "www-authenticate")

    def failure(self) -> Failure | None:
        """See `Answer.failure`."""
        error = self._error
        if error is None:
            return None
        return Failure(error.status, error.code, error.message, error.retryable, error.retry_after_ms)

    # The request path calls these.

    def respond(self, request: ServerRequest, status: int, extra: str, body: bytes) -> None:
        """Write a whole answer."""
        self._extra = extra
        super().respond(request, status, extra, body)

    def start(self, request: ServerRequest, status: int, extra: str, content_type: str, payload: bytes) -> None:
        """Begin a stream with its first piece."""
        self._extra = extra
        super().start(request, status, extra, content_type, payload)

    def end(self, request: ServerRequest, payload: bytes = b"") -> None:
        """End a stream."""
        request.finished = True
        if not self._over:
            self._send(payload, last=True)
            self._over = True
            self._wake()

    def abort(self) -> None:
        """The server stops, or failed at this request after its answer had begun: there is no more of it."""
        if not self._over:
            message = "the server is being stopped; send the request again"
            self._error = WireError(503, "server_draining", message, True, 0, {})
            self._over = True
            self._wake()

    def gone(self) -> None:
        """Nobody wants the answer any more."""
        self._messages.clear()
        super().gone()

    def pause(self) -> None:
        """The client does not read: produce no more for now."""
        if not self._over and isinstance(self.request.call, Call):
            self.request.call.pause()

    # Inside.

    def _send(self, payload: bytes, *, last: bool) -> None:
        start = 0
        while start < len(payload):
            length, opcode, flags, aux, _, arg = HEADER.unpack_from(payload, start)
            body_at = start + HEADER_BYTES
            start = body_at + length
            body = payload[body_at:start]
            if opcode == INFER_CHUNK:
                self._put(write_chunk_part(self._chunks, flags, aux, body))
                self._chunks += 1
            elif opcode == INFER_RESPONSE:
                attempts = self._attempts()
                self._put(write_response_message(body, self._chunks, attempts, streamed=self._in_parts))
            else:
                self._error = read_error(_codec, aux, flags, arg, body)
        self._wake()

    def _put(self, message: bytes) -> None:
        self._messages.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > _WINDOW_BYTES and not self._owed:
            self._owed = self._waiting_bytes
            self.pause()

    def _attempts(self) -> int:
        call = self.request.call
        return min(len(call.record.attempts), _ATTEMPTS_MAX) if isinstance(call, Call) else 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
