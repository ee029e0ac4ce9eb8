"""A client that knows the right answer: it asks one question and judges what came back.

Invariant: every question gets exactly one verdict. A connection that is used again and turns out to be closed before
a byte of the answer came is replaced once, as every HTTP client does.

| verdict | what came |
|---|---|
| right | the whole, exact answer |
| told | a clear error: an error status with its body, or an error event after a true beginning of the text |
| refused | 429 or 503 before any work |
| lost | the connection ended without an answer or an error |
| wrong | anything else: a part shown as whole, other text, text after an error |
| left | the client itself went away, as it was asked to |
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import httptools

Verdict = Literal["right", "told", "refused", "lost", "wrong", "left"]
IDLE_MAX = 512
"""Connections kept for later questions."""


@dataclass(slots=True)
class Question:
    """One request.

    Attributes:
        prompt: decides what the right answer is.
        model, key: as sent.
        stream: as events.
        leave_after_s: go away after this time; None to stay.
        headers: more header lines.
        extra: more fields of the body.
    """

    prompt: str
    model: str = "chat"
    key: str = ""
    stream: bool = False
    leave_after_s: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What became of a question; times are monotonic seconds, `first_s` 0.0 when nothing came."""

    question: Question
    asked_s: float
    first_s: float = 0.0
    ended_s: float = 0.0
    status: int = 0
    verdict: Verdict = "lost"
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def took_s(self) -> float:
        """From asking to the end of the answer."""
        return self.ended_s - self.asked_s


class Connection(asyncio.Protocol):
    """One kept-alive connection; answers one question at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.used = False
        self._done: asyncio.Future[bool] | None = None
        self._parser: Any = None
        self.outcome: Outcome | None = None
        self.body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has closed."""
        self.transport = None
        self._end(False)

    async def ask(self, payload: bytes, outcome: Outcome) -> bool:
        """Send a request and wait for the end of its answer; False when the connection ended before that."""
        assert self.transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.outcome = outcome
        self.body = []
        self.transport.write(payload)
        try:
            return await self._done
        finally:
            self._done = None

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        outcome = self.outcome
        if self._parser is None or outcome is None:
            return
        if not outcome.first_s:
            outcome.first_s = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            outcome.detail = f"not HTTP: {error}"
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Part of the head."""
        if self.outcome is not None:
            self.outcome.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.outcome is not None:
            self.outcome.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Part of the body, without its framing."""
        self.body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole as far as its framing goes."""
        self._end(True)

    def close(self) -> None:
        """Close without waiting."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def _end(self, framed: bool) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(framed)


class Client:
    """Asks over kept-alive connections to one address.

    Args:
        host, port: of the gateway.
        expected: the right text for a prompt.
        timeout_s: after which an answer counts as lost.
    """

    def __init__(self, host: str, port: int, expected: Callable[[str], str], timeout_s: float = 120.0) -> None:
        self.host = host
        self.port = port
        self._expected = expected
        self.patience_s = timeout_s
        self._idle: list[Connection] = []

    async def ask(self, question: Question) -> Outcome:
        """Ask and judge. Never raises for what the gateway does."""
        outcome = Outcome(question, time.monotonic())
        payload = self._payload(question)
        patience_s = self.patience_s if question.leave_after_s is None else question.leave_after_s
        connection: Connection | None = None
        framed = False
        try:
            async with asyncio.timeout(patience_s):
                for _ in range(IDLE_MAX):
                    connection = await self._take()
                    kept = connection.used
                    framed = await connection.ask(payload, outcome)
                    if framed or outcome.first_s or not kept:
                        break
        except TimeoutError:
            outcome.verdict = "lost" if question.leave_after_s is None else "left"
            outcome.detail = f"nothing more within {patience_s:g} s"
            outcome.ended_s = time.monotonic()
            if connection is not None:
                connection.close()
            return outcome
        except OSError as error:
            outcome.detail = f"no connection: {error}"
            outcome.ended_s = time.monotonic()
            return outcome
        outcome.ended_s = time.monotonic()
        assert connection is not None
        self._judge(outcome, b"".join(connection.body), framed)
        self._give_back(connection, outcome, framed)
        return outcome

    def close(self) -> None:
        """Close every idle connection."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.used = True
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    def _give_back(self, connection: Connection, outcome: Outcome, framed: bool) -> None:
        if framed and outcome.headers.get("connection", "").lower() != "close" and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()

    def _payload(self, question: Question) -> bytes:
        body = json.dumps(
            {
                "model": question.model,
                "messages": [{"role": "user", "content": question.prompt}],
                **({"stream": True} if question.stream else {}),
                **question.extra,
            },
            ensure_ascii=False,
        ).encode()
        headers = {"authorization": f"Bearer {question.key}"} if question.key else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **question.headers}.items())
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        )
        return head.encode() + body

    def _judge(self, outcome: Outcome, body: bytes, framed: bool) -> None:
        expected = self._expected(outcome.question.prompt)
        if outcome.status == 0:
            outcome.detail = outcome.detail or "closed without an answer"
        elif outcome.status != 200:
            _judge_error(outcome, body, framed)
        elif outcome.headers.get("content-type", "").startswith("text/event-stream"):
            _judge_stream(outcome, body, framed, expected)
        elif not framed:
            outcome.detail = "the body was cut"
        else:
            _judge_unary(outcome, body, expected)


def _judge_error(outcome: Outcome, body: bytes, framed: bool) -> None:
    try:
        error = json.loads(body)["error"]
        outcome.detail = f"{outcome.status} {error.get('code')}: {error['message']}"[:200]
        outcome.verdict = "refused" if outcome.status in (429, 503) else "told"
    except (ValueError, KeyError, TypeError):
        outcome.verdict = "wrong" if framed else "lost"
        outcome.detail = f"{outcome.status} without an error: {body[:120]!r}"


def _judge_unary(outcome: Outcome, body: bytes, expected: str) -> None:
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError):
        outcome.verdict, outcome.detail = "wrong", f"200 without an answer: {body[:120]!r}"
        return
    outcome.verdict = "right" if text == expected else "wrong"
    if text != expected:
        outcome.detail = f"other text: {text[:60]!r} … {text[-60:]!r}"


def _judge_stream(outcome: Outcome, body: bytes, framed: bool, expected: str) -> None:
    text, finish, done, error = "", "", False, None
    for block in body.decode("utf-8", "replace").split("\n\n"):
        if not block.startswith("data: "):
            continue
        if block == "data: [DONE]":
            done = True
            continue
        try:
            event = json.loads(block[6:])
        except ValueError:
            outcome.verdict, outcome.detail = "wrong", f"an unreadable event: {block[:120]!r}"
            return
        if error is not None or done:
            outcome.verdict, outcome.detail = "wrong", "an event after the end"
            return
        error = event.get("error")
        for choice in event.get("choices") or ():
            text += choice.get("delta", {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    if error is not None:
        outcome.detail = f"{error.get('code')}: {error.get('message')}"[:200]
        outcome.verdict = "told" if expected.startswith(text) and not done else "wrong"
    elif done and framed:
        outcome.verdict = "right" if text == expected and finish else "wrong"
        if outcome.verdict == "wrong":
            outcome.detail = f"a stream shown as whole with {len(text)} of {len(expected)} characters, {finish!r}"
    else:
        outcome.verdict = "lost" if expected.startswith(text) else "wrong"
        outcome.detail = "the stream ended without [DONE] and without an error"
