"""Clients of a gateway: each asks one question and notes exactly what it sees, byte for byte, judging nothing.

It reads answers with code of its own, not with that of the server, so that a mistake there cannot hide here. A kept
connection that was closed before the first byte of an answer is replaced once, as every HTTP client does.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import httptools

from open_autoglm.testing.speech import TOKENS, tokens_of

_IDLE_MAX: Final = 8
_IDLE_S: Final = 4.0
"""A kept connection is used for so long; servers keep them longer."""

End = Literal["", "whole", "cut", "left", "refused"]


@dataclass(slots=True)
class Question:
    """What a client asks, and how it behaves.

    Attributes:
        id: sent as `x-request-id`.
        text: the prompt; the right answer follows from it.
        tokens: of the answer; it is asked for so few, unless that is all there are.
        model, stream: as in the body.
        key: sent as a bearer token; empty for none.
        headers: others.
        limit_s: sent as the request's time limit; 0.0 for none.
        leaves_after_s: when the client closes its connection, counted from sending; 0.0 for never.
        reads_after_s: how long it reads nothing after it has sent, as a client that is busy; 0.0 for at once.
        more: further fields of the body.
    """

    id: str
    text: str
    tokens: int = 10
    model: str = "chat"
    stream: bool = False
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    limit_s: float = 0.0
    leaves_after_s: float = 0.0
    reads_after_s: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def right(self) -> str:
        """The right answer."""
        return "".join(tokens_of(self.text)[: self.tokens])

    def bytes(self, host: str) -> bytes:
        """The request as it goes out."""
        fields = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.text}],
            **({"max_tokens": self.tokens} if self.tokens < TOKENS else {}),
            **({"stream": True} if self.stream else {}),
            **self.more,
        }
        body = json.dumps(fields, ensure_ascii=False).encode()
        lines = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": self.id,
            **({"authorization": f"Bearer {self.key}"} if self.key else {}),
            **({"x-request-timeout-ms": str(int(self.limit_s * 1000))} if self.limit_s else {}),
            **self.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body


@dataclass(slots=True)
class Seen:
    """What a client saw.

    Attributes:
        sent_s, first_s, ended_s: loop time: asked, first text seen, over; 0.0 until then.
        end: `whole` when the HTTP message was complete, `cut` when the connection ended before, `left` when the client
            went away, `refused` when there was no connection to be had.
        ends: how often it ended; one, if all is well.
        status, headers: of the answer; 0 and empty before.
        text, roles, finish, done: of the answer: text, how often a role was told, finish reason, `[DONE]`.
        error: the error object of the body or of an event.
        late: events after an error or after `[DONE]`.
        unreadable: what was no JSON.
        failover: the `x_mcp_failover` of the last event, if there was one.
    """

    sent_s: float = 0.0
    first_s: float = 0.0
    ended_s: float = 0.0
    end: End = ""
    ends: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    roles: int = 0
    finish: str = ""
    done: bool = False
    error: dict[str, Any] | None = None
    late: int = 0
    unreadable: str = ""
    failover: dict[str, Any] | None = None

    @property
    def right(self) -> bool:
        """Whether it claims to be a whole, good answer."""
        return self.end == "whole" and self.status == 200 and self.error is None

    def told(self) -> str:
        """One line for people."""
        code = self.error.get("code") if self.error else ""
        words = [
            str(self.status),
            self.end,
            f"{len(self.text)} chars",
            self.finish,
            "[DONE]" if self.done else "",
            code,
        ]
        return " ".join(str(word) for word in words if word)


class Clients:
    """All clients on one virtual host.

    Args:
        host, port: of the gateway.

    Attributes:
        seen: what they saw, by the question's id, in the order of asking.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.seen: dict[str, tuple[Question, Seen]] = {}
        self._idle: list[_Connection] = []

    async def ask(self, question: Question, *, fresh: bool = False) -> Seen:
        """Ask and wait for the end, whatever it is.

        Args:
            question: what.
            fresh: on a connection of its own.
        """
        loop = asyncio.get_running_loop()
        seen = Seen(sent_s=loop.time())
        self.seen[question.id] = question, seen
        kept = None if fresh else self._take(loop.time())
        if kept is not None and await kept.exchange(question, seen, reused=True):
            return seen
        try:
            _, made = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except OSError:
            seen.end, seen.ended_s, seen.ends = "refused", loop.time(), seen.ends + 1
            return seen
        await made.exchange(question, seen)
        return seen

    def _take(self, now_s: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now_s - connection.since_s < _IDLE_S:
                return connection
            connection.close()
        return None

    def keep(self, connection: _Connection) -> None:
        """Take back a connection whose answer is whole."""
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self._idle.pop().close()


class _Connection(asyncio.Protocol):
    """One connection of a client; it carries one question at a time."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser: Any = None
        self._seen: Seen | None = None
        self._over: asyncio.Future[bool] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._stream = self._keep = self._reused = self._touched = False
        self._body = b""
        self.usable = True
        self.since_s = 0.0

    async def exchange(self, question: Question, seen: Seen, *, reused: bool = False) -> bool:
        """Ask and wait; False when the reused connection turned out to be closed before anything came."""
        self._seen = seen
        self._reused = reused
        self._touched = self._stream = self._keep = False
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        over: asyncio.Future[bool] = self._loop.create_future()
        self._over = over
        if not self.usable:
            self._end("cut")
            return await over
        self._transport.write(question.bytes(self._clients.host))
        if question.leaves_after_s:
            self._timers.append(self._loop.call_later(question.leaves_after_s, self._leave))
        if question.reads_after_s:
            self._transport.pause_reading()
            self._timers.append(self._loop.call_later(question.reads_after_s, self._transport.resume_reading))
        return await over

    def close(self) -> None:
        """Close in order."""
        self.usable = False
        self._transport.close()

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._touched = True
        if self._seen is None:
            self.close()  # an answer that nobody asked for; what comes next on this connection would be suspect
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._seen is not None:
                self._seen.unreadable = f"not HTTP: {error}"
                self._end("cut")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._end("cut")

    # The parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._seen is not None:
            self._seen.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        seen = self._seen
        self._keep = self._parser.should_keep_alive()
        if seen is not None:
            seen.status = self._parser.get_status_code()
            self._stream = seen.headers.get("content-type", "").startswith("text/event-stream")

    def on_body(self, body: bytes) -> None:
        self._body += body
        while self._stream and self._seen is not None:
            event, found, rest = self._body.partition(b"\n\n")
            if not found:
                break
            self._body = rest
            _read_event(self._seen, event, self._loop.time())

    def on_message_complete(self) -> None:
        if self._seen is not None and not self._stream:
            _read_body(self._seen, self._body, self._loop.time())
        self._end("whole")

    # Inside.

    def _leave(self) -> None:
        """The client goes away, with a reset or in order."""
        self.usable = False
        if self._loop.time() % 0.002 < 0.001:
            self._transport.abort()
        else:
            self._transport.close()
        self._end("left")

    def _end(self, end: End) -> None:
        seen, over = self._seen, self._over
        self._seen = self._over = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if seen is None or over is None:
            return
        if end == "cut" and self._reused and not self._touched:
            over.set_result(False)
            return
        seen.end = end
        seen.ends += 1
        seen.ended_s = self.since_s = self._loop.time()
        if not over.done():
            over.set_result(True)
        if end == "whole" and self._keep and self.usable:
            self._transport.resume_reading()
            self._clients.keep(self)
        elif end == "whole":
            self.close()


def _read_event(seen: Seen, event: bytes, now_s: float) -> None:
    if not event.startswith(b"data:"):
        return  # a comment
    data = event[5:].strip()
    if seen.done or seen.error is not None:
        seen.late += 1
        return
    if data == b"[DONE]":
        seen.done = True
        return
    try:
        value = json.loads(data)
    except ValueError:
        seen.unreadable = repr(data[:80])
        return
    if "error" in value:
        seen.error = value["error"]
        return
    seen.failover = value.get("x_mcp_failover", seen.failover)
    for choice in value.get("choices", ()):
        delta = choice.get("delta", {})
        seen.roles += "role" in delta
        if delta.get("content"):
            seen.first_s = seen.first_s or now_s
            seen.text += delta["content"]
        seen.finish = choice.get("finish_reason") or seen.finish


def _read_body(seen: Seen, body: bytes, now_s: float) -> None:
    try:
        value = json.loads(body)
    except ValueError:
        seen.unreadable = repr(body[:80])
        return
    seen.error = value.get("error")
    for choice in value.get("choices", ()):
        seen.text += choice["message"]["content"]
        seen.finish = choice.get("finish_reason") or ""
        seen.first_s = now_s
