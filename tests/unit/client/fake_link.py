"""A connection and a link that do what a test says, with the interface of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import Welcome
from open_autoglm.protocol.wire_error import write_error

CODEC = CODECS["msgpack"]


class FakeConnection:
    """The protocol's side of a session: remembers what was asked of it."""

    def __init__(self, session: FakeSession, token: str) -> None:
        self._session = session
        self.welcome = Welcome(version="1.0", codec="msgpack", resume=token)
        self.finished = False
        self.out: list[bytes] = []
        self.goodbyes: list[str] = []
        self.resumed: list[tuple[str, int, int]] = []

    def goodbye(self, code: str, message: str) -> None:
        self.goodbyes.append(code)
        self._session.lose(message)

    def resume(self, token: str, stream: int, seq: int) -> int:
        if not self._session.room:
            return 0
        self.resumed.append((token, stream, seq))
        return self._session.next_stream()


class FakeSession:
    """See `transport.framed_session.FramedSession`."""

    def __init__(self, token: str = "token", room: int = 100) -> None:
        self.connection = FakeConnection(self, token)
        self.handlers: dict[int, Any] = {}
        self.requests: list[tuple[bytes, int, int]] = []
        self.cancelled: list[int] = []
        self.consumed = 0
        self.room = room
        self._streams = 1

    def next_stream(self) -> int:
        self._streams += 2
        return self._streams

    def request(self, handler: Any, payload: bytes, flags: int, remaining_ms: int) -> int:
        if len(self.handlers) >= self.room:
            return 0
        self.requests.append((payload, flags, remaining_ms))
        stream = self.next_stream()
        self.handlers[stream] = handler
        return stream

    def consume(self, stream: int, size: int) -> None:
        self.consumed += size

    def cancel(self, stream: int) -> None:
        if self.handlers.pop(stream, None) is not None:
            self.cancelled.append(stream)

    # What a test does.

    def answer(self, payload: bytes, chunks: int = 0) -> None:
        """Answer the request that has waited longest."""
        stream = min(self.handlers)
        self.handlers.pop(stream).on_response(0, chunks, payload)

    def fail(self, error: Any) -> None:
        """Refuse the request that has waited longest."""
        flags, aux, arg, payload = write_error(CODEC, error)
        self.handlers.pop(min(self.handlers)).on_error(aux, flags, arg, payload)

    def lose(self, detail: str = "cut") -> None:
        """Lose the connection."""
        self.connection.finished = True
        handlers, self.handlers = self.handlers, {}
        for handler in handlers.values():
            handler.on_lost(detail)


class FakeLink:
    """See `transport.framed_client.FramedLink`."""

    def __init__(self) -> None:
        self.session: FakeSession | None = None
        self.failure = ("", "")
        self.on_change: Callable[[Any], None]
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    # What a test does.

    def open(self, session: FakeSession) -> FakeSession:
        """A connection has been opened."""
        self.session, self.failure = session, ("", "")
        self.on_change(self)
        return session

    def lose(self) -> None:
        """The connection is lost."""
        session, self.session = self.session, None
        self.on_change(self)
        if session is not None:
            session.lose()

    def fail(self, code: str, message: str) -> None:
        """A connection could not be opened."""
        self.failure = (code, message)
        self.on_change(self)
