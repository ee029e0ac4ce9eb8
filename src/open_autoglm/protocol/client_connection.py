"""The end of a connection that connected: a client's towards a server, a server's towards its nodes.

It opens all streams; their numbers are odd and grow. What comes for a stream that it has given up is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol import opcodes
from open_autoglm.protocol.connection import Connection, MessageTooLargeError
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import HEADER, PREFACE, encode_frame
from open_autoglm.protocol.handshake import Hello, Welcome, read_welcome, write_hello
from open_autoglm.protocol.opcodes import (
    CANCEL,
    CHALLENGE,
    DRAIN,
    ERROR,
    GOODBYE,
    HELLO,
    INFER_CHUNK,
    INFER_REQUEST,
    INFER_RESPONSE,
    LAST,
    MESSAGE,
    MORE,
    PROOF,
    RESUME,
    TENSOR,
    WELCOME,
)
from open_autoglm.protocol.proof import ClientProof, Prover
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.sinks import ClientSink
from open_autoglm.protocol.streams import ABSENT, Stream
from open_autoglm.protocol.wire_error import write_error

_ENDS: Final = frozenset((INFER_RESPONSE, ERROR, opcodes.TICKET, opcodes.NODE_RESULT, opcodes.UPDATE_RESULT))
"""What ends its stream."""
_SERVER_OPCODES: Final = _ENDS | {MESSAGE, TENSOR, opcodes.UPDATE_STATE}
_FOREIGN: Final = frozenset(opcodes.NAMES) - _SERVER_OPCODES - {INFER_CHUNK}
"""What only a client sends, or nobody on a stream."""
_WITHOUT_STREAM: Final = frozenset((opcodes.LOAD, opcodes.USAGE_REPORT))
_STREAM_MAX: Final = 2**32 - 1

_pack = HEADER.pack


class ClientConnection(Connection):
    """See the module and `Connection`. The preface and HELLO are in `out` from the beginning.

    Args:
        hello: what is offered; its window is the one that holds.
        sink: hears what comes.
        wake: see `Connection`.
        settings: limits; those that WELCOME tells come from there.
        now_s: monotonic seconds.
        key: that `hello` says it is signed with; None where it is not.
    """

    __slots__ = ("_hello", "_next_stream", "_proof", "_role")

    def __init__(
        self,
        hello: Hello,
        sink: ClientSink,
        wake: Callable[[], None],
        settings: ConnectionSettings,
        now_s: float,
        key: Prover | None = None,
    ) -> None:
        super().__init__(sink, wake, settings, now_s)
        self._role = sink
        self._hello = hello
        self._window = hello.window
        self._next_stream = 1
        payload = write_hello(hello)
        self._proof = None if key is None else ClientProof(key, payload)
        self._write(PREFACE + encode_frame(HELLO, 0, payload))

    # What the role calls.

    @property
    def room(self) -> int:
        """How many more streams may be opened now."""
        return max(0, self._room - len(self._streams))

    def request(self, payload: bytes, flags: int = 0, remaining_ms: int = 0) -> int:
        """Send INFER_REQUEST.

        Args:
            payload: preamble and body.
            flags: STREAM, RESUMABLE, NO_RETRY, or 0.
            remaining_ms: until the deadline; 0 gives none.

        Returns:
            The stream, or 0 when no room is left on this connection or it takes no more: go to another one.
        """
        streams = self._streams
        stream = self._next_stream
        if len(streams) >= self._room or len(payload) > self._frame_bytes_max or stream > _STREAM_MAX:
            return self.open(INFER_REQUEST, payload, flags, 0, remaining_ms)
        self._next_stream = stream + 2
        streams[stream] = None
        out = self.out
        if not out:
            self._wake()
        out.append(_pack(len(payload), INFER_REQUEST, flags, 0, stream, remaining_ms) + payload)
        return stream

    def open(self, opcode: int, payload: bytes = b"", flags: int = 0, aux: int = 0, arg: int = 0) -> int:
        """Open a stream with any message; see `request`.

        Raises:
            ProtocolError: `request_too_large`: it is longer than the server takes.
        """
        stream = self._next_stream
        if stream > _STREAM_MAX:
            self._room = 0
        if len(self._streams) >= self._room:
            return 0
        if self.welcome is not None and len(payload) > self.welcome.message_bytes_max:
            limit = self.welcome.message_bytes_max
            raise ProtocolError("request_too_large", f"a message of {len(payload)} bytes: the server takes {limit}")
        self._next_stream = stream + 2
        self._streams[stream] = None
        for frame in self._frames(opcode, stream, payload, flags, aux, arg):
            self._write(frame)
        return stream

    def message(self, payload: bytes) -> int:
        """Send MESSAGE: one JSON envelope; see `request`."""
        return self.open(MESSAGE, payload)

    def resume(self, token: str, stream: int, seq: int) -> int:
        """Go on with a stream of a connection that was lost.

        Args:
            token: that connection's, from its WELCOME.
            stream: its number there.
            seq: of the chunk that is wanted next.

        Returns:
            The stream that it goes on under, or 0 when no room is left here.
        """
        number = self.open(RESUME, self.codec.encode({"token": token, "stream": stream}), arg=seq)
        if number:
            state = self._streams[number] = Stream(self._window_of_peer, self._window)
            state.expected = seq
        return number

    def cancel(self, stream: int) -> None:
        """Give a stream up: nothing is told of it any more."""
        state = self._streams.get(stream, ABSENT)
        if state is not ABSENT:
            self._forget(stream, state)
            self._write(encode_frame(CANCEL, stream))

    # Frames.

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """See `FrameSink.on_frame`."""
        streams = self._streams
        if opcode == INFER_RESPONSE and not flags & MORE:
            state = streams.get(stream, ABSENT)
            if state is None and not arg:
                del streams[stream]
                self._role.on_response(stream, flags, arg, payload)
                return
        elif opcode == INFER_CHUNK:
            state = streams.get(stream, ABSENT)
            if state is None:
                state = streams[stream] = Stream(self._window_of_peer, self._window)
            size = len(payload)
            if arg == state.expected and size <= state.room:
                state.expected = arg + 1
                state.room -= size
                self._role.on_chunk(stream, flags, aux, arg, payload)
                return
        self._on_frame(opcode, flags, aux, stream, arg, payload)

    def _on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if self.finished:
            return
        if not self.opened:
            self._on_welcome(opcode, aux, payload)
        elif self._control(opcode, stream, arg, payload, aux):
            return
        elif not stream:
            self._on_connection(opcode, flags, aux, arg, payload)
        elif opcode in _FOREIGN or stream >= self._next_stream or not stream & 1:
            raise self._violation(opcode, stream)
        elif stream in self._streams:
            self._on_stream(opcode, flags, aux, stream, arg, payload)

    def _on_welcome(self, opcode: int, aux: int, payload: bytes) -> None:
        if opcode == GOODBYE:
            self._control(opcode, 0, 0, payload, aux)
            return
        proof = self._proof
        if proof is not None and opcode == CHALLENGE:
            self._write(encode_frame(PROOF, 0, proof.answer(payload)))
            return
        if proof is not None and opcode == PROOF:
            proof.take(payload)
            return
        if opcode != WELCOME:
            raise ProtocolError("invalid_request", f"opcode {opcode} came before WELCOME")
        if proof is not None:
            proof.check(payload)
            self._proof = None
        welcome: Welcome = read_welcome(payload, self._hello)
        self._open(welcome, welcome.window)
        self._role.on_welcome(welcome)

    def _on_connection(self, opcode: int, flags: int, aux: int, arg: int, payload: bytes) -> None:
        """Frames of stream 0."""
        if opcode == DRAIN:
            self.draining = True
            self._room = 0
            self._role.on_drain(arg, payload)
        elif opcode in _WITHOUT_STREAM:
            self._role.on_other(opcode, flags, aux, 0, arg, payload)
        else:
            raise self._violation(opcode, 0)

    def _on_stream(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        state = self._streams[stream]
        if opcode == INFER_CHUNK:
            if state is not None:
                state.received(arg, len(payload))  # raises: it is not the next one, or more than the credit
            return
        if state is None and flags & MORE:
            state = self._streams[stream] = Stream(self._window_of_peer, self._window)
        if state is not None:
            try:
                message = self._join(stream, state, opcode, flags, payload)
            except MessageTooLargeError as error:
                self._give_up(stream, error)
                return
            if message is None:
                return
            payload = message
            flags &= ~MORE
        if opcode in _ENDS or (opcode == MESSAGE and flags & LAST):
            self._forget(stream, state)
        if opcode == INFER_RESPONSE:
            expected = state.expected if state is not None else 0
            if arg != expected:
                raise ProtocolError("invalid_request", f"stream {stream} ends after {arg} chunks; {expected} came")
            self._role.on_response(stream, flags, arg, payload)
        elif opcode == ERROR:
            self._role.on_error(stream, aux, flags, arg, payload)
        elif opcode == MESSAGE:
            self._role.on_message(stream, flags, payload)
        else:
            self._role.on_other(opcode, flags, aux, stream, arg, payload)

    def _give_up(self, stream: int, error: AutoGLMError) -> None:
        self.cancel(stream)
        flags, aux, arg, payload = write_error(self.codec, error)
        self._role.on_error(stream, aux, flags, arg, payload)

    def _drained(self, now_s: float) -> None:
        """A server drains; a client only opens nothing more."""
