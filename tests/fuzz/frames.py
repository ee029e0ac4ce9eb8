"""Feeds bytes to either end of a framed connection, in one block and in many: both must come to the same.

The first byte chooses the end, whether the handshake has been made, and the splits; the rest is what the peer sends.
The roles behind the ends answer, decode bodies and move credit, by what the payloads say, so that states are left as
well.
Without a driver: `python -m tests.fuzz.frames FILE…`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Final

from open_autoglm.errors import ServerError
from open_autoglm.protocol import (
    CODECS,
    PREFACE,
    ClientConnection,
    Connection,
    ConnectionSettings,
    Hello,
    ProtocolError,
    ResumeStore,
    ServerConnection,
    encode_frame,
    read_error,
)
from open_autoglm.protocol.frames import HEADER_BYTES, FrameReader
from open_autoglm.protocol.handshake import HELLO_BYTES_MAX, Welcome, write_hello, write_welcome
from open_autoglm.protocol.opcodes import (
    GOODBYE,
    INFER_REQUEST,
    LAST,
    MORE,
    NAMES,
    RESUMABLE,
    RESUME,
    STREAM,
    UPDATE_CHUNK,
)
from open_autoglm.protocol.preambles import read_request, read_response, read_tensor, write_request, write_response

SETTINGS: Final = ConnectionSettings(
    frame_bytes_max=65_536,
    message_bytes_max=2048,
    requests_max=4,
    window_bytes=65_536,
    waiting_bytes_max=100_000,
)
HELLO: Final = Hello(versions=["1.0"], codecs=["json"], window=65_536)
WELCOME: Final = Welcome(
    version="1.0", codec="json", frame_bytes_max=65_536, message_bytes_max=65_536, requests_max=4, window=65_536
)
REQUEST: Final = write_request("m") + b'{"prompt":"a"}'
RESPONSE: Final = write_response(1, 2, "stop", 1, "v", "m") + b"{}"
TOKENS: Final = [
    PREFACE, encode_frame(1, 0, write_hello(HELLO)), encode_frame(2, 0, write_welcome(WELCOME)),
    *(encode_frame(opcode, stream) for opcode in NAMES for stream in (0, 1)),
    *(encode_frame(INFER_REQUEST, stream, REQUEST, flags) for stream in (1, 3, 5, 7) for flags in (0, 1, 5, MORE)),
    *(encode_frame(11, stream, RESPONSE, 0, 0, chunks) for stream in (1, 3) for chunks in (0, 1, 2)),
    *(encode_frame(12, 1, b"chunk", 0, 0, seq) for seq in (0, 1, 2)), encode_frame(12, 3, b"x" * 3000),
    encode_frame(5, 1, b"", 0, 0, 65_536), encode_frame(5, 1, b"", 0, 0, 2**31 - 1), encode_frame(13, 1),
    encode_frame(14, 1, b'{"code":"overloaded"}', 32, 503, 10), encode_frame(7, 9, b'{"token":"t","stream":1}'),
    encode_frame(7, 11, b'{"token":"t","stream":3}', 0, 0, 1), encode_frame(9, 1, b"{}", LAST),
    encode_frame(32, 5, b"u"), encode_frame(UPDATE_CHUNK, 5, b"u" * 1000), encode_frame(19, 7, b"\0\0\0\0abcd", LAST),
    encode_frame(INFER_REQUEST, 1, b"chunks"), encode_frame(INFER_REQUEST, 3, b"fail"),
    encode_frame(INFER_REQUEST, 1, b"x" * 1500, MORE), encode_frame(8, 0, b'{"code":"x","message":"y"}', 0, 400),
    b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x10", b"\0\0\0\1", b"\0\1\0\0", b"\x02", b"\x0a", b"\x0c",
]  # fmt: skip
ROOM_BYTES: Final = SETTINGS.frame_bytes_max + HEADER_BYTES


def fuzz_one(data: bytes) -> None:
    """Feed one input.

    Raises:
        AssertionError: an end broke a promise; any other exception is a defect of it as well.
    """
    if not data:
        return
    choice, payload = data[0], data[1:]
    run = _served if choice & 1 else _asked
    opened = bool(choice & 2)
    whole = run([payload], opened)
    assert whole == run(_split(payload, random.Random(choice)), opened), "how the bytes are cut changes nothing"
    _read(payload)


class _Role:
    """Notes what it hears, and does something about it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.connection: Any = None

    def on_hello(self, hello: Hello) -> None:
        self.heard.append(("hello", hello))
        self.connection.accept("c", "t", "me")

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        self.heard.append(("request", stream, flags, remaining_ms, payload))
        _read(payload)
        connection = self.connection
        if payload.startswith(b"fail"):
            connection.fail(stream, ServerError("overloaded", "no"))
        elif flags & STREAM or payload.startswith(b"chunks"):
            for _ in range(4):
                connection.chunk(stream, b"\xe4\xb8\xad" * 10_000)
            if not flags & MORE and len(payload) & 1:
                connection.respond(stream, RESPONSE)
        elif len(payload) & 1:
            connection.respond(stream, payload)

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        self.heard.append(("chunk", stream, flags, choice, seq, payload))
        self.connection.consume(stream, len(payload))

    def on_cancel(self, stream: int) -> None:
        self.heard.append(("on_cancel", stream))
        for other in [*self.connection._streams] if stream % 8 == 5 else []:
            self.connection.respond(other, RESPONSE)
        if stream % 8 == 7:
            self.connection.goodbye("internal_error", "enough")

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        self.heard.append(("other", opcode, flags, aux, stream, arg, payload))
        if opcode == UPDATE_CHUNK:
            self.connection.consume(stream, len(payload))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.heard.append((name, *arguments))


