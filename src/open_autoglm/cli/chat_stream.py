"""One streamed chat completion as the pieces that a reader sees.

Invariant: a stream ends with exactly one `Finished` or one `Failed`, and only a stream that said it was complete
(`[DONE]`, or a finish reason) ends with `Finished`: an error inside it, or its breaking off, is never taken for an end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from open_autoglm.cli.failure import CommandFailed
from open_autoglm.cli.http_call import Target, error_message, open_call
from open_autoglm.dialects.sse import EventReader

_READ_BYTES = 64 * 2**10
_ERROR_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Text:
    """Part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Part of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer is not whole; `message` says why."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole.

    Attributes:
        reason: `stop`, `length`, …; empty when it was not told.
        prompt_tokens, completion_tokens: None when they were not told.
    """

    reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


Piece = Text | Reasoning | Failed | Finished


def stream_chat(target: Target, request: dict[str, Any], timeout_s: float) -> Iterator[Piece]:
    """Ask for a chat completion and yield its pieces as they arrive. Closing the iterator closes the connection.

    Args:
        target: the data listener.
        request: body of the request; `stream` is set here.
        timeout_s: longest wait for the connection, and between two pieces.
    """
    body = {**request, "stream": True, "stream_options": {"include_usage": True}}
    try:
        with open_call(target, "POST", "/v1/chat/completions", body, timeout_s=timeout_s) as response:
            kind = response.headers.get_content_type()
            if response.status == 200 and kind == "text/event-stream":
                yield from read_pieces(iter(lambda: response.read1(_READ_BYTES), b""))
            else:
                yield Failed(refusal_message(response.status, response.read(_ERROR_BYTES_MAX)))
    except CommandFailed as error:
        yield Failed(error.message)


def read_pieces(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Read a stream of server-sent events, cut anywhere, also inside a character.

    Args:
        chunks: the bytes as they arrive.
    """
    finished: Finished | None = None
    for data in _events(chunks):
        if isinstance(data, Failed):
            yield data
            return
        if data == b"[DONE]":
            yield finished or Finished("")
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            yield Failed(f"the stream holds an event that is no JSON: {data[:80]!r}")
            return
        if not isinstance(chunk, dict):
            continue
        if chunk.get("error"):
            yield Failed(error_message(chunk) or "the server broke the answer off")
            return
        yield from _content(chunk)
        finished = _finish(chunk, finished)
    yield finished or Failed("the stream broke off before the answer was whole")


def refusal_message(status: int, body: bytes) -> str:
    """Put an answer that is no stream into words, with what to do where that is known."""
    try:
        message = error_message(json.loads(body))
    except (ValueError, RecursionError):
        message = ""
    if status == 401:
        return f"{message or 'the server asks for a key'} (set MCP_API_KEY, or name a file with --key-file)"
    return message or f"the server answered {status} without a stream; is it the right address?"


def _events(chunks: Iterable[bytes]) -> Iterator[bytes | Failed]:
    reader = EventReader()
    for chunk in chunks:
        yield from (data for _, data in reader.feed(chunk))
        if reader.failure:
            yield Failed(reader.failure)
            return
    yield from (data for _, data in reader.end())


def _content(chunk: dict[str, Any]) -> Iterator[Piece]:
    for choice in _dicts(chunk.get("choices")):
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            continue
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str):
            yield Reasoning(reasoning)
        text = delta.get("content")
        if isinstance(text, str) and text:
            yield Text(text)


def _finish(chunk: dict[str, Any], before: Finished | None) -> Finished | None:
    """What is known of the end after one more chunk: the reason comes with the last content, the usage after it."""
    reason = next((c["finish_reason"] for c in _dicts(chunk.get("choices")) if c.get("finish_reason")), None)
    usage = chunk.get("usage")
    if reason is None and before is None:
        return None
    known = before or Finished("")
    counts = usage if isinstance(usage, dict) else {}
    return Finished(
        str(reason) if reason is not None else known.reason,
        counts.get("prompt_tokens", known.prompt_tokens),
        counts.get("completion_tokens", known.completion_tokens),
    )


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
