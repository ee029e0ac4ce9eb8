"""The end of a connection that was connected to: a server's towards its clients, a node's towards its servers.

Streams are opened by the client only. A stream is in the table from the first frame of its request to the last frame of
its answer; a resumable one that has lost its connection is remembered until its producer has ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.protocol import opcodes
from open_autoglm.protocol.codecs import available_codecs
from open_autoglm.protocol.connection import MessageTooLargeError
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import HEADER, PREFACE, encode_frame
from open_autoglm.protocol.handshake import VERSIONS, Hello, Welcome, choose, in_common, read_hello, write_welcome
from open_autoglm.protocol.opcodes import (
    CANCEL,
    CHALLENGE,
    DRAIN,
    ERROR,
    HELLO,
    INFER_REQUEST,
    INFER_RESPONSE,
    LAST,
    MESSAGE,
    MORE,
    PING,
    PROOF,
    RESUMABLE,
    RESUME,
    TENSOR,
    TENSORS,
    UPDATE_CHUNK,
    WELCOME,
)
from open_autoglm.protocol.proof import Prover, ServerProof
from open_autoglm.protocol.resume import ResumeStore
from open_autoglm.protocol.resuming_connection import ResumingConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.sinks import ServerSink
from open_autoglm.protocol.streams import ABSENT, Stream
from open_autoglm.protocol.wire_error import write_error

_ONCE: Final = frozenset((INFER_REQUEST, MESSAGE, RESUME, opcodes.TICKET_REQUEST, opcodes.NODE_COMMAND))
"""What a stream begins with, and has once."""
_OTHERS: Final = frozenset(
    (
        TENSOR,
        opcodes.UPDATE_BEGIN,
        UPDATE_CHUNK,
        opcodes.UPDATE_STATE,
        opcodes.UPDATE_COMMIT,
        opcodes.UPDATE_ABORT,
    )
)
"""What may come several times on a stream."""
_CLIENT_OPCODES: Final = _ONCE | _OTHERS
_WITHOUT_STREAM: Final = frozenset((opcodes.USAGE_ACK,))
_SLOW_FLAGS: Final = MORE | RESUMABLE | TENSORS
_SETTLE_S: Final = 1.0
"""How long the answer to the PING behind DRAIN is waited for, once no stream is open."""

_pack = HEADER.pack


class ServerConnection(ResumingConnection):
    """See the module and `Connection`.

    Args:
        sink: hears what comes.
        wake: see `Connection`.
        settings: limits, which WELCOME tells the client.
        now_s: monotonic seconds.
        store: where resumable streams are kept; None keeps none.
    """

    __slots__ = ("_hello", "_hello_payload", "_last_stream", "_preface", "_proof", "_skipping", "_unasked")

    def __init__(
        self,
        sink: ServerSink,
        wake: Callable[[], None],
        settings: ConnectionSettings,
        now_s: float,
        store: ResumeStore | None = None,
    ) -> None:
        super().__init__(sink, wake, settings, now_s, store)
        self._preface = PREFACE
        self._hello: Hello | None = None
        self._hello_payload = b""  # while a signature covers it
        self._proof: ServerProof | None = None
        self._last_stream = 0
        self._skipping: set[int] | None = None
        self._unasked: dict[int, None] | None = None  # whose tensors were refused, so that their request may come yet

    # What the shell calls.

    def receive(self, data: bytes, now_s: float) -> None:
        """See `Connection.receive`; the preface comes first."""
        if self._preface:
            size = min(len(data), len(self._preface))
            if data[:size] != self._preface[:size]:
                self.goodbye("invalid_request", f"the preface is not {PREFACE.hex()}: this is MCP {VERSIONS[0]}")
                return
            self._preface = self._preface[size:]
            data = data[size:]
        super().receive(data, now_s)

    # What the role calls.

    def challenge(self, key: Prover, challenge: bytes, told: Callable[[bool], None]) -> None:
        """Have the client that has said HELLO with a signature prove that it knows the key.

        Args:
            key: that its HELLO names.
            challenge: 32 bytes that nobody can guess, and that were never used before.
            told: hears once whether it does; `accept` or `refuse` then.
        """
        if self._hello is None or self._proof is not None or self.finished:
            return
        self._proof = ServerProof(key, self._hello_payload, challenge, told)
        self._write(encode_frame(CHALLENGE, 0, challenge))

    def accept(self, connection: str = "", resume: str = "", owner: str = "") -> None:
        """Let the client in that has said HELLO; one that is asked for a proof, only when that was right.

        Args:
            connection: id of the connection, for logs.
            resume: token by which its streams can be resumed: nobody must be able to guess it. Empty keeps none.
            owner: whoever the client is; a stream is resumed by its owner only.
        """
        hello, proof = self._hello, self._proof
        if hello is None or self.opened or self.finished or (proof is not None and not proof.proved):
            return
        settings = self._settings
        try:
            welcome = Welcome(
                version=choose(hello.versions, VERSIONS, "versions"),
                codec=choose(hello.codecs, available_codecs(), "codecs"),
                connection=connection,
                resume=resume if self._store is not None else "",
                frame_bytes_max=settings.frame_bytes_max,
                message_bytes_max=settings.message_bytes_max,
                requests_max=settings.requests_max,
                heartbeat_ms=settings.heartbeat_ms,
                window=settings.window_bytes,
            )
        except ProtocolError as error:
            self.goodbye(error.code, error.message)
            return
        self._owner = owner
        self._token = welcome.resume
        self._hello = None
        payload = write_welcome(welcome)
        if proof is not None:
            self._write(encode_frame(PROOF, 0, proof.answer(payload)))
            self._proof = None
            self._hello_payload = b""
        self._write(encode_frame(WELCOME, 0, payload))
        self._open(in_common(welcome), hello.window)
        if self.draining:
            self._room = 0

    def refuse(self, error: AutoGLMError) -> None:
        """Turn the client away that has said HELLO."""
        self.goodbye(error.code, error.message)

    def respond(self, stream: int, payload: bytes, flags: int = 0) -> bool:
        """Send INFER_RESPONSE, which ends the stream, behind the chunks that wait for credit.

        Args:
            stream: of a request.
            payload: preamble and body.
            flags: of the response; TENSORS when tensors were sent before.

        Returns:
            False when nobody wants it any more.
        """
        state = self._streams.get(stream, ABSENT)
        if state is None and len(payload) <= self._frame_bytes_max:
            del self._streams[stream]
            out = self.out
            if not out:
                self._wake()
            out.append(_pack(len(payload), INFER_RESPONSE, flags, 0, stream, 0) + payload)
            return True
        return self._end_with(stream, INFER_RESPONSE, payload, flags)

    def fail(self, stream: int, error: AutoGLMError, details: dict[str, Any] | None = None) -> bool:
        """Send ERROR, which ends the stream at once: chunks that wait for credit are dropped.

        Args:
            stream: of a request.
            error: what went wrong; its message reaches the client.
            details: more fields of the body, as `request_id`.

        Returns:
            False when nobody wants it any more.
        """
        flags, aux, arg, payload = write_error(self.codec, error, details)
        return self.end(ERROR, stream, payload, flags, aux, arg)

    def end(self, opcode: int, stream: int, payload: bytes = b"", flags: int = 0, aux: int = 0, arg: int = 0) -> bool:
        """Send any message that ends its stream: ERROR as it came from elsewhere, TICKET, NODE_RESULT, UPDATE_RESULT.

        Returns:
            False when nobody wants it any more.
        """
        return self._end_with(stream, opcode, payload, flags, aux, arg)

    def message(self, stream: int, payload: bytes, *, last: bool = True) -> bool:
        """Send MESSAGE: one JSON envelope; the last one ends the stream."""
        if last:
            return self.end(MESSAGE, stream, payload, LAST)
        return self.send(MESSAGE, stream, payload)

    def drain(self, grace_ms: int, alternatives: Sequence[str], now_s: float) -> None:
        """Take no more requests, and end when the open streams have ended or the time is up.

        What the client sent before it heard of that comes before its PONG, and is answered: see `settled`.

        Args:
            grace_ms: how long the open streams have.
            alternatives: addresses that the client may go to.
            now_s: monotonic seconds.
        """
        if self.draining or self.finished:
            return
        self.draining = True
        self._room = 0
        if self.opened:
            self._until_s = now_s + grace_ms / 1000
            payload = self.codec.encode({"alternatives": list(alternatives)})
            self._write(encode_frame(DRAIN, 0, payload, arg=grace_ms))
            self._awaited = ~int(now_s * 1000) & 0xFFFFFFFF  # a number that no PING of the heartbeat has these days
            self._settled_s = now_s + _SETTLE_S
            self._write(encode_frame(PING, 0, arg=self._awaited))
        else:
            self.goodbye("server_draining", "the server is about to stop")

    def settled(self, now_s: float) -> bool:
        """Whether it drains and there is nothing to wait for: no stream is open, and no request can be on its way."""
        return self.draining and not self._streams and (self._awaited < 0 or now_s >= self._settled_s)

    # Frames.

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """See `FrameSink.on_frame`."""
        streams = self._streams
        if (
            opcode == INFER_REQUEST
            and stream > self._last_stream
            and stream & 1
            and not flags & _SLOW_FLAGS
            and len(streams) < self._room
        ):
            self._last_stream = stream
            streams[stream] = None
            self._role.on_request(stream, flags, arg, payload)
        else:
            self._on_frame(opcode, flags, aux, stream, arg, payload)

    def _on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if self.finished:
            return
        if not self.opened:
            self._on_hello(opcode, payload)
        elif opcode == CANCEL:
            self._cancelled(stream)
        elif self._control(opcode, stream, arg, payload, aux):
            return
        elif not stream:
            if opcode not in _WITHOUT_STREAM:
                raise self._violation(opcode, stream)
            self._role.on_other(opcode, flags, aux, stream, arg, payload)
        elif opcode in opcodes.NAMES and opcode not in _CLIENT_OPCODES:
            raise self._violation(opcode, stream)
        elif self._is_open(opcode, flags, stream):
            self._on_message(opcode, flags, aux, stream, arg, payload)

    def _on_hello(self, opcode: int, payload: bytes) -> None:
        if opcode == opcodes.GOODBYE:
            self._control(opcode, 0, 0, payload, 0)
            return
        if opcode == PROOF and self._proof is not None:
            self._proof.take(payload)
            return
        if opcode != HELLO or self._hello is not None:
            raise ProtocolError(
                "invalid_request", f"opcode {opcode} came before WELCOME went; HELLO is first, then wait"
            )
        self._hello = hello = read_hello(payload)
        if hello.auth.signature is not None:
            self._hello_payload = payload
        # Who speaks nothing that is spoken here need not say who they are.
        choose(hello.versions, VERSIONS, "versions")
        choose(hello.codecs, available_codecs(), "codecs")
        self._role.on_hello(hello)

    def _is_open(self, opcode: int, flags: int, stream: int) -> bool:
        """Whether a frame belongs to an open stream; opens a new one."""
        if stream in self._streams:
            return True
        if not stream & 1:
            raise ProtocolError("invalid_request", f"stream {stream} is even: a client's are odd")
        if stream <= self._last_stream:
            if self._skipping is not None and stream in self._skipping:
                if not flags & MORE:
                    self._skipping.remove(stream)
            elif self._unasked is not None and stream in self._unasked:
                if opcode in _ONCE and not flags & MORE:
                    del self._unasked[stream]
            elif opcode in _ONCE:
                raise ProtocolError("invalid_request", f"stream {stream} was used before {self._last_stream}")
            return False
        self._last_stream = stream
        if opcode == TENSOR and (self.draining or len(self._streams) >= self._room):
            self._pass_over(stream)
            flags = 0
        if opcode not in _CLIENT_OPCODES:
            self._refuse(stream, flags, ProtocolError("not_implemented", f"opcode {opcode} is not known here"))
        elif self.draining:
            self._refuse(stream, flags, ServerError("server_draining", "the server is about to stop; go elsewhere"))
        elif len(self._streams) >= self._room:
            message = f"{len(self._streams)} streams are open on this connection: {self._room} at most"
            self._refuse(stream, flags, ServerError("overloaded", message))
        else:
            state = self._streams[stream] = Stream(self._window_of_peer, self._window)
            state.asked = False
            return True
        return False

    def _refuse(self, stream: int, flags: int, error: AutoGLMError) -> None:
        """Answer what a stream is not opened for, and pass over the rest of its message."""
        if self.finished:
            return  # by a callback
        bits, aux, arg, payload = write_error(self.codec, error)
        self._write(encode_frame(ERROR, stream, payload, bits, aux, arg))
        if flags & MORE:
            self._skip(stream)

    def _skip(self, stream: int) -> None:
        skipping = self._skipping = self._skipping or set()
        skipping.add(stream)
        if len(skipping) > self._settings.requests_max:
            raise ProtocolError("overloaded", f"{len(skipping)} messages were refused and go on all the same")

    def _pass_over(self, stream: int) -> None:
        """A stream ends before its request came: what still comes of it is nothing to mind, for the newest of them."""
        unasked = self._unasked = self._unasked or {}
        unasked[stream] = None
        if len(unasked) > self._settings.requests_max:
            del unasked[next(iter(unasked))]

    def _on_message(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        state = self._streams[stream]
        if opcode == UPDATE_CHUNK:
            if state is None:
                state = self._streams[stream] = Stream(self._window_of_peer, self._window)
            state.received(arg, len(payload))
            self._role.on_other(opcode, flags, aux, stream, arg, payload)
            return
        if opcode in _ONCE and (state is None or state.asked):
            raise ProtocolError("invalid_request", f"{opcodes.NAMES[opcode]} on stream {stream}, which has its request")
        if state is not None:
            try:
                message = self._join(stream, state, opcode, flags, payload)
            except MessageTooLargeError as error:
                self._forget(stream, state)
                self._role.on_cancel(stream)
                if opcode == TENSOR:
                    self._pass_over(stream)
                    flags = 0
                self._refuse(stream, flags, error)
                return
            if message is None:
                return
            payload = message
            flags &= ~MORE
        if state is not None and not state.asked:
            if opcode in _ONCE:
                state.asked = True
                if self._stalls:
                    self._stalls.pop(stream, None)
            elif opcode == TENSOR:
                self._wait(stream)
        self._tell(opcode, flags, aux, stream, arg, payload)

    def _tell(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """Hand on a whole message."""
        if opcode == INFER_REQUEST:
            if flags & RESUMABLE and not flags & TENSORS:  # tensors are too much to keep
                self._keep(stream)
            self._role.on_request(stream, flags, arg, payload)
        elif opcode == MESSAGE:
            self._role.on_message(stream, payload)
        elif opcode == RESUME:
            self._resume(stream, arg, payload)
        else:
            self._role.on_other(opcode, flags, aux, stream, arg, payload)

    # Ends.

    def _cancelled(self, stream: int) -> None:
        if stream > self._last_stream or not stream & 1:
            raise self._violation(CANCEL, stream)
        if self._skipping is not None:
            self._skipping.discard(stream)
        if stream in self._streams:
            self._drop(stream, self._streams[stream])

    def _end_with(self, stream: int, opcode: int, payload: bytes, flags: int = 0, aux: int = 0, arg: int = 0) -> bool:
        state = self._streams.get(stream, ABSENT)
        if state is ABSENT or (state is not None and state.ended):
            return self._end_left(stream, (opcode, flags, aux, arg, payload))
        if state is not None:
            if opcode == INFER_RESPONSE:
                arg = state.seq
            if state.ring is not None:
                state.ring.close((opcode, flags, aux, arg, payload))
            if not state.asked:
                self._pass_over(stream)
            elif state.fragments is not None:
                self._skip(stream)
        self._end(stream, self._frames(opcode, stream, payload, flags, aux, arg), state, at_once=opcode == ERROR)
        return True

    def _give_up(self, stream: int, error: AutoGLMError) -> None:
        state = self._streams[stream]
        self._drop(stream, state)
        if state is not None and not state.asked:
            self._pass_over(stream)
        self._refuse(stream, MORE if state is not None and state.asked and state.fragments is not None else 0, error)

    def _drained(self, now_s: float) -> None:
        if now_s >= self._until_s:
            for stream in [*self._streams]:
                if stream not in self._streams:
                    continue  # a callback has ended it
                self._give_up(stream, ServerError("server_draining", "the server stops"))
        if self.settled(now_s):
            self.goodbye("server_draining", "the server stops")
