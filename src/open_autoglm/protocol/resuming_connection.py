"""The server's end of streams that outlive their connection.

The role that produces an answer goes on calling the connection that the request came on, whatever became of that: what
it sends goes into the ring, and out on the connection that carries the stream now, if there is one.

| the stream is | in the table of | `ring.carrier` |
|---|---|---|
| where it began | its first connection | that connection |
| lost | none; its first connection remembers the ring | None |
| resumed | the connection that resumed it; the first remembers the ring | that connection |
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.protocol.connection import Connection
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import encode_frame
from open_autoglm.protocol.opcodes import ERROR, INFER_CHUNK, INFER_RESPONSE
from open_autoglm.protocol.resume import ResumeStore, Ring
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.sinks import ServerSink
from open_autoglm.protocol.streams import Stream, pieces_of
from open_autoglm.protocol.wire_error import write_error

_GONE: Final = 410


class ResumingConnection(Connection):
    """See the module and `Connection`; `ServerConnection` is what roles use.

    Args:
        sink, wake, settings, now_s: see `Connection`.
        store: where resumable streams are kept; None keeps none.
    """

    __slots__ = ("_left", "_owner", "_role", "_store", "_token")

    def __init__(
        self,
        sink: ServerSink,
        wake: Callable[[], None],
        settings: ConnectionSettings,
        now_s: float,
        store: ResumeStore | None,
    ) -> None:
        super().__init__(sink, wake, settings, now_s)
        self._role = sink
        self._store = store
        self._token = ""
        self._owner = ""
        self._left: dict[int, Ring] | None = None

    def abandon(self, stream: int) -> None:
        """Nobody wants the answer of a stream that began here any more."""
        if self._left is not None:
            self._left.pop(stream, None)
        self._role.on_cancel(stream)

    def _keep(self, stream: int) -> None:
        """Make a stream resumable, if anything is kept."""
        if self._store is None or not self._token:
            return
        ring = self._store.open((self._token, stream), self._owner, (self, stream))
        if ring is not None:
            ring.codec = self.codec.name
            state = self._streams[stream]
            if state is None:
                state = self._streams[stream] = Stream(self._window_of_peer, self._window)
            state.ring = ring

    def _resume(self, stream: int, seq: int, payload: bytes) -> None:
        """Go on with a stream of another connection, or say that it is gone."""
        state = self._streams[stream]
        if state is None:
            state = self._streams[stream] = Stream(self._window_of_peer, self._window)
        try:
            ring = self._ring_of(payload)
            chunks = ring.since(seq)
            if chunks is None:
                kept = f"{ring.first} to {ring.next}"
                raise RequestError("not_found", f"chunk {seq} of the stream is not kept: {kept} are")
            if any(len(text) > self._chunk_bytes_max for _, _, text in chunks) or ring.codec != self.codec.name:
                raise RequestError("not_found", "the stream goes on with the same codec and no smaller a window only")
        except AutoGLMError as error:
            self._forget(stream, state)
            flags, aux, arg, body = write_error(self.codec, error)
            aux = _GONE if error.code == "not_found" else aux
            self._write(encode_frame(ERROR, stream, body, flags, aux, arg))
            return
        self._take_over(stream, state, ring)
        state.seq = seq
        for flags, choice, text in chunks:
            self._put_chunk(stream, state, (INFER_CHUNK, flags, choice, text), 0)
        if ring.end is not None:
            opcode, flags, aux, arg, body = ring.end
            arg = state.seq if opcode == INFER_RESPONSE else arg
            self._end(stream, self._frames(opcode, stream, body, flags, aux, arg), state, at_once=opcode == ERROR)

    def _ring_of(self, payload: bytes) -> Ring:
        body = self.codec.decode(payload)
        token, number = body.get("token"), body.get("stream")
        if not isinstance(token, str) or type(number) is not int:
            raise ProtocolError("invalid_request", "RESUME needs token, a text, and stream, a number")
        ring = self._store.find((token, number), self._owner) if self._store is not None and token else None
        if ring is None:
            raise RequestError("not_found", f"nothing is kept of stream {number}; send the request again")
        return ring

    def _take_over(self, stream: int, state: Stream, ring: Ring) -> None:
        if ring.carrier is not None:
            connection, number = ring.carrier
            before = connection._streams.get(number)
            if before is not None and before.ring is ring:
                connection._leave(number, before, ring)
        if self._store is not None:
            self._store.move(ring, (self._token, stream))
        ring.carrier = (self, stream)
        state.ring = ring
        if not ring.ended:
            ring.expires_s = inf

    def _leave(self, stream: int, state: Stream, ring: Ring) -> None:
        """Let go of a stream that goes on without this connection."""
        owed = sum(owed for _, owed, _ in state.waiting or ())
        self._forget(stream, state)
        ring.carrier = None
        if ring.ended:
            return
        producer, number = ring.producer
        if ring.forgotten:
            producer.abandon(number)
            return
        if producer is self and number == stream:
            self._left = self._left or {}
            self._left[stream] = ring
        if owed:
            producer._role.on_credit(number, owed)

    def _drop(self, stream: int, state: Stream | None) -> None:
        """Forget a stream that nobody wants any more, and tell its producer."""
        self._forget(stream, state)
        if state is None:
            self._role.on_cancel(stream)
        elif state.ring is not None:
            if self._store is not None:
                self._store.forget(state.ring)
            if not state.ring.ended:
                producer, number = state.ring.producer
                producer.abandon(number)
        elif not state.ended:
            self._role.on_cancel(stream)

    def _release(self, stream: int, state: Stream, released: int) -> None:
        producer, number = state.ring.producer if state.ring is not None else (self, stream)
        producer._role.on_credit(number, released)

    def _chunk_left(self, chunk: tuple[int, bytes, int, int, int]) -> int:
        stream, payload, flags, choice, opcode = chunk
        ring = self._left.get(stream) if self._left is not None else None
        if ring is not None and ring.carrier is not None:
            connection, number = ring.carrier
            return connection.chunk(number, payload, flags, choice, opcode)
        if ring is not None:
            for piece in pieces_of(payload, self._chunk_bytes_max):
                ring.append(flags, choice, piece)
        return len(payload)

    def _end_left(self, stream: int, end: tuple[int, int, int, int, bytes]) -> bool:
        """End a stream that has left this connection; returns whether there was one."""
        ring = self._left.pop(stream, None) if self._left is not None else None
        if ring is None:
            return False
        opcode, flags, aux, arg, payload = end
        if ring.carrier is not None:
            connection, number = ring.carrier
            return connection._end_with(number, opcode, payload, flags, aux, arg)
        ring.close((opcode, flags, aux, ring.next if opcode == INFER_RESPONSE else arg, payload))
        return True

    def _end_with(self, stream: int, opcode: int, payload: bytes, flags: int = 0, aux: int = 0, arg: int = 0) -> bool:
        raise NotImplementedError

    def _lose_streams(self) -> None:
        streams, self._streams = self._streams, {}  # what callbacks still send goes nowhere
        for stream, state in streams.items():
            if state is not None and state.ring is not None:
                self._leave(stream, state, state.ring)
            else:
                self._drop(stream, state)
        super()._lose_streams()
