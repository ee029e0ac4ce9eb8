"""One end of a connection: what both roles share. Sans-I/O: bytes and seconds go in, frames come out in `out`.

A shell owns the socket: it gives what it reads to `receive`, writes what `take` returns once per turn of its loop,
calls `handle_timeout` at `next_deadline`, and closes when `finished` and everything is written. While it cannot write
it does not read either; that bounds `out`.

| state | `opened` | `finished` | takes |
|---|---|---|---|
| opening | no | no | the handshake |
| open | yes | no | every frame; a draining one opens no more streams |
| finished | any | yes | nothing |

Invariant: of a stream that is not open nothing goes out, and what comes for it is passed over; open streams, bytes that
wait and bytes of messages that are not whole have limits. Source: `docs/protocol.md`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from open_autoglm.errors import CODES, AutoGLMError
from open_autoglm.protocol.codecs import CODECS, JSON, Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import HEADER, FrameReader, encode_frame
from open_autoglm.protocol.handshake import HELLO_BYTES_MAX, WINDOW_BYTES_MOST, Welcome
from open_autoglm.protocol.opcodes import GOODBYE, INFER_CHUNK, MORE, NAMES, PING, PONG, WINDOW
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.sinks import ConnectionSink
from open_autoglm.protocol.streams import ABSENT, Stream, pieces_of
from open_autoglm.protocol.wire_error import MESSAGE_CHARS_MAX, read_error

_pack = HEADER.pack
_HTTP = b"HTTP/"
_SPEAKS_HTTP = "the other side answers in HTTP, not in frames: is this the port of a server or node for `mcp://`?"


class Connection:
    """See the module.

    Args:
        sink: hears what comes.
        wake: called when `out` gets its first frame: the shell then calls `take` before its loop turns.
        settings: limits.
        now_s: monotonic seconds.

    Attributes:
        out: frames to be written; `take` empties it.
        codec: of bodies, JSON until WELCOME.
        welcome: what was agreed on; None while `opened` is False.
        opened, draining, finished: see the module.
    """

    __slots__ = (
        "_awaited",
        "_chunk_bytes_max",
        "_fragments_bytes",
        "_frame_bytes_max",
        "_heard_s",
        "_pinged_s",
        "_reader",
        "_room",
        "_settings",
        "_settled_s",
        "_sink",
        "_stalls",
        "_streams",
        "_until_s",
        "_wake",
        "_window",
        "_window_of_peer",
        "codec",
        "draining",
        "finished",
        "opened",
        "out",
        "welcome",
    )

    def __init__(
        self, sink: ConnectionSink, wake: Callable[[], None], settings: ConnectionSettings, now_s: float
    ) -> None:
        self._sink = sink
        self._wake = wake
        self._settings = settings
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._streams: dict[int, Stream | None] = {}
        self._stalls: dict[int, float] | None = None
        self._room = 0  # how many streams may be open; 0 unless new ones may come
        self._window = settings.window_bytes
        self._window_of_peer = 0
        self._chunk_bytes_max = 0
        self._frame_bytes_max = HELLO_BYTES_MAX
        self._fragments_bytes = 0
        self._heard_s = now_s
        self._pinged_s = -inf
        self._awaited = -1  # number of the PING behind DRAIN whose PONG has not come; -1 when there is none
        self._settled_s = -inf  # when it is waited for no longer
        self._until_s = now_s + settings.handshake_s  # the end of the handshake, then that of draining
        self.out: list[bytes] = []
        self.codec: Codec = JSON
        self.welcome: Welcome | None = None
        self.opened = False
        self.draining = False
        self.finished = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def heard_s(self) -> float:
        """When the peer's last bytes came, monotonic seconds; when this was made, before the first."""
        return self._heard_s

    # What the shell calls.

    def receive(self, data: bytes, now_s: float) -> None:
        """Take the next block from the peer. Raises nothing but what a callback raises."""
        if self.finished:
            return
        self._heard_s = now_s
        try:
            self._reader.feed(data, self)
        except ProtocolError as error:
            if self.welcome is None and data.startswith(_HTTP):  # read as a length, which says nothing to anybody
                self.goodbye("invalid_request", _SPEAKS_HTTP)
            else:
                self.goodbye(error.code, error.message)

    def take(self) -> list[bytes]:
        """What is to be written, in order; it is the caller's from now on."""
        out, self.out = self.out, []
        return out

    def lose(self, now_s: float, message: str = "the connection was lost") -> None:
        """The peer's end of the stream has come, or the socket failed: nothing more can be written."""
        self._heard_s = max(self._heard_s, now_s)
        self._finish("stream_interrupted", message)
        self.out = []

    def next_deadline(self) -> float:
        """When `handle_timeout` is due, monotonic seconds; infinite when never."""
        if self.finished:
            return inf
        if self.welcome is None:
            return self._until_s
        if self._until_s < inf and not self._streams:
            return self._heard_s if self._awaited < 0 else self._settled_s
        heartbeat_s = self.welcome.heartbeat_ms / 1000
        due_s = self._heard_s + heartbeat_s
        if self._pinged_s >= self._heard_s:
            due_s = max(due_s, self._pinged_s) + heartbeat_s
        if self._stalls:
            if inf in self._stalls.values():
                return self._heard_s
            due_s = min(due_s, min(self._stalls.values()) + self._settings.stall_s)
        return min(due_s, self._until_s)

    def handle_timeout(self, now_s: float) -> None:
        """Do what is due."""
        if self.finished:
            return
        if self.welcome is None:
            if now_s >= self._until_s:
                self.goodbye("request_timeout", f"no handshake in {self._settings.handshake_s:g} s")
            return
        heartbeat_s = self.welcome.heartbeat_ms / 1000
        silence_s = now_s - self._heard_s
        if self._pinged_s >= self._heard_s:
            # Who asks late, since the process stood still, waits as long for the answer.
            if silence_s >= 2 * heartbeat_s and now_s - self._pinged_s >= heartbeat_s:
                self.goodbye("request_timeout", f"nothing was heard for {silence_s:.1f} s")
                return
        elif silence_s >= heartbeat_s:
            self._pinged_s = now_s
            self._write(encode_frame(PING, 0, arg=int(now_s * 1000) & 0xFFFFFFFF))
        if self._stalls:
            self._look_at_stalls(self._stalls, now_s)
        if self._until_s < inf:
            self._drained(now_s)

    # What the role calls.

    def chunk(self, stream: int, payload: bytes, flags: int = 0, choice: int = 0, opcode: int = INFER_CHUNK) -> int:
        """Send a chunk; the connection counts them. It waits here when the peer's credit is used up.

        Args:
            stream: of an open stream; of any other nothing is sent.
            payload: text of whole characters, which may be cut into several chunks; of any `opcode` but INFER_CHUNK at
                most half of the peer's window.
            flags: REASONING or 0.
            choice: 0 to 65,535; the frame's `aux`.
            opcode: INFER_CHUNK or UPDATE_CHUNK.

        Returns:
            How many bytes are off; for the others `on_credit` says so when they are. A producer that can pause does so
            while that is less than it gave.
        """
        state = self._streams.get(stream, ABSENT)
        if state is None:
            state = self._streams[stream] = Stream(self._window_of_peer, self._window)
        size = len(payload)
        if size > state.credit or state.waiting or size > self._chunk_bytes_max or state.ring is not None:
            return self._chunk_slowly((stream, payload, flags, choice, opcode), state)
        state.credit -= size
        out = self.out
        if not out:
            self._wake()
        out.append(_pack(size, opcode, flags, choice, stream, state.seq) + payload)
        state.seq += 1
        return size

    def consume(self, stream: int, size: int) -> None:
        """Say that so many bytes of chunks were taken on: the peer gets credit again for half a window at once."""
        state = self._streams.get(stream)
        if state is None:
            return
        window = self._window
        state.consumed = min(state.consumed + size, window - state.room)
        if state.consumed * 2 >= window:
            self._write(encode_frame(WINDOW, stream, arg=state.consumed))
            state.room += state.consumed
            state.consumed = 0

    def send(self, opcode: int, stream: int, payload: bytes = b"", flags: int = 0, aux: int = 0, arg: int = 0) -> bool:
        """Send any message but a chunk: on stream 0, or on an open stream, which goes on.

        Returns:
            False when it went nowhere, because the stream or the connection has ended.
        """
        if not self.opened or self.finished or (stream and stream not in self._streams):
            return False
        for frame in self._frames(opcode, stream, payload, flags, aux, arg):
            self._write(frame)
        return True

    def goodbye(self, code: str, message: str) -> None:
        """End the connection and say why.

        Args:
            code: one of `errors.CODES`.
            message: for the peer: no secrets.
        """
        if self.finished:
            return
        payload = self.codec.encode({"code": code, "message": message[:MESSAGE_CHARS_MAX]})
        self._write(encode_frame(GOODBYE, 0, payload, aux=CODES[code].http_status))
        self._finish(code, message)

    # What the subclasses share.

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """See `FrameSink.on_frame`."""
        raise NotImplementedError

    def _open(self, welcome: Welcome, window_of_peer: int) -> None:
        self.welcome = welcome
        self.codec = CODECS[welcome.codec]
        self.opened = True
        self._until_s = inf
        self._window_of_peer = window_of_peer
        self._frame_bytes_max = self._reader.frame_bytes_max = welcome.frame_bytes_max
        self._chunk_bytes_max = min(welcome.frame_bytes_max, window_of_peer // 2)
        self._room = welcome.requests_max

    def _write(self, frame: bytes) -> None:
        if not self.out:
            self._wake()
        self.out.append(frame)

    def _frames(self, opcode: int, stream: int, payload: bytes, flags: int, aux: int, arg: int) -> list[bytes]:
        """A message as one frame, or as many fragments as it needs."""
        size = self._frame_bytes_max
        if len(payload) <= size:
            return [encode_frame(opcode, stream, payload, flags, aux, arg)]
        starts = range(0, len(payload), size)
        more = [flags | MORE] * (len(starts) - 1)
        return [
            encode_frame(opcode, stream, payload[start : start + size], bits, aux, arg)
            for start, bits in zip(starts, [*more, flags], strict=True)
        ]

    def _chunk_slowly(self, chunk: tuple[int, bytes, int, int, int], state: Stream) -> int:
        stream, payload, flags, choice, opcode = chunk
        if state is ABSENT or state.ended:
            return self._chunk_left(chunk)
        if opcode != INFER_CHUNK and len(payload) > self._chunk_bytes_max:
            raise ProtocolError(
                "request_too_large", f"a chunk of {len(payload)} bytes: {self._chunk_bytes_max} at most"
            )
        gone = 0
        for piece in pieces_of(payload, self._chunk_bytes_max):
            if state.ring is not None:
                state.ring.append(flags, choice, piece)
            gone += self._put_chunk(stream, state, (opcode, flags, choice, piece), len(piece))
        if state.waiting_bytes > self._settings.waiting_bytes_max:
            self._give_up(stream, ProtocolError("overloaded", f"{state.waiting_bytes} bytes of chunks wait for credit"))
        return gone

    def _chunk_left(self, chunk: tuple[int, bytes, int, int, int]) -> int:
        """Take a chunk of a stream that is not open here: it goes nowhere."""
        return len(chunk[1])

    def _put_chunk(self, stream: int, state: Stream, chunk: tuple[int, int, int, bytes], owed: int) -> int:
        """Send one chunk or let it wait; `owed` bytes are to be released when it goes."""
        opcode, flags, choice, piece = chunk
        size = len(piece)
        frame = _pack(size, opcode, flags, choice, stream, state.seq) + piece
        state.seq += 1
        if not state.waiting and size <= state.credit:
            state.credit -= size
            self._write(frame)
            return size
        if state.waiting is None:
            state.waiting = deque()
        if not state.waiting:
            self._wait(stream)
        state.waiting.append((size, owed, frame))
        state.waiting_bytes += size
        return 0

    def _flush(self, stream: int, state: Stream) -> None:
        """Let go what waits, as far as the credit goes."""
        waiting = state.waiting
        if not waiting:
            return
        released = 0
        while waiting and waiting[0][0] <= state.credit:
            size, owed, frame = waiting.popleft()
            state.credit -= size
            state.waiting_bytes -= size
            released += owed
            self._write(frame)
        if self._stalls is not None:
            self._stalls.pop(stream, None)
            if waiting:
                self._stalls[stream] = self._heard_s
        if state.ended and not waiting:
            self._streams.pop(stream, None)
        elif released:
            self._release(stream, state, released)

    def _release(self, stream: int, state: Stream, released: int) -> None:
        self._sink.on_credit(stream, released)

    def _end(self, stream: int, frames: list[bytes], state: Stream | None, *, at_once: bool = False) -> None:
        """Send what ends a stream, behind the chunks that wait unless `at_once`."""
        if state is not None and state.waiting and not at_once:
            state.waiting.extend((0, 0, frame) for frame in frames)
            state.ended = True
            return
        self._forget(stream, state)
        for frame in frames:
            self._write(frame)

    def _forget(self, stream: int, state: Stream | None) -> None:
        """Drop a stream with all that is kept of it."""
        self._streams.pop(stream, None)
        if state is not None and state.fragments is not None:
            self._fragments_bytes -= len(state.fragments)
        if self._stalls:
            self._stalls.pop(stream, None)

    def _wait(self, stream: int) -> None:
        """From now on the peer has to do something for a stream: when that was is for the next timeout to say."""
        self._stalls = self._stalls or {}
        self._stalls[stream] = inf

    def _look_at_stalls(self, stalls: dict[int, float], now_s: float) -> None:
        limit_s = self._settings.stall_s
        for stream, since_s in list(stalls.items()):
            if since_s == inf:
                stalls[stream] = now_s
            elif now_s - since_s >= limit_s and stream in self._streams:  # a callback may have ended it
                state = self._streams[stream]
                missing = "credit" if state is not None and state.waiting else "more of the message"
                self._give_up(stream, ProtocolError("request_timeout", f"no {missing} came in {limit_s:g} s"))

    def _give_up(self, stream: int, error: AutoGLMError) -> None:
        """End a stream whose reader is too slow."""
        raise NotImplementedError

    def _drained(self, now_s: float) -> None:
        """See whether a draining connection can end."""

    def _join(self, stream: int, state: Stream, opcode: int, flags: int, payload: bytes) -> bytes | None:
        """Add a fragment; returns the message when it is whole.

        Raises:
            ProtocolError: `invalid_request`: another message began before this one was whole.
            MessageTooLargeError: the message, or all of them together, have more bytes than is allowed.
        """
        welcome = self.welcome
        if state.fragments is None:
            if not flags & MORE:
                return payload
            state.fragments = bytearray()
            state.fragments_opcode = opcode
        elif state.fragments_opcode != opcode:
            name = NAMES.get(state.fragments_opcode, "")
            raise ProtocolError("invalid_request", f"opcode {opcode} on stream {stream} within the fragments of {name}")
        size = len(state.fragments) + len(payload)
        limit = welcome.message_bytes_max if welcome is not None else 0
        self._fragments_bytes += len(payload)
        state.fragments += payload
        if size > limit:
            raise MessageTooLargeError("request_too_large", f"a message of more than {limit} bytes")
        if self._fragments_bytes > 2 * limit:
            raise MessageTooLargeError("overloaded", f"more than {2 * limit} bytes of messages that are not whole")
        if flags & MORE:
            self._wait(stream)
            return None
        if self._stalls:
            self._stalls.pop(stream, None)
        message = bytes(state.fragments)
        self._fragments_bytes -= size
        state.fragments = None
        return message

    def _control(self, opcode: int, stream: int, arg: int, payload: bytes, aux: int) -> bool:
        """Frames that mean the same for both roles; returns whether this was one."""
        if opcode == PING:
            self._write(encode_frame(PONG, 0, arg=arg))
        elif opcode == WINDOW:
            self._credited(stream, arg)
        elif opcode == GOODBYE:
            told = read_error(self.codec, aux, 0, 0, payload)
            self._finish(told.code, told.message)
        elif opcode != PONG:
            return False
        elif arg == self._awaited:
            self._awaited = -1
        return True

    def _credited(self, stream: int, credit: int) -> None:
        state = self._streams.get(stream, ABSENT)
        if not stream or not credit:
            raise ProtocolError("invalid_request", f"WINDOW of {credit} bytes for stream {stream}")
        if state is ABSENT:
            return
        if state is None:
            state = self._streams[stream] = Stream(self._window_of_peer, self._window)
        if state.credit + credit > WINDOW_BYTES_MOST:
            raise ProtocolError("invalid_request", f"credit of more than {WINDOW_BYTES_MOST} bytes on stream {stream}")
        state.credit += credit
        self._flush(stream, state)

    def _violation(self, opcode: int, stream: int) -> ProtocolError:
        name = NAMES.get(opcode, f"opcode {opcode}")
        return ProtocolError("invalid_request", f"{name} on stream {stream} makes no sense here")

    def _finish(self, code: str, message: str) -> None:
        if self.finished:
            return
        self.finished = True
        self._room = 0
        self._lose_streams()
        self._sink.on_closed(code, message)

    def _lose_streams(self) -> None:
        self._streams.clear()
        self._stalls = None
        self._fragments_bytes = 0


class MessageTooLargeError(ProtocolError):
    """A message is longer than it may be; its stream ends, the connection does not."""