def _served(parts: list[bytes], opened: bool) -> Any:
    store, role = ResumeStore(streams_max=3, bytes_max=100_000), _Role()
    end = role.connection = ServerConnection(role, _nothing, SETTINGS, 0.0, store)  # type: ignore[arg-type]
    if opened:
        end.receive(PREFACE + encode_frame(1, 0, write_hello(HELLO)), 0.0)
    result = _feed(end, role, parts)
    assert store.size <= store.bytes_max
    assert len(store) <= store.streams_max
    store.expire(1e9)
    store.expire(2e9)
    assert store.size == 0
    return result


def _asked(parts: list[bytes], opened: bool) -> Any:
    role = _Role()
    end = role.connection = ClientConnection(HELLO, role, _nothing, SETTINGS, 0.0)  # type: ignore[arg-type]
    if opened:
        end.receive(encode_frame(2, 0, write_welcome(WELCOME)), 0.0)
        for flags in (0, STREAM, STREAM | RESUMABLE):
            end.request(REQUEST, flags)
        end.open(RESUME, b"{}")
    return _feed(end, role, parts)


def _feed(end: Connection, role: _Role, parts: list[bytes]) -> Any:
    end.take()
    sent = b""
    for part in parts:
        end.receive(part, 0.0)
        assert end._reader.kept_bytes <= max(HELLO_BYTES_MAX, ROOM_BYTES) + HEADER_BYTES, "one frame is kept"
        assert end.streams <= SETTINGS.requests_max, "so many streams are open"
        _check_streams(end)
        sent += b"".join(end.take())
    finished = end.finished
    for now_s in (9.0, 20.0, 30.0, 61.0, 75.0, 92.0, 200.0):
        if end.next_deadline() <= now_s:
            end.handle_timeout(now_s)
        _check_streams(end)
        sent += b"".join(end.take())
    _check_goodbye(sent)
    end.lose(300.0)
    assert end.finished
    assert end.streams == 0
    closed = [call for call in role.heard if call[0] == "on_closed"]
    assert len(closed) == 1, "an end is told once"
    return role.heard, sent, finished


def _check_goodbye(sent: bytes) -> None:
    """Nothing is said after GOODBYE."""
    role = _Frames()
    FrameReader(1 << 24).feed(sent, role)
    assert GOODBYE not in role.opcodes[:-1]


class _Frames:
    def __init__(self) -> None:
        self.opcodes: list[int] = []

    def on_frame(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        self.opcodes.append(opcode)


def _check_streams(end: Connection) -> None:
    unfinished = 0
    for state in end._streams.values():
        if state is not None:
            assert state.credit >= 0, "credit is never below zero"
            assert state.room >= 0
            assert state.waiting_bytes <= SETTINGS.waiting_bytes_max
            unfinished += len(state.fragments or b"")
    assert unfinished == end._fragments_bytes
    limit = end.welcome.message_bytes_max if end.welcome else 0
    assert unfinished <= 2 * limit, "unfinished messages have a limit together"


def _read(payload: bytes) -> None:
    """Whatever the bytes are, they are read or refused by name."""
    for read in (read_request, read_response, read_tensor):
        _refusing(read, payload)
    for codec in CODECS.values():
        body = _refusing(codec.decode, payload)
        if body is not None:
            again = codec.encode(body)
            assert codec.decode(again) == body
        read_error(codec, 400, 0, 0, payload)


def _refusing(read: Any, payload: bytes) -> Any:
    try:
        return read(payload)
    except ProtocolError:
        return None


def _split(payload: bytes, rng: random.Random) -> list[bytes]:
    parts = []
    at = 0
    while at < len(payload):
        size = rng.choice((1, 3, 15, 16, 17, 40, 200, 5000))
        parts.append(payload[at : at + size])
        at += size
    return parts


def _nothing() -> None:
    pass


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
