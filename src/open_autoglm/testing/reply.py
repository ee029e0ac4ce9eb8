"""A request that reached a scripted upstream, and the answer that a behaviour gives to it.

A behaviour is a generator: it acts on a `Reply` and yields the seconds to wait before it goes on, `FOREVER` for
never. It needs no task and no clock of its own, so it runs on a real event loop and on a simulated one alike. It is
closed when the peer leaves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from open_autoglm.testing.speech import TOKENS, read_question, rest_of

FOREVER: Final = math.inf
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Steps = Iterator[float]
Behaviour = Callable[["Reply"], Steps]

_REASONS: Final = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error"}
_JSON: Final = "application/json"


class Asked:
    """A request, and what became of it.

    Attributes:
        upstream: name of the upstream that it reached.
        path: without the query.
        headers: names in lower case.
        body: decoded; empty when it was no JSON object.
        question, said: what is asked, and the beginning of the answer that the request carries.
        arrived_s: seconds of the loop's clock, as those that follow.
        done_s: when the answer was given as far as the behaviour goes; 0.0 before.
        left_s: when the peer left before that; 0.0 otherwise.
        sent_tokens: of the answer.
    """

    __slots__ = (
        "arrived_s",
        "body",
        "done_s",
        "headers",
        "left_s",
        "path",
        "question",
        "said",
        "sent_tokens",
        "upstream",
    )

    def __init__(self, upstream: str, path: str, headers: dict[str, str], body: dict[str, Any], now_s: float) -> None:
        self.upstream = upstream
        self.path = path
        self.headers = headers
        self.body = body
        self.question, self.said = read_question(body)
        self.arrived_s = now_s
        self.done_s = self.left_s = 0.0
        self.sent_tokens = 0

    @property
    def stream(self) -> bool:
        """Whether the answer is wanted in pieces."""
        return bool(self.body.get("stream"))

    @property
    def model(self) -> str:
        """Who is asked."""
        return str(self.body.get("model", ""))

    @property
    def attempt(self) -> int:
        """The number that the gateway gave to the attempt, from 0; -1 when it gave none."""
        number = self.headers.get("x-mcp-attempt", "")
        return int(number) if number.isdigit() else -1

    @property
    def running(self) -> bool:
        """Whether it is still being answered."""
        return not self.done_s and not self.left_s


class Line(Protocol):
    """The connection that a reply goes out on."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """Close it once what was written is sent."""

    def reset(self) -> None:
        """Close it at once, with RST where the network has it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an upstream answers whatever it is asked.

    Attributes:
        pace_s: seconds between two tokens, and before a unary answer.
        prompt_tokens: that it counts for every prompt.
        model: that it says it is; the one that was asked for when empty.
    """

    pace_s: float = 0.002
    prompt_tokens: int = 10
    model: str = ""


class Reply:
    """What behaviours act on; see the module.

    Args:
        asked: the request.
        line: where the answer goes.
        manner: of the upstream.

    Attributes:
        pace_s: seconds between two tokens.
        tokens: what is to be said: the answer, less the beginning that the request carries.
        finish: the finish reason.
    """

    def __init__(self, asked: Asked, line: Line, manner: Manner) -> None:
        self.asked = asked
        self.line = line
        self.manner = manner
        self.pace_s = manner.pace_s
        most = asked.body.get("max_tokens") or asked.body.get("max_completion_tokens")
        self.tokens: list[str] = list(rest_of(asked.question, asked.said, TOKENS))
        self.finish = "stop"
        if isinstance(most, int) and most < len(self.tokens):
            self.tokens = self.tokens[:most]
            self.finish = "length"

    # Whole answers.

    def send(
        self,
        status: int,
        body: bytes,
        *,
        kind: str = _JSON,
        length: int | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        """Give an answer in one piece.

        Args:
            status: of HTTP.
            body: its bytes.
            kind: its content type.
            length: the content length that is told, when it is not to be the true one.
            headers: others.
        """
        told = len(body) if length is None else length
        self.line.write(_head(status, kind, f"content-length: {told}", headers) + body)

    def refuse(self, status: int, message: str, code: str = "", retry_after_s: float | None = None) -> None:
        """Give an error as OpenAI's API writes it."""
        kind = "invalid_request_error" if status < 429 else "server_error"
        error = {"message": message, "type": kind, "param": None, "code": code or None}
        headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"}
        self.send(status, _encode({"error": error}), headers=headers)

    def whole(self) -> None:
        """Give the unary answer."""
        self.asked.sent_tokens = len(self.tokens)
        self.send(200, self.body())

    def body(self) -> bytes:
        """Return the body of the unary answer."""
        text = "".join(self.tokens)
        if self.asked.path.endswith("/generate"):
            return _encode({"text": text})
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.finish}
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return _encode(self._frame("") | {"choices": [choice], "usage": self.usage(len(self.tokens))})

    # Streams.

    def begin(self) -> None:
        """Send the head of a stream, and in a conversation the role."""
        self.raw_head()
        if self._is_chat:
            self.event(self.piece({"role": "assistant", "content": ""}))

    def raw_head(self) -> None:
        """Send the head of a stream alone."""
        self.line.write(_head(200, "text/event-stream", "transfer-encoding: chunked", NO_HEADERS))

    def say(self, start: int = 0, stop: int | None = None) -> Steps:
        """Send tokens, one event each, at the upstream's pace.

        Args:
            start, stop: which of `tokens`, as in a slice.
        """
        for token in self.tokens[start:stop]:
            self.event(self.piece({"content": token}))
            self.asked.sent_tokens += 1
            yield self.pace_s

    def piece(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        """Return one event of a stream."""
        if self.asked.path.endswith("/generate"):
            return {"text": delta.get("content", "")}
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self._is_chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        return self._frame(".chunk") | {"choices": [choice]}

    def event(self, value: dict[str, Any]) -> None:
        """Send an event. Where it holds letters that are not ASCII, one of them is cut between two chunks."""
        self.raw(*_cut(b"data: " + _encode(value) + b"\n\n"))

    def raw(self, *parts: bytes) -> None:
        """Send bytes of a stream, each part as a chunk of its own."""
        self.line.write(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part))

    def end(self, done: bool = True) -> None:
        """Send the finish reason, the usage where it is asked for, `[DONE]` unless told not to, and the last chunk."""
        if not self.asked.path.endswith("/generate"):
            self.event(self.piece({}, self.finish))
            options = self.asked.body.get("stream_options")
            if isinstance(options, dict) and options.get("include_usage"):
                self.event(self._frame(".chunk") | {"choices": [], "usage": self.usage(self.asked.sent_tokens)})
        if done:
            self.raw(b"data: [DONE]\n\n")
        self.line.write(b"0\r\n\r\n")

    def usage(self, tokens: int) -> dict[str, int]:
        """Return the usage of an answer of so many tokens."""
        return {
            "prompt_tokens": self.manner.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.manner.prompt_tokens + tokens,
        }

    # Ends that are none.

    def close(self) -> None:
        """Close the connection in order."""
        self.line.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        self.line.reset()

    @property
    def _is_chat(self) -> bool:
        return self.asked.path.endswith("/chat/completions")

    def _frame(self, kind: str) -> dict[str, Any]:
        object_ = f"chat.completion{kind}" if self._is_chat else "text_completion"
        model = self.manner.model or self.asked.model
        return {"id": "cmpl-scripted", "object": object_, "created": 1_700_000_000, "model": model}


def _head(status: int, kind: str, framing: str, headers: Mapping[str, str]) -> bytes:
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    reason = _REASONS.get(status, "Scripted")
    return f"HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\n{framing}\r\n{''.join(lines)}\r\n".encode()


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Cut inside the first letter that takes several bytes."""
    place = next((at + 1 for at, byte in enumerate(data) if byte >= 0x80), len(data))
    return data[:place], data[place:]


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
