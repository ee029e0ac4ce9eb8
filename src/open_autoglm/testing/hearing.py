"""A client as an SDK is one: it asks a gateway once and says exactly what it got to see.

It retries nothing and repairs nothing. Invariant: whatever a gateway does, `ask` returns within its time.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httptools

from open_autoglm.dialects.sse import EventReader
from open_autoglm.secret import Secret

ANSWER_BYTES_MAX: Final = 64 * 2**20
"""Of an answer; the rest is not read."""
_READ_BYTES: Final = 65_536
_SHOWN_CHARS: Final = 300

End = Literal["whole", "broken", "late", "long", "none"]
"""Of an HTTP answer: its framing says so; it broke off; it was not over in time; it is too long; there was none."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a gateway takes requests.

    Attributes:
        host, port: of its listener.
        tls: context for https; None for http.
        path: of chat completions.
        key: sent as a bearer token.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    path: str = "/v1/chat/completions"
    key: Secret | None = field(default=None, repr=False)


@dataclass(slots=True)
class Heard:
    """What a client saw.

    Attributes:
        stream: whether it asked for one.
        asked_s, first_s, ended_s: seconds of the loop's clock; `first_s` is when the first text came, 0.0 for never.
        status: of HTTP; 0 for none.
        headers: of the answer.
        end: how it ended.
        text: of the answer, as far as it was shown.
        finish: the finish reason; empty for none.
        done: whether a stream said `[DONE]`.
        error: message of an error, in one line; empty for none.
        malformed: whether it was given something that is no JSON as if it were an answer, or a part of one.
        model: that the answer names.
        usage: that it counts.
    """

    stream: bool
    asked_s: float
    first_s: float = 0.0
    ended_s: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    end: End = "none"
    text: str = ""
    finish: str = ""
    done: bool = False
    error: str = ""
    malformed: bool = False
    model: str = ""
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the request to the end."""
        return self.ended_s - self.asked_s

    @property
    def whole(self) -> bool:
        """Whether the client takes it for a whole answer."""
        if self.status != 200 or self.error or self.malformed:
            return False
        return self.end == "whole" and (not self.stream or self.done or bool(self.finish) or bool(self.text))


async def ask(door: Door, model: str, question: str, stream: bool, timeout_s: float) -> Heard:
    """Ask a question once.

    Args:
        door: the gateway.
        model: who is asked.
        question: of the user.
        stream: whether the answer is wanted in pieces.
        timeout_s: for all of it.
    """
    loop = asyncio.get_running_loop()
    heard = Heard(stream, loop.time())
    listener = _Listener(heard, loop)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(door.host, door.port, ssl=door.tls)
            writer.write(_request(door, model, question, stream))
            while not listener.over:
                data = await reader.read(_READ_BYTES)
                if not data:
                    listener.closed()
                    break
                listener.feed(data)
    except TimeoutError:
        heard.end = "late"
    except OSError:
        heard.end = "broken"
    finally:
        if writer is not None:
            writer.transport.abort()
    heard.ended_s = loop.time()
    listener.read_body()
    return heard


def _request(door: Door, model: str, question: str, stream: bool) -> bytes:
    fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}]}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(fields).encode()
    lines = [
        f"POST {door.path} HTTP/1.1",
        f"host: {door.host}:{door.port}",
        "content-type: application/json",
        "accept: */*",
        "connection: close",
        f"content-length: {len(body)}",
    ]
    if door.key is not None:
        lines.append(f"authorization: Bearer {door.key.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Listener:
    """Reads one answer, as its bytes come. The methods that begin with `on_` are the parser's."""

    def __init__(self, heard: Heard, loop: asyncio.AbstractEventLoop) -> None:
        self._heard = heard
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._reader = EventReader()
        self._events = False
        self._body = bytearray()
        self._bytes = 0
        self.over = False

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._stop("broken")
        if self._bytes > ANSWER_BYTES_MAX:
            self._stop("long")

    def closed(self) -> None:
        """The gateway has closed the connection, which ends an answer only when nothing else says where it ends."""
        if not self.over:
            framed = {"content-length", "transfer-encoding"} & self._heard.headers.keys()
            self._stop("whole" if self._heard.status and not framed else "broken" if self._heard.status else "none")

    def _stop(self, end: End) -> None:
        if not self.over:
            self._heard.end = end
            self.over = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._heard.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._heard.status = self._parser.get_status_code()
        self._events = "event-stream" in self._heard.headers.get("content-type", "")

    def on_body(self, body: bytes) -> None:
        if not self._events:
            self._body += body
            return
        for _, data in self._reader.feed(body):
            self._read_event(data)
        if self._reader.failure:
            self._heard.malformed = True

    def on_message_complete(self) -> None:
        if self._heard.status >= 200:
            self._stop("whole")

    def _read_event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._heard.done = True
            return
        try:
            value = json.loads(data)
        except ValueError:
            self._heard.malformed = True
            return
        self._read(value)

    def read_body(self) -> None:
        """Read an answer that is no stream, at its end."""
        heard = self._heard
        if self._events or not heard.status:
            return
        try:
            value = json.loads(bytes(self._body))
        except ValueError:
            if heard.status != 200:
                text = bytes(self._body[:_SHOWN_CHARS]).decode("utf-8", "replace")
                heard.error = " ".join(text.split()) or f"status {heard.status}"
            else:
                heard.malformed = heard.end == "whole"
            return
        self._read(value)
        if heard.status != 200 and not heard.error:
            heard.error = f"status {heard.status}"

    def _read(self, value: Any) -> None:
        heard = self._heard
        if not isinstance(value, dict):
            heard.malformed = True
            return
        if value.get("error"):
            error = value["error"]
            text = str(error.get("message") if isinstance(error, dict) else error)
            heard.error = heard.error or " ".join(text[:_SHOWN_CHARS].split()) or "an error without a message"
        heard.model = str(value.get("model") or heard.model)
        if isinstance(value.get("usage"), dict):
            heard.usage = value["usage"]
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            said = choice.get("delta") or choice.get("message") or {}
            text = said.get("content") or ""
            if text and not heard.first_s:
                heard.first_s = self._loop.time()
            heard.text += text
            heard.finish = choice.get("finish_reason") or heard.finish
